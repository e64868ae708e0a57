"""When a candidate may become the best: after measurements that did not choose it.

Where scores repeat exactly, a candidate that looks better than the best is run once more, and has to get the same score again.
Where they do not, its first score only says that it is worth a look: it is measured again on new seeds, in steps that
end as soon as it looks no better, and at last on seeds that nothing was chosen by. Only the last ones count: the mean there has to
be above the best's by a t-test whose level is the share of :data:`LEVEL` that the k-th such test may spend, 6/(π²k²), so
that over a whole search a candidate that is no better becomes the best with a chance of at most :data:`LEVEL`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a candidate's score.

    Attributes:
        mean: of the runs that count; ``squares``: their squared deviations from it, summed; ``runs``: how many.
    """

    mean: float
    squares: float = 0.0
    runs: int = 1

    @classmethod
    def of(cls, scores: Sequence[float]) -> Estimate:
        """Of scores of one candidate, at least one."""
        mean = fmean(scores)
        return cls(mean, sum((s - mean) ** 2 for s in scores), len(scores))

    @property
    def stderr(self) -> float:
        """Standard error of the mean, 0.0 for a single run."""
        return math.sqrt(self.squares / (self.runs - 1) / self.runs) if self.runs > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a candidate.

    Attributes:
        runs: how many it is to have; where that is more than it has, it is measured again before anything else.
        best: whether it becomes the best; ``tested``: whether that took a test out of :data:`LEVEL`.
        estimate: of its score, once it needs no more runs; ``None`` where it failed.
    """

    runs: int
    best: bool = False
    tested: bool = False
    estimate: Estimate | None = None


def judge(scores: Sequence[float | None], best: Estimate | None, occupant: float, tests: int, rule: Rule) -> Verdict:
    """What to do with a candidate that has these scores.

    Args:
        scores: in the order in which they were measured, ``None`` for a run that failed.
        best: of the best so far; ``None`` where there is none, for the program that the search starts from.
        occupant: score of what holds its cell, minus infinity where nothing does.
        tests: how many tests were spent before.
    """
    first = scores[0]
    if first is None:
        return Verdict(1)
    got = [0.0 if score is None else score for score in scores]  # a failure now and then is no reason to be kept
    if rule.exact:
        looks = best is None or first > best.mean
        if len(got) == 1:
            return Verdict(2) if looks else Verdict(1, estimate=Estimate(first))
        if looks and got[0] == got[1]:
            return Verdict(len(got), True, estimate=Estimate(first))
    return _noisy(got, best, occupant, tests, rule)


def _noisy(got: Sequence[float], best: Estimate | None, occupant: float, tests: int, rule: Rule) -> Verdict:
    fresh, runs = got[1:], len(got)
    if best is None:
        wanted = 1 + rule.checks
        return Verdict(wanted) if runs < wanted else Verdict(runs, True, estimate=Estimate.of(fresh))
    if got[0] <= best.mean:
        if got[0] > occupant > -math.inf and not fresh:
            return Verdict(2)
        return Verdict(runs, estimate=Estimate.of(fresh or got))
    for step in (1, max(2, rule.checks // 2)):
        if len(fresh) < step:
            return Verdict(1 + step)
        if fmean(fresh[:step]) <= best.mean:
            return Verdict(runs, estimate=Estimate.of(fresh))
    last = fresh[max(2, rule.checks // 2) :]
    if len(last) < rule.checks:
        return Verdict(runs + rule.checks - len(last))
    estimate = Estimate.of(last)
    if better(estimate, best, spent(tests + 1)):
        return Verdict(runs, True, True, estimate)
    return Verdict(runs, False, True, Estimate.of(fresh))


@dataclass(frozen=True, slots=True)
class Rule:
    """How a campaign measures.

    Attributes:
        exact: the evaluator's score repeats exactly.
        checks: runs that count in the last step, where it does not.
    """

    exact: bool = False
    checks: int = 8


def spent(k: int) -> float:
    """The level of the k-th test, from 1; all of them together have :data:`LEVEL`."""
    return LEVEL * 6.0 / (math.pi * k) ** 2


def better(one: Estimate, other: Estimate, level: float) -> bool:
    """Whether the mean of ``one`` is above that of ``other``: a one-sided t-test with the variance of both pooled."""
    freedom = one.runs + other.runs - 2
    if one.mean <= other.mean or freedom < 1:
        return False
    variance = (one.squares + other.squares) / freedom * (1 / one.runs + 1 / other.runs)
    return one.mean - other.mean > t_quantile(1.0 - level, freedom) * math.sqrt(variance)


def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t by the expansion around the normal one (Abramowitz & Stegun 26.7.5); for p ≥ 1/2, 4 degrees of freedom and more."""
    z = NormalDist().inv_cdf(p)
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
