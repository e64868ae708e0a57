"""Pass rates per skill and per difficulty, with Wilson intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

from upwright.records import Interval, Outcome


@dataclass(frozen=True, slots=True)
class SkillRow:
    """One line of the skills table.

    Attributes:
        difficulty: ``None`` for the whole skill.
        tasks: tasks with a score.
        failures: tasks without one; they are in no rate.
        rate: mean score in [0, 1] (the pass rate where scores are 0 or 1); higher is better.
        interval: Wilson interval of ``rate``.
        lost: sum of ``1 − score`` over the row, in tasks.
    """

    skill: str
    difficulty: int | None
    tasks: int
    failures: int
    rate: float
    interval: Interval
    lost: float


def wilson(passed: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, without continuity correction.

    Args:
        passed: successes, or a sum of scores in [0, 1]. For scores between 0 and 1 the interval is
            conservative, since no such scores vary more than zeros and ones of the same mean.
        n: trials; 0 gives [0, 1].

    Source: Wilson 1927; Newcombe 1998, method 3.
    """
    if n == 0:
        return Interval(0.0, 1.0, level)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = passed / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if passed == 0 else max(0.0, middle - half)
    high = 1.0 if passed == n else min(1.0, middle + half)
    return Interval(low, high, level)


def row(skill: str, difficulty: int | None, outcomes: Iterable[Outcome], level: float = 0.95) -> SkillRow:
    """One line of the table from the outcomes that belong to it."""
    every = list(outcomes)
    scores = [o.score for o in every if o.score is not None]
    n, total = len(scores), math.fsum(scores)
    rate = total / n if n else 0.0
    return SkillRow(skill, difficulty, n, len(every) - n, rate, wilson(total, n, level), n - total)


def table(outcomes: Iterable[Outcome], level: float = 0.95) -> tuple[SkillRow, ...]:
    """Every skill as a whole, then each of its difficulties; skills and difficulties sorted."""
    groups: dict[str, dict[int, list[Outcome]]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.skill, {}).setdefault(outcome.difficulty, []).append(outcome)
    rows = []
    for skill in sorted(groups):
        by_difficulty = groups[skill]
        rows.append(row(skill, None, [o for some in by_difficulty.values() for o in some], level))
        rows.extend(row(skill, d, by_difficulty[d], level) for d in sorted(by_difficulty))
    return tuple(rows)
