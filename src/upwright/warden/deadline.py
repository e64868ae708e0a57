"""A time limit on foreign code: patterns, scorers, generators."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from upwright.warden.errors import GraderError


@contextmanager
def deadline(seconds: float, what: str) -> Iterator[None]:
    """Raise :class:`GraderError` when the body takes longer than ``seconds``.

    Works on the main thread (``SIGALRM``; regular expressions check for signals while they
    match). On any other thread there is no limit. A time limit that was already running is put back without
    the time that passed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expired(signum: int, frame: FrameType | None) -> None:
        raise GraderError(f"{what} took longer than {seconds:g} s", todo="make it simpler")

    before = signal.signal(signal.SIGALRM, expired)
    outer = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)
