"""Where long work for an agent is done while it waits: one piece at a time, on an engine that stays warm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from upwright.agents.change import Offer
from upwright.agents.fates import Fate
from upwright.agents.hearing import tell
from upwright.agents.outlook import Outlook, ask
from upwright.engines import make_engine
from upwright.engines.base import Engine
from upwright.errors import ProjectError, Stopped
from upwright.events import Event
from upwright.founding import translated
from upwright.project import Project


@dataclass(slots=True)
class Work:
    """One piece of work under way or done.

    Attributes:
        news: how often there was news; ``said``: the last of it, one line.
    """

    result: Future[Any]
    news: int = 0
    said: str = "starting"
    done: float = 0.0


@dataclass(slots=True)
class Desk:
    """Works for one project; close it.

    Attributes:
        round: the change that is being judged, or was last.
    """

    project: Project
    round: Work | None = None
    _engine: Engine | None = None
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "upwright-desk"))
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def busy(self) -> bool:
        """Whether a change is being judged."""
        return self.round is not None and not self.round.result.done()

    def look(self) -> Outlook:
        """What is known now; runs nothing."""
        with translated():
            return ask(self.project, look_only=True)

    def ask(self) -> Work:
        """Find out what is not known yet, unless a change is being judged: then only what is known."""
        if self.busy:
            known: Future[Outlook] = Future()
            known.set_result(self.look())
            return Work(known)
        return self._begin(lambda work: ask(self.project, engine=self._warm(), on_event=self._listener(work)))

    def tell(self, offer: Offer) -> Work:
        """Have a change judged.

        Raises:
            ProjectError: another one is being judged.
        """
        if self.busy:
            raise ProjectError("another change is being judged", todo="read_verdict waits for it")

        def judge(work: Work) -> Fate:
            return tell(self.project, offer, engine=self._warm(), on_event=self._listener(work))

        self.round = self._begin(judge)
        return self.round

    def close(self) -> None:
        """Stop what is under way (nothing committed is lost) and end the workers."""
        self._stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._engine is not None:
            self._engine.close()

    def _begin(self, action: Callable[[Work], Any]) -> Work:
        work = Work(Future())

        def run() -> None:
            try:
                with translated():
                    work.result.set_result(action(work))
            except BaseException as error:
                work.result.set_exception(error)

        self._threads.submit(run)
        return work

    def _warm(self) -> Engine:
        if self._engine is None:
            self._engine = make_engine(self.project.settings.engine, self.project.logs)
        return self._engine

    def _listener(self, work: Work) -> Callable[[Event], None]:
        def heard(event: Event) -> None:
            if self._stop.is_set():
                raise Stopped("the agent has gone", todo="tell the same again to go on")
            count = f" {event.done}/{event.total}" if event.total > 1 else ""
            work.news += 1
            work.said = f"{event.verb}{count} {event.note}".strip()

        return heard
