"""Weighted straight line and weighted parabola through points with known errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy import linalg

from upwright.records import Interval

INNER = 0.005
"""Scores are drawn in to [INNER, 1 − INNER] before log-odds, which have no end."""


@dataclass(frozen=True, slots=True)
class Bend:
    """Slope of the best line and curvature of the best parabola, per unit of x.

    ``curvature`` is the change of slope from the first to the last x (``None`` with fewer than 3
    points): negative bends down.
    """

    slope: float
    slope_interval: Interval
    curvature: float | None
    curvature_interval: Interval | None


def bend(x: Sequence[float], y: Sequence[float], error: Sequence[float], level: float = 0.95) -> Bend:
    """Fit both by weighted least squares.

    Args:
        x: at least two distinct values.
        error: standard errors of ``y``, taken as known; when the points scatter about the line more
            than that (χ² per degree of freedom above 1), errors are widened by its square root.
    """
    slope, slope_error = _last_coefficient(x, y, error, 1)
    if len(set(x)) < 3:
        return Bend(slope, _around(slope, slope_error, level), None, None)
    second, second_error = _last_coefficient(x, y, error, 2)
    span = 2 * (max(x) - min(x))
    return Bend(
        slope,
        _around(slope, slope_error, level),
        second * span,
        _around(second * span, second_error * span, level),
    )


def logit_points(y: Sequence[float], error: Sequence[float]) -> tuple[list[float], list[float]]:
    """Log-odds of scores, and their errors by the delta method."""
    inner = [min(max(v, INNER), 1 - INNER) for v in y]
    return [math.log(v / (1 - v)) for v in inner], [e / (v * (1 - v)) for v, e in zip(inner, error, strict=True)]


def _last_coefficient(
    x: Sequence[float], y: Sequence[float], error: Sequence[float], degree: int
) -> tuple[float, float]:
    """Highest coefficient of the weighted polynomial fit and its standard error."""
    centre = float(np.mean(x))
    scale = max(float(np.ptp(x)), 1e-12)
    z = (np.asarray(x, dtype=float) - centre) / scale
    weights = 1.0 / np.asarray(error, dtype=float)
    design = np.vander(z, degree + 1, increasing=True) * weights[:, None]
    target = np.asarray(y, dtype=float) * weights
    fit, _, _, _ = linalg.lstsq(design, target)
    covariance = linalg.pinvh(design.T @ design)
    free = len(z) - degree - 1
    residual = float(((target - design @ fit) ** 2).sum())
    widen = max(1.0, residual / free) if free > 0 else 1.0
    return float(fit[degree]) / scale**degree, math.sqrt(max(covariance[degree, degree] * widen, 0.0)) / scale**degree


def _around(value: float, error: float, level: float) -> Interval:
    half = NormalDist().inv_cdf(0.5 + level / 2) * error
    return Interval(value - half, value + half, level)
