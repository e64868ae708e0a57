"""Suites whose metric repeats exactly: nothing random is claimed, so a gain is shown by measuring again, not by betting.

Each sealed run is a fresh process under a fresh seed. If every repeat of the child agrees bit for bit, and every repeat of the other,
the two numbers are compared, and that is all. If a repeat differs the evaluator is not exact after all: there is not enough evidence, and people are told.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

RUNS = 3
"""Runs of each body in a test."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One sealed run of child and other: metrics (``None`` for a run that failed) and scores in [0, 1]."""

    child: float | None
    other: float | None
    child_score: float
    other_score: float

    @property
    def d(self) -> float:
        """Difference of scores in [−1, 1], child minus other."""
        return self.child_score - self.other_score


@dataclass(frozen=True, slots=True)
class Exact:
    """One comparison on one exact suite.

    Attributes:
        sign: +1 where more of the metric is better, −1 where less is.
        runs: how many are made.
        margin: ``None`` for "better", else how much worse a score may be.
    """

    sign: int
    runs: int
    margin: float | None = None
    seen: tuple[Pair, ...] = ()

    def update(self, pairs: Iterable[Pair]) -> Exact:
        """The comparison after more runs."""
        return replace(self, seen=(*self.seen, *pairs))

    @property
    def n(self) -> int:
        """Runs of each."""
        return len(self.seen)

    @property
    def mean(self) -> float | None:
        """Mean difference of scores, child minus the other."""
        return math.fsum(p.d for p in self.seen) / self.n if self.seen else None

    @property
    def differs(self) -> str:
        """Which metric did not repeat, and its first two values; empty while all agree."""
        for who in ("child", "other"):
            values = [getattr(p, who) for p in self.seen]
            other = next((v for v in values if not same(v, values[0])), values[0]) if values else None
            if values and not same(values[0], other):
                return f"the {who}'s was {shown(values[0])} and {shown(other)}"
        return ""

    @property
    def held(self) -> bool:
        """Whether the claim is shown: all runs made, all agree, and the child is better (or worse by no more than the margin)."""
        if self.n < self.runs or self.differs:
            return False
        one = self.seen[0]
        if one.child is None:
            return self.margin is not None and one.other is None
        if self.margin is not None:
            return one.other is None or one.child_score >= one.other_score - self.margin
        return one.other is None or self.sign * one.child > self.sign * one.other

    @property
    def told(self) -> str:
        """The two values in words."""
        if not self.seen:
            return "no run yet"
        one = self.seen[0]
        return f"{shown(one.child)} against {shown(one.other)}, in each of {self.n} runs"

    def facts(self) -> dict[str, Any]:
        """Counts and sums under the names that other comparisons use, with an e-value of 1 (nothing was bet), and the metrics."""
        d = [p.d for p in self.seen]
        return {
            "n": self.n, "wins": sum(v > 0 for v in d), "losses": sum(v < 0 for v in d), "ties": sum(v == 0 for v in d),
            "sum": math.fsum(d), "sum_squares": math.fsum(v * v for v in d), "mean": self.mean, "margin": self.margin,
            "e_value": 1.0, "log_e": 0.0, "log_e_against": 0.0,
            "exact": {"child": [p.child for p in self.seen], "other": [p.other for p in self.seen]},
        }  # fmt: skip


def same(a: float | None, b: float | None) -> bool:
    """The same number, bit for bit, or no number both times."""
    if a is None or b is None:
        return a is b
    return struct.pack("<d", a) == struct.pack("<d", b)


def shown(metric: float | None) -> str:
    """A metric with all its digits."""
    return "no score" if metric is None else repr(float(metric))


def planned(suites: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """What a plan says of those of ``names`` that were founded as exact: suite → ``{"sign", "runs"}``."""
    found = {name: suites[name] for name in names if suites.get(name, {}).get("exact")}
    return {name: {"sign": int(pinned["sign"]), "runs": RUNS} for name, pinned in found.items()}
