"""What goes into a run and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use, evaluator and candidate each.

    Attributes:
        seconds: wall clock; then every process of the run is killed.
        cpu_seconds: processor time of a cell's processes together; ``None``: no limit but the wall clock.
        memory_mb: memory of a cell's processes together.
        processes: living processes of a cell at one time. Threads are limited by memory, and to about a thousand.
        file_mb: files of a cell together (what it shares between processes too), and each of them.
        output_kb: what is kept of the printed text; the rest is read and dropped.
    """

    seconds: float = 60.0
    cpu_seconds: float | None = None
    memory_mb: int = 2048
    processes: int = 16
    file_mb: int = 64
    output_kb: int = 256


class Ending(StrEnum):
    """How the evaluator's run ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"
    LIMIT = "limit"
    PROTOCOL = "protocol"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a run.

    Attributes:
        ending: how the evaluator's run ended; ``INFRASTRUCTURE`` is trouble of ours, never the program's.
        value: JSON data that the harness returned (NaN and infinities included); ``None`` unless ``OK``.
        why: one sentence when not ``OK``: the traceback's last line, or the limit that was hit.
        output: what evaluator and candidate printed, in this order, cut at ``output_kb``. Never read for a score.
        seconds: wall clock of the run.
        alarms: what looks like an attack, a sentence each.
    """

    ending: Ending
    value: Any
    why: str
    output: str
    seconds: float
    alarms: tuple[str, ...] = ()
