"""A search over programs without an evaluator: a program is one number, and its score how near that is to the best one.

For tests of campaigns, of the lever ``program`` and of proposers; nothing is run.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from upwright.bodies.body import Body
from upwright.evaluate import evaluate
from upwright.evolution.proposers.base import Brief
from upwright.evolution.records import Draft, Program, Result
from upwright.records import Scorecard, Task, derive_seed
from upwright.testing.levers import FakePractice, FakeWorkshop

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


class FakeTrials:
    """The evaluator of a search, around a :class:`FakeJudge`."""

    metric, workers = "combined_score", 2
    direction: Literal["max", "min"] = "max"

    def __init__(self, judge: FakeJudge | None = None, exact: bool = True) -> None:
        self.own, self.exact, self.digest, self.closed = judge or FakeJudge(), exact, "e" * 64, False

    def judge(self, program: Program, seed: int) -> FakeJudged:
        """Judge once."""
        return self.own(program, seed)

    def watch(self, program: Program, seconds: float) -> tuple[str, str]:
        """It prints its number."""
        return f"{number(program)}\n", ""

    def close(self) -> None:
        """Remember it."""
        self.closed = True


class ProgramPractice(FakePractice):
    """Practice runs: a task's answer is a seed, and a text scores what the judge says of the program that it is."""

    def __init__(self, judge: FakeJudge) -> None:
        super().__init__("programs")
        self.judge = judge

    def draw(self, n: int, seed: int) -> tuple[Task, ...]:
        """``n`` seeds."""
        seeds = [derive_seed(seed, i) for i in range(n)]
        return tuple(
            Task(f"t{s}", f"run {s:016x}"[:20], s, "combined_score", scorer={"kind": "program"}) for s in seeds
        )

    def score(self, text: str, task: Task) -> float:
        """0 where the run fails."""
        return self.judge(json.loads(text), task.answer).score or 0.0


def program_body(root: Path, x: float = 0.0, search: str = "") -> Body:
    """A body that is the program of a number."""
    (root / "program").mkdir(parents=True, exist_ok=True)
    (root / "model.toml").write_text(f'runtime = "program"\n\n[search]\n{search}')
    for path, text in program(x).items():
        (root / "program" / path).write_text(text)
    return Body(root)


class ProgramWorkshop(FakeWorkshop):
    """A workshop whose bodies are run by a :class:`FakeJudge`."""

    def __init__(self, root: Path, parent: Body, judge: FakeJudge | None = None, exact: bool = True) -> None:
        judge = judge or FakeJudge()
        super().__init__(root, parent, practice=ProgramPractice(judge), trials=FakeTrials(judge, exact))

    def evaluate(self, body: Body, tasks: Sequence[Task], seed: int) -> Scorecard:
        """Answer and score."""
        return evaluate(body, tasks, seed, self.practice)


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
