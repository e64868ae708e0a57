"""Cells of the archive: where a program belongs by what it is like, so that different ones are kept beside better ones.

MAP-Elites (Mouret & Clune 2015, arXiv 1504.04909) over islands: each island has a grid, and a cell keeps its best. Axes are
how long a program is and how far its structure is from the first one's, or metrics that are named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from upwright.evolution.novelty import Marks

BINS = 10
LENGTH, CHANGE = "length", "change"


@dataclass(frozen=True, slots=True)
class Axis:
    """One feature, cut into bins.

    Attributes:
        name: ``length`` (of the program relative to the first one's, in powers of √2), ``change`` (of its structure, in [0, 1]), or a metric.
        low, high: of a metric, where the first bin ends and the last begins; without them bins are powers of 2, both signs.
        bins: how many.
    """

    name: str
    low: float | None = None
    high: float | None = None
    bins: int = BINS

    def bin(self, value: float) -> int:
        """Which bin a value is in, from 0."""
        if self.name == LENGTH:
            raw = self.bins // 2 + 2 * math.log2(value) + 0.5 if value > 0 else 0.0
        elif self.low is not None and self.high is not None and self.high > self.low:
            raw = (value - self.low) / (self.high - self.low) * self.bins
        else:
            raw = self.bins // 2 + math.copysign(math.log2(1 + abs(value)), value)
        return math.floor(min(max(raw, 0.0), self.bins - 1.0))


DEFAULT = (Axis(LENGTH), Axis(CHANGE, 0.0, 1.0))


def cell_of(axes: Sequence[Axis], marks: Marks, metrics: Mapping[str, float], first: Marks) -> str:
    """The cell of a program, as text; a metric that it lacks counts as 0.

    Args:
        first: marks of the program that the search starts from.
    """
    values = {**metrics, LENGTH: marks.length / max(1, first.length), CHANGE: marks.change}
    return " ".join(str(axis.bin(values.get(axis.name, 0.0))) for axis in axes)
