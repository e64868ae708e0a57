"""What a person sees while a program evolves: on a terminal the loop's live view, else the searches and what became of them, a line each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from upwright.cli.display import PLAIN_EVERY, Display

if TYPE_CHECKING:
    from rich.console import Console

    from upwright.lines import CandidateLine
    from upwright.loop import Event
    from upwright.project import Project


RUNS = "answering"
"""What the loop notes while a body answers: for a program, while it is run."""


class Telling(Display):
    """The display of ``upwright evolve``: searches, tests and verdicts, in the evaluator's own numbers.

    Args:
        project: whose lineage is shown beside the events.
    """

    def __init__(self, project: Project, console: Console) -> None:
        super().__init__(project, console)
        self._said, self._said_at = "", time.monotonic()

    def _say(self, event: Event, closed: bool) -> None:
        text = self._told(event)
        now = time.monotonic()
        counts = event.note == RUNS or (event.verb == "build" and event.done < event.total)
        waits = counts and now - self._said_at < PLAIN_EVERY
        if text and text != self._said and not waits:
            self._said, self._said_at = text, now
            self.console.print(text, soft_wrap=True)
        done = self._finished()
        if closed and done and done[-1].round == event.round:
            self.console.print(f"  {verdict(done[-1])}", soft_wrap=True)

    def _told(self, event: Event) -> str:
        """An event in a line; empty for those that tell a person nothing."""
        if event.verb == "propose":
            return f"search {event.round}: {event.note}"
        if event.note == RUNS:
            where = {"prove": "to test it", "build": "to compare it"}.get(event.verb, "of the champion on practice")
            return f"  {event.done} of {event.total} runs {where}" if event.total > 1 else ""
        if event.verb == "prove" or (event.verb == "build" and event.total > 1):
            return f"  {event.note}".rstrip()
        if event.note.startswith("ended: "):
            return "ended: as many candidates as asked" if event.note.endswith("candidates, as asked") else event.note
        return ""


def verdict(c: CandidateLine) -> str:
    """What became of a search's best candidate."""
    if c.decision is None:
        return f"not tested: {c.why}"
    metric = f"{c.metrics[0].told}: " if c.metrics else ""
    return f"{metric}{c.decision}; {c.why}"
