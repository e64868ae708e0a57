"""A search over programs without an evaluator: a program is one number, and its score how near that is to the best one.

For tests of campaigns, of the lever ``program`` and of proposers; nothing is run.
"""

from __future__ import annotations

import math
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from upwright.evolution.proposers.base import Brief
from upwright.evolution.records import Draft, Program, Result
from upwright.records import derive_seed

MAIN = "program.py"
BEST = 0.7
"""The number whose program has the highest score."""
_NUMBER = re.compile(r"^x = (\S+)$", re.MULTILINE)


def program(x: float) -> dict[str, str]:
    """The program of a number."""
    return {MAIN: f"# EVOLVE-BLOCK-START\nx = {x!r}\n# EVOLVE-BLOCK-END\nprint(x)\n"}


def number(program: Program) -> float:
    """The number of a program.

    Raises:
        ValueError: it has none.
    """
    found = _NUMBER.search(program.get(MAIN, ""))
    if found is None:
        raise ValueError("no number")
    return float(found[1])


@dataclass(frozen=True)
class FakeJudged:
    """One measurement, see :class:`~upwright.evolution.records.Judged`."""

    score: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.001
    alarms: tuple[str, ...] = ()


class FakeJudge:
    """Scores a number by its distance from :data:`BEST`; a number below −1 crashes, above 2 it hangs.

    Args:
        noise: standard deviation of what a seed adds to the score.
        flat: every program is as good as any other.

    Attributes:
        asked: (program, seed) of every judgement, in the order in which they began.
    """

    def __init__(self, noise: float = 0.0, flat: bool = False) -> None:
        self.noise, self.flat = noise, flat
        self.asked: list[tuple[Program, int]] = []
        self._lock = threading.Lock()

    def __call__(self, program: Program, seed: int) -> FakeJudged:
        """Judge once."""
        with self._lock:
            self.asked.append((program, seed))
        try:
            x = number(program)
        except ValueError as error:
            return FakeJudged(None, failure="error", artifacts={"why": f"the evaluator says: {error}"})
        if x < -1:
            return FakeJudged(None, failure="crash", artifacts={"why": f"ValueError: {x} is too small"})
        if x > 2:
            return FakeJudged(None, failure="timeout", artifacts={"why": "it took longer than 3.0 s"})
        luck = random.Random(derive_seed(seed, x)).gauss(0.0, self.noise) if self.noise else 0.0
        value = (0.0 if self.flat else -abs(x - BEST)) + luck
        return FakeJudged(0.5 + math.atan(value) / math.pi, {"combined_score": value, "x": x})


class Nudge:
    """A proposer that moves the number a little; now and then far, or out of scope, or nowhere.

    Args:
        size: of a step.
        wild: chance of each of the odd drafts.
    """

    def __init__(self, name: str = "nudge", size: float = 0.1, wild: float = 0.0, cost: float = 0.001) -> None:
        self.name, self.cost, self.size, self.wild = name, cost, size, wild
        self.heard: list[tuple[Draft, Result]] = []

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """``n`` drafts of the parent."""
        return [self._draft(brief) for _ in range(brief.n)]

    def _draft(self, brief: Brief) -> Draft:
        try:
            x = number(brief.parent.program)
        except ValueError:
            x = 0.0
        step = brief.rng.gauss(0.0, self.size)
        odd = brief.rng.random()
        if odd < self.wild:
            step = brief.rng.choice([-10.0, 10.0])
        elif odd < 2 * self.wild:
            step = 0.0
        made = program(round(x + step, 6))
        if 2 * self.wild <= odd < 3 * self.wild:
            made[MAIN] += "print('more')\n"
        return Draft(made, self.name, f"moved by {step:.3f}", (brief.parent.digest,), f"x: {x} → {x + step}")

    def told(self, draft: Draft, result: Result) -> None:
        """Keep it."""
        self.heard.append((draft, result))
