"""A cell seen from the pool: a wall with a zygote in it."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from upwright.warden.isolation import post
from upwright.warden.isolation.errors import IsolationError
from upwright.warden.isolation.layout import Plan, environment
from upwright.warden.isolation.walls import Started, Wall

START_SECONDS = 120.0
KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Bait:
    """Planted credentials: files below the home folder → text, and variables."""

    files: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


class Cell:
    """Starts a wall, waits for its zygote, hands it orders.

    Args:
        role: ``evaluator``, ``candidate``, or ``both`` in one; ``harness``: what runs the evaluator.
        bait: planted credentials.

    Raises:
        IsolationError: the cell cannot be started, or one of ``imports`` cannot be imported in it.
    """

    def __init__(self, wall: Wall, plan: Plan, imports: Sequence[str], *, role: str, harness: str, bait: Bait) -> None:
        self.wall, self.number, self.pending = wall, 0, False
        try:
            self.started: Started = wall.start(plan)
        except OSError as error:
            raise IsolationError(f"a cell of {wall.name} could not be started: {error}") from error
        self.places = self.started.places
        hello = {
            "mode": wall.mode,
            "folder": self.places.folder,
            "home": self.places.home,
            "bait": dict(bait.files),
            "environment": {**environment(self.places.home, "{root}"), **bait.variables},
            "role": role,
            "harness": harness,
            "forbidden": ["/cell/evaluator", str(plan.hidden)] if role == "candidate" else [],
            "imports": list(imports),
            "readable": list(self.started.readable),
        }
        owner = os.pidfd_open(os.getpid())
        try:
            post.send(self.started.link, hello, [owner])
        except OSError:
            pass  # it is told below why the other side is gone
        finally:
            os.close(owner)

    def wait(self) -> Cell:
        """Until the zygote is warm."""
        try:
            told, fds = self.read(START_SECONDS)
        except (OSError, EOFError) as error:
            said = self.started.said()
            self.close()
            raise IsolationError(f"a cell of {self.wall.name} did not start: {said or error}") from error
        if "failed" in told:
            self.close()
            raise IsolationError(
                f"a cell of {self.wall.name} did not start: {told['failed']}",
                todo="imports: name modules that are installed beside Upwright",
            )
        self.started.zygote = fds[0]
        return self

    @property
    def link(self) -> int:
        """Descriptor of the zygote's socket."""
        return self.started.link.fileno()

    def order(self, order: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Begin a run."""
        self.settle()
        self.number, self.pending = order["number"], True
        post.send(self.started.link, {"do": "run", "order": order}, fds)

    def kill(self) -> None:
        """Ask for the end of the run; :meth:`read` tells of it."""
        if self.pending:
            post.send(self.started.link, {"do": "kill", "number": self.number})

    def read(self, seconds: float) -> tuple[dict[str, Any], list[int]]:
        """One message.

        Raises:
            TimeoutError: none came.
            EOFError, OSError: the zygote is gone.
        """
        if self.link < 0 or not select.select([self.link], [], [], max(0.0, seconds))[0]:
            raise TimeoutError("the zygote says nothing")
        told, fds = post.receive(self.started.link)
        self.started.group = told.get("group", self.started.group)
        if told.get("ended") == self.number:
            self.pending, self.started.group = False, 0
        return told, fds

    def settle(self) -> None:
        """Until the last run's processes are gone, all of them."""
        until = time.monotonic() + KILL_SECONDS
        while self.pending:
            self.read(until - time.monotonic())

    def close(self) -> None:
        """Kill whatever is in it."""
        self.started.kill()
        self.pending = False
