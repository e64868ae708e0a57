"""Where a judged candidate goes: which cell, whether it becomes the best, who hears of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from upwright.evolution import elites
from upwright.evolution.archive import Archive, Placed, Run, Waiting
from upwright.evolution.elites import Estimate, Rule
from upwright.evolution.grid import Axis, cell_of
from upwright.evolution.history import lately
from upwright.evolution.novelty import Marks
from upwright.evolution.parents import LATELY, Standing, ancestors

MIGRATE = 25
"""Candidates of an island after which its best is shown to the next one."""
OVER_PARENT = 0.1
"""What a gain over the parent counts for a proposer, beside one over the best."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a candidate.

    Attributes:
        wants: runs that it is to have; where those are more than it has, nothing else is decided.
        gain: for the proposer's account.
    """

    wants: int
    runs: tuple[Run, ...] = ()
    estimate: Estimate | None = None
    best: bool = False
    tested: bool = False
    cell: str = ""
    alarms: tuple[str, ...] = ()
    gain: float = 0.0


class Placing:
    """Places candidates one after the other.

    Args:
        first: marks of the program that the search begins with.

    Attributes:
        best: estimate of the best candidate's score; ``number``: which one it is.
    """

    def __init__(self, archive: Archive, axes: Sequence[Axis], first: Marks, rule: Rule, islands: int) -> None:
        self._archive, self._axes, self._first, self._rule, self._islands = archive, axes, first, rule, islands
        self._standing = Standing(lately(archive, LATELY))
        self._tests = int(archive.fact("tests") or 0)
        self.best: Estimate | None = None
        self.number = archive.best
        if self.number is not None:
            self.best = archive.estimate(self.number)

    def decide(self, one: Waiting, runs: Sequence[Run]) -> Decision:
        """What to do with a candidate that was measured so often; changes nothing."""
        alarms = tuple(dict.fromkeys(alarm for run in runs for alarm in run.alarms))
        if alarms:  # what looks like an attack has no score
            return Decision(1, tuple(runs), alarms=alarms)
        cell = cell_of(self._axes, one.marks, runs[0].metrics, self._first)
        holder = self._archive.holder(one.island, cell)
        occupant = holder[0] if holder else -math.inf
        verdict = elites.judge([run.score for run in runs], self.best, occupant, self._tests, self._rule)
        estimate = verdict.estimate if verdict.runs <= len(runs) else None
        gain = self._gain(one, estimate, verdict.best) if estimate else 0.0
        return Decision(verdict.runs, tuple(runs), estimate, verdict.best, verdict.tested, cell, gain=gain)

    def _gain(self, one: Waiting, estimate: Estimate, best: bool) -> float:
        """What a proposer is credited with: gain over the best, and a little for gain over the parent; nothing for luck."""
        gain = 0.0
        if best and self.best is not None:
            gain = estimate.mean - self.best.mean
        before = self._archive.estimate(one.parents[0]) if one.parents else None
        if before is not None and (self._rule.exact or estimate.runs > 1):
            gain += OVER_PARENT * max(0.0, estimate.mean - before.mean)
        return gain

    def place(self, one: Waiting, decision: Decision) -> Placed:
        """Write it down; within a transaction of the archive."""
        archive, estimate, runs = self._archive, decision.estimate, decision.runs
        number, island = one.number, one.island
        kind, why = self._failure(decision)
        counted = runs[-estimate.runs :] if estimate is not None else runs[:1]
        holds: dict[tuple[int, str], int] = {}
        if estimate is not None:
            holder = archive.holder(island, decision.cell)
            if holder is None or estimate.mean > holder[0]:
                holds[island, decision.cell] = number
        placed = Placed(
            score=estimate.mean if estimate else None,
            squares=estimate.squares if estimate else 0.0,
            runs=estimate.runs if estimate else len(runs),
            metrics=_mean([run.metrics for run in counted]),
            artifacts=runs[0].artifacts,
            kind=kind,
            why=why,
            alarms=decision.alarms,
            cell=decision.cell if estimate else "",
            seconds=sum(run.seconds for run in runs),
            rank=self._standing.add(estimate.mean if estimate else None),
            clade=tuple(ancestors(number, archive.parents)),
            holds=holds,
            best=decision.best,
        )
        archive.place(number, placed)
        if decision.best:
            self.best, self.number = estimate, number
        if decision.tested:
            self._tests += 1
            archive.write(tests=self._tests)
        if archive.placed % (MIGRATE * self._islands) == 0:
            self._migrate()
        return placed

    def _migrate(self) -> None:
        """The best of each island is shown to the next one, in the cell where it belongs."""
        for island in range(self._islands if self._islands > 1 else 0):
            top = self._archive.top(island)
            if top is None:
                continue
            score, number, cell = top
            there = (island + 1) % self._islands
            holder = self._archive.holder(there, cell)
            if holder is None or score > holder[0]:
                self._archive.hold(there, cell, score, number)

    @staticmethod
    def _failure(decision: Decision) -> tuple[str, str]:
        """Kind and reason where there is no score."""
        if decision.alarms:
            return "alarm", f"this looks like an attack: {decision.alarms[0]}"
        if decision.estimate is not None:
            return "", ""
        run = decision.runs[0]
        kind = run.failure or "failure"
        return kind, run.artifacts.get("why") or kind


def _mean(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric that all of them have."""
    return {name: fmean(table[name] for table in tables) for name in tables[0] if all(name in one for one in tables)}
