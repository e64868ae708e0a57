"""One run, from the pool's side: begin in both cells, watch, end, gather."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from upwright.warden.isolation.cells import KILL_SECONDS, Cell
from upwright.warden.isolation.records import Ending, Limits, Ran

MOST_RESULT = 17 << 20
MOST_ALARMS = 8192
DROPPED = 64 << 20
"""Bytes of printed text that are read and dropped before a run is ended for it."""


@dataclass(slots=True)
class _End:
    ending: Ending
    why: str = ""
    value: Any = None


@dataclass(slots=True)
class _Side:
    """What is read from one cell."""

    cell: Cell
    output: int = -1
    ready: int = -1
    result: int = -1
    alarms: int = -1
    printed: bytearray = field(default_factory=bytearray)
    said: bytearray = field(default_factory=bytearray)
    tripped: bytearray = field(default_factory=bytearray)
    dropped: int = 0
    is_ready: bool = False


class Run:
    """A run under way.

    Args:
        cells: ``evaluator`` and ``candidate``, or ``both``.
        marks: planted credentials, looked for in what comes out.
    """

    def __init__(self, cells: Mapping[str, Cell], limits: Limits, marks: tuple[str, ...]) -> None:
        self.cells = cells
        self.limits, self.marks = limits, marks
        self.sides: dict[str, _Side] = {}
        self.alarms: dict[str, None] = {}
        self.end: _End | None = None
        self.poll = select.poll()
        self.reads: dict[int, Callable[[], None]] = {}
        self.began = time.monotonic()

    @property
    def ready(self) -> bool:
        """Whether code of the candidate may have run."""
        return any(side.is_ready for role, side in self.sides.items() if role != "evaluator")

    def go(self, orders: Mapping[str, dict[str, Any]], listener: int) -> Ran:
        """Run to the end. ``orders``: for each cell; ``listener``: the candidate's end of the socket, -1 in one cell."""
        try:
            try:
                for role, order in orders.items():
                    self._begin(role, order, listener)
                self._watch()
            except (OSError, EOFError) as error:
                self.end = _End(Ending.INFRASTRUCTURE, f"a cell is gone: {error}")
            self._stop()
            return self._gather()
        finally:
            for side in self.sides.values():
                for fd in {side.output, side.ready, side.result, side.alarms} - {-1}:
                    os.close(fd)

    def _begin(self, role: str, order: dict[str, Any], listener: int) -> None:
        side, writes = _Side(self.cells[role]), []
        self.sides[role] = side
        wanted = (
            "output",
            "ready",
            *(() if role == "candidate" else ("result",)),
            *(() if role == "evaluator" else ("alarms",)),
        )
        try:
            for name in wanted:
                fd, write = os.pipe()
                setattr(side, name, fd)
                writes.append(write)
            side.cell.order(order, [*writes, listener] if role == "candidate" else writes)
        finally:
            for fd in writes:
                os.close(fd)
        self._on(side.output, lambda: self._read_output(side))
        self._on(side.ready, lambda: self._read_ready(side, role))
        self._on(side.result, lambda: self._read_result(side))
        self._on(side.alarms, lambda: self._read_alarms(side))
        self._on(side.cell.link, lambda: self._read_cell(side, role))

    def _on(self, fd: int, read: Callable[[], None]) -> None:
        if fd < 0:
            return
        self.poll.register(fd, select.POLLIN)
        self.reads[fd] = read

    def _off(self, fd: int) -> None:
        self.poll.unregister(fd)
        del self.reads[fd]

    def _watch(self) -> None:
        until = self.began + self.limits.seconds
        while self.end is None:
            left = until - time.monotonic()
            if left <= 0:
                self.end = _End(Ending.TIMEOUT, f"not done after {self.limits.seconds:g} s")
                break
            for fd, _ in self.poll.poll(left * 1000 + 1):
                if fd in self.reads:
                    self.reads[fd]()

    def _read_output(self, side: _Side) -> None:
        data = os.read(side.output, 65536)
        if not data:
            self._off(side.output)
            return
        room = self.limits.output_kb * 1024 - len(side.printed)
        side.printed += data[: max(0, room)]
        side.dropped += max(0, len(data) - max(0, room))
        if side.dropped > DROPPED:
            self.end = self.end or _End(Ending.LIMIT, f"printed more than {DROPPED >> 20} MB")

    def _read_ready(self, side: _Side, role: str) -> None:
        data = os.read(side.ready, 4096)
        self._off(side.ready)
        side.is_ready = data == b"R"
        if not side.is_ready:
            why = data.decode(errors="replace") or "its process ended"
            self.end = _End(Ending.INFRASTRUCTURE, f"the {role}'s cell could not be prepared: {why}")

    def _read_result(self, side: _Side) -> None:
        data = os.read(side.result, 1 << 20)
        if not data:
            self._off(side.result)
            return
        said = side.said
        said += data
        if len(said) > MOST_RESULT:
            self.end = _End(Ending.PROTOCOL, "the evaluator's process returned too much")
        elif len(said) >= 8:
            head, value = int.from_bytes(said[:4], "big"), int.from_bytes(said[4:8], "big")
            if len(said) >= 8 + head + value:
                self.end = _result(bytes(said[8 : 8 + head]), bytes(said[8 + head : 8 + head + value]), self._alarm)

    def _read_alarms(self, side: _Side) -> None:
        data = os.read(side.alarms, 4096)
        if not data or len(side.tripped) > MOST_ALARMS:
            self._off(side.alarms)
        side.tripped += data

    def _alarm(self, text: str) -> None:
        self.alarms.setdefault(text)

    def _read_cell(self, side: _Side, role: str) -> None:
        told, _ = side.cell.read(0)
        for text in told.get("alarms", ()):
            self._alarm(str(text))
        if told.get("limit"):
            self.end = self.end or _over(told["limit"], role, self.limits)
        elif "ended" in told and role != "candidate":
            self._ended(side, told["status"])
        elif "ended" in told and not side.is_ready:
            self._read_ready(side, role)

    def _ended(self, side: _Side, status: int) -> None:
        """The evaluator's process is gone; what it wrote before may still be in the pipe."""
        while side.result in self.reads and self.end is None:
            self._read_result(side)
        if not side.is_ready and side.ready in self.reads:
            self._read_ready(side, "evaluator")
        self.end = self.end or _by_status(status, self.limits)

    def _stop(self) -> None:
        """Kill both cells' runs, hear their last alarms; after anything but success, wait until no process is left."""
        assert self.end is not None
        for side in self.sides.values():
            with contextlib.suppress(OSError):  # told below
                side.cell.kill()
        for role, side in self.sides.items():
            try:
                self._hear_out(role, side.cell)
            except (OSError, EOFError) as error:
                side.cell.close()
                if self.end.ending not in (Ending.OK, Ending.TIMEOUT) and not isinstance(error, TimeoutError):
                    self.end = _End(Ending.INFRASTRUCTURE, f"a cell is gone: {error}")

    def _hear_out(self, role: str, cell: Cell) -> None:
        """Until the cell's run was killed or, where that matters, is gone."""
        assert self.end is not None
        heard, until = False, time.monotonic() + KILL_SECONDS
        while cell.pending and not (heard and self.end.ending is Ending.OK):
            told, _ = cell.read(until - time.monotonic())
            heard = heard or "group" not in told
            if told.get("limit") and self.end.ending is not Ending.TIMEOUT:
                self.end = _over(told["limit"], role, self.limits)  # passed in the last moment, but passed
            for text in told.get("alarms", ()):
                self._alarm(str(text))

    def _gather(self) -> Ran:
        assert self.end is not None
        seconds = time.monotonic() - self.began
        for side in self.sides.values():
            for fd in {side.output, side.alarms} & self.reads.keys():
                os.set_blocking(fd, False)
                with contextlib.suppress(BlockingIOError):
                    while fd in self.reads and side.dropped <= DROPPED:
                        self.reads[fd]()
            for line in side.tripped.decode(errors="replace").splitlines()[:20]:
                self._alarm(line)
        sides = [self.sides[role] for role in sorted(self.sides, reverse=True)]  # the evaluator's text first
        output = "".join(_text(side, self.limits) for side in sides)
        seen = output + self.end.why + (json.dumps(self.end.value) if self.end.value is not None else "")
        if any(mark in seen for mark in self.marks):
            self._alarm("a planted credential was in what was printed or returned")
        return Ran(self.end.ending, self.end.value, self.end.why, output, seconds, tuple(self.alarms))


def _text(side: _Side, limits: Limits) -> str:
    text = side.printed.decode(errors="replace")
    return text + (f"\n[cut at {limits.output_kb} kB]\n" if side.dropped else "")


def _result(head: bytes, value: bytes, alarm: Callable[[str], None]) -> _End:
    """What the evaluator's process wrote at its end."""
    try:
        told = json.loads(head)
        ending = Ending(told["ending"])
        for text in told["alarms"]:
            alarm(str(text)[:300])
        if ending in (Ending.OK, Ending.CRASH, Ending.MEMORY, Ending.PROTOCOL):
            return _End(ending, str(told.get("why", "")), json.loads(value) if ending is Ending.OK else None)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return _End(Ending.PROTOCOL, "the evaluator's process wrote what is no result")


def _over(limit: str, role: str, limits: Limits) -> _End:
    role = "program" if role == "both" else role
    if limit == "memory":
        return _End(Ending.MEMORY, f"the {role} used more than {limits.memory_mb} MB")
    if limit == "processes":
        return _End(Ending.LIMIT, f"the {role} had more than {limits.processes} processes")
    if limit == "files":
        return _End(Ending.LIMIT, f"the {role} wrote more than {limits.file_mb} MB of files, or too many")
    return _End(Ending.LIMIT, f"the {role} used more than {limits.cpu_seconds:g} s of processor time")


def _by_status(status: int, limits: Limits) -> _End:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return _End(Ending.CRASH, f"the evaluator's process left with exit code {code} before it returned")
    if -code == signal.SIGXCPU or (-code == signal.SIGKILL and limits.cpu_seconds is not None):
        return _End(Ending.LIMIT, f"more than {limits.cpu_seconds or 0:g} s of processor time")
    if -code == signal.SIGKILL:
        return _End(
            Ending.MEMORY, "the evaluator's process was killed, most likely because the machine had no memory left"
        )
    return _End(Ending.CRASH, f"the evaluator's process was ended by {signal.Signals(-code).name}")
