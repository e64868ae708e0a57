"""What a run tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """What the loop is doing now.

    Attributes:
        generation: number of the current champion (0 is the first body).
        done, total: tasks, samples or steps of the verb at work; 0 of 0 when unknown.
        seconds: wall seconds this project has spent over all its runs.
        left: seconds left in the budget, or ``None`` without one.
    """

    round: int
    generation: int
    verb: str
    lever: str
    done: int
    total: int
    note: str
    seconds: float
    tokens: int
    left: float | None
