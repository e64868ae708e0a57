"""A driver of a run in a process of its own that dies, or is interrupted, at a chosen place."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import runs
from upwright.loop import Loop
from upwright.project import Journal

KILL, INTERRUPT = signal.SIGKILL, signal.SIGINT
Trap = Callable[[pytest.MonkeyPatch], None]


def fork(action: Callable[[], object], log: Path) -> int:
    """Run ``action`` in a child process; its exit code, or minus the signal that ended it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with log.open("ab", buffering=0) as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            action()
            code = 0
        except SystemExit as end:
            code = int(str(end.code or 0))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def coached(patch: pytest.MonkeyPatch, trap: Trap | None = None) -> None:
    """Install the coach as a lever of its own name, and a trap."""
    patch.setattr("upwright.levers.BUILT_IN", {"coach": "tests_coach:make"})
    module = type(sys)("tests_coach")
    module.make = lambda: runs.Coach(runs.script())  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "tests_coach", module)
    if trap is not None:
        trap(patch)


def strike(number: int) -> None:
    """Send this process a signal."""
    os.kill(os.getpid(), number)


def before_its_row(verb: str, number: int, nth: int = 1) -> Trap:
    """The signal comes when ``verb`` is done for the ``nth`` time and its row is about to be written."""
    return _at_row(verb, number, nth, after=False)


def with_its_row(verb: str, number: int, nth: int = 1) -> Trap:
    """The signal comes when the row of ``verb`` was just written for the ``nth`` time."""
    return _at_row(verb, number, nth, after=True)


def _at_row(verb: str, number: int, nth: int, after: bool) -> Trap:
    def trap(patch: pytest.MonkeyPatch) -> None:
        write, left = Journal.write, [nth]

        def trapped(self: Journal, name: str, round_: int, data: dict[str, object], **how: bool) -> None:
            left[0] -= name == verb
            struck = name == verb and left[0] == 0
            if struck and not after:
                strike(number)
            write(self, name, round_, data, **how)
            if struck and after:
                strike(number)

        patch.setattr(Journal, "write", trapped)

    return trap


def somewhere_in(verb: str, number: int, seconds: float, nth: int = 1) -> Trap:
    """The signal comes ``seconds`` after ``verb`` was begun for the ``nth`` time, if it still runs then."""

    def trap(patch: pytest.MonkeyPatch) -> None:
        inner, left = getattr(Loop, verb), [nth]

        def trapped(self: Loop, *args: object) -> object:
            left[0] -= 1
            if left[0]:
                return inner(self, *args)
            over = threading.Event()

            def wait() -> None:
                end = time.perf_counter() + seconds
                while time.perf_counter() < end and not over.is_set():
                    time.sleep(0.0002)
                if not over.is_set():
                    strike(number)

            threading.Thread(target=wait, daemon=True).start()
            try:
                return inner(self, *args)
            finally:
                over.set()

        patch.setattr(Loop, verb, trapped)

    return trap
