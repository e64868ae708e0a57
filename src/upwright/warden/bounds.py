"""Intervals for reports: by betting, for a fixed number of tasks or for any; and Wilson's."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np

from upwright.warden.bets import Floats, star_step

INTERVAL = "star"
"""How gains of tests that are committed now are shown; those committed before this was recorded have the ``"sequence"``."""
POINTS = 2001
"""Candidate means between the lowest and the highest value."""


def interval(
    method: str, d: Iterable[float], level: float = 0.95, low: float = -1.0, high: float = 1.0
) -> tuple[float, float]:
    """The interval of a ledger's method: ``"star"`` (:func:`star_interval`) or ``"sequence"`` (:func:`confidence_sequence`)."""
    if method == "star":
        return star_interval(d, level, low, high)
    if method == "sequence":
        return confidence_sequence(d, level, low, high)
    raise ValueError(f"unknown interval {method!r}: this ledger needs a later version of the warden")


def star_interval(d: Iterable[float], level: float = 0.95, low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """Betting confidence interval for the mean of values in ``[low, high]``, for a number of values fixed beforehand.

    Valid at every n, whatever the values' distribution, and for values that depend on each other as long as each has
    the same mean given the past. It is *not* to be read while values still come: its bets know n. Each end inverts
    one-sided tests of error (1 − level)/2 that bet as :class:`upwright.warden.bets.Star` does.

    Source: Voráček & Orabona 2025 (STaR-Bets). Departures: the second moment is estimated from the past with a
    prior, ends are points of a fixed grid of candidate means, moved outwards by one step, and the interval always holds the
    sample mean. The step costs no coverage: a test of "mean ≤ m" is also one of every smaller mean, so the end can lie
    above the true mean only where the next grid point above it was rejected.

    Args:
        d: values in order of arrival, shape (n,). Paired differences by default; for scores pass ``low=0``.
        level: coverage, 0.95 for 95 %.

    Returns:
        ``(low, high)`` of the interval; ``[low, high]`` itself when ``d`` is empty.
    """
    x = np.asarray(list(d), dtype=np.float64)
    if not np.all((x >= low) & (x <= high)):
        raise ValueError(f"values must lie in [{low}, {high}]")
    unit = np.clip((2.0 * x - (low + high)) / (high - low), -1.0, 1.0)
    bottom, top = _ends(tuple(unit.tolist()), (1.0 - level) / 2.0)
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    return middle + half * bottom, middle + half * top


@functools.lru_cache(maxsize=256)  # the same reports are read again and again
def _ends(d: tuple[float, ...], alpha: float) -> tuple[float, float]:
    x = np.asarray(d)
    return _lower(x, alpha), -_lower(-x, alpha)


def _lower(x: Floats, alpha: float) -> float:
    """Lower bound of error α for the mean of ``x`` in [−1, 1], shape (n,)."""
    grid = np.linspace(-1.0, 1.0, POINTS)
    step = 2.0 / (POINTS - 1)
    m = grid[grid <= (x.mean() if x.size else -1.0)]
    if m.size == 0:
        return -1.0
    goal = (-math.log(alpha), x.size)
    ends = (np.maximum(1.0 + m, 1e-12), np.maximum(1.0 - m, 1e-12), 0.0)
    wealth, total, squares = np.zeros_like(m), np.zeros_like(m), np.zeros_like(m)
    for n, value in enumerate(x):
        y = value - m
        wealth = star_step(wealth, (n, total, squares), goal, y, ends)
        total, squares = total + y, squares + y * y
    kept = np.flatnonzero(wealth < goal[0])
    first = float(m[kept[0]]) if kept.size else float(m[-1]) + step
    return max(-1.0, first - step)


def confidence_sequence(
    d: Iterable[float], level: float = 0.95, low: float = -1.0, high: float = 1.0
) -> tuple[float, float]:
    """Hedged-capital betting confidence sequence for the mean of values in ``[low, high]``, at its last time.

    Valid at every sample size at once, so it may be read whenever one likes. Source: Waudby-Smith &
    Ramdas 2023, theorem 3 with the predictable plug-in of equation (26) and truncation c = 1/2.
    Departure: candidate means are a grid of 2,001 points, and the ends are widened by one grid step.

    Args:
        d: values in order of arrival, shape (n,). Paired differences by default; for scores pass ``low=0``.
        level: coverage of the whole sequence, 0.95 for 95 %.

    Returns:
        ``(low, high)`` of the interval; ``[low, high]`` itself when ``d`` is empty.
    """
    x = (np.asarray(list(d), dtype=np.float64) - low) / (high - low)
    if x.size == 0:
        return low, high
    if not np.all((x >= 0.0) & (x <= 1.0)):
        raise ValueError(f"values must lie in [{low}, {high}]")
    alpha, n = 1.0 - level, x.size
    k = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(x)) / (k + 1)
    var = (0.25 + np.cumsum((x - mean) ** 2)) / (k + 1)
    var_before = np.concatenate(([0.25], var[:-1]))
    lam = np.sqrt(2.0 * math.log(2.0 / alpha) / (var_before * k * np.log1p(k)))
    step = 1.0 / 2000
    m = np.linspace(0.0, 1.0, 2001)
    up, down = np.zeros_like(m), np.zeros_like(m)
    alive = np.ones_like(m, dtype=bool)
    limit = math.log(2.0 / alpha)
    with np.errstate(divide="ignore"):
        cap_up, cap_down = 0.5 / m, 0.5 / (1.0 - m)
    for xi, li in zip(x, lam):
        up += np.log1p(np.minimum(li, cap_up) * (xi - m))
        down += np.log1p(-np.minimum(li, cap_down) * (xi - m))
        alive &= (up < limit) & (down < limit)
    inside = np.flatnonzero(alive)
    if inside.size == 0:  # the true mean was excluded (probability ≤ 1 − level), or moved
        centre = float(x.mean())
        bottom = top = centre
    else:
        bottom, top = float(m[inside[0]]), float(m[inside[-1]])
    width = high - low
    return low + width * max(0.0, bottom - step), low + width * min(1.0, top + step)


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion; ``(0, 1)`` when ``n`` is 0.

    For graded scores in [0, 1] pass their sum: the interval is then conservative, because a Bernoulli
    variable has the largest variance of all variables in [0, 1] with its mean.
    """
    if n <= 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    p = successes / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(0.0, p * (1 - p) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)
