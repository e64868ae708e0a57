"""Intervals for reports: a betting confidence sequence and Wilson's interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist

import numpy as np


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
