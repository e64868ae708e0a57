"""Weighted straight line and weighted parabola through points with known errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg

from upwright.records import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Scaled = tuple[Sequence[float], list[float], list[float]]
"""x, scores on another scale, and their errors by the delta method: the arguments of :func:`bend`."""

INNER = 0.005
"""Scores are drawn in to [INNER, 1 − INNER] before logarithms, which have no end."""


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


def removed(x: Sequence[float], y: Sequence[float], error: Sequence[float]) -> Scaled:
    """−ln(1 − score), on which removing the same share of errors each time is a straight line."""
    inner, smooth = _inner(y), _smooth(x, y, error)
    return x, [-math.log(1 - v) for v in inner], [e / (1 - s) for s, e in zip(smooth, error, strict=True)]


def log_odds(x: Sequence[float], y: Sequence[float], error: Sequence[float]) -> Scaled:
    """ln(score / (1 − score))."""
    inner, smooth = _inner(y), _smooth(x, y, error)
    return x, [math.log(v / (1 - v)) for v in inner], [e / (s * (1 - s)) for s, e in zip(smooth, error, strict=True)]


def _inner(y: Sequence[float]) -> list[float]:
    return [min(max(v, INNER), 1 - INNER) for v in y]


def _smooth(x: Sequence[float], y: Sequence[float], error: Sequence[float]) -> list[float]:
    """Scores of the fitted parabola: errors are scaled by its slope, since the points' own would weigh
    those that chance moved away from an end more than those that it moved towards it."""
    z, design, weights = _design(x, error, 2)
    fit, _, _, _ = linalg.lstsq(design, np.asarray(y, dtype=float) * weights)
    return _inner((np.vander(z, 3, increasing=True) @ fit).tolist())


def _design(x: Sequence[float], error: Sequence[float], degree: int) -> tuple[Array, Array, Array]:
    """Centred and scaled x, weighted design matrix (points, degree + 1), weights."""
    z = (np.asarray(x, dtype=float) - float(np.mean(x))) / max(float(np.ptp(x)), 1e-12)
    weights = 1.0 / np.asarray(error, dtype=float)
    return z, np.vander(z, degree + 1, increasing=True) * weights[:, None], weights


def _last_coefficient(
    x: Sequence[float], y: Sequence[float], error: Sequence[float], degree: int
) -> tuple[float, float]:
    """Highest coefficient of the weighted polynomial fit and its standard error."""
    z, design, weights = _design(x, error, degree)
    scale = max(float(np.ptp(x)), 1e-12)
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
