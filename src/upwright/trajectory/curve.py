"""Lines and bends through points with known errors, on the scale of scores and on curved ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from scipy import linalg, optimize

from upwright.records import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

INNER = 0.005
"""Scores are drawn in to [INNER, 1 − INNER] to start a fit on a curved scale, which has no end."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale on which some kind of growth is a straight line.

    Attributes:
        to: score → scale.
        back: scale → score.
    """

    to: Callable[[Array], Array]
    back: Callable[[Array], Array]


SCORE = Scale(lambda s: s, lambda v: v)
"""Steady gain of points."""

ERRORS = Scale(lambda s: -np.log1p(-s), lambda v: -np.expm1(-np.clip(v, -50, 50)))
"""−ln(1 − score): removing the same share of errors each time."""

ODDS = Scale(lambda s: np.log(s) - np.log1p(-s), lambda v: 1 / (1 + np.exp(-np.clip(v, -50, 50))))
"""ln(score / (1 − score)): multiplying the odds each time."""


@dataclass(frozen=True, slots=True)
class Line:
    """Slope of the best straight line, per unit of x, and its interval."""

    slope: float
    interval: Interval


def line(x: Sequence[float], y: Sequence[float], error: Sequence[float], level: float = 0.95) -> Line:
    """Fit by weighted least squares.

    Args:
        x: at least two distinct values.
        error: standard errors of ``y``, taken as known; when the points scatter about the line more than
            that (χ² per degree of freedom above 1), the slope's error is widened by its square root.
    """
    z, weights, spread = _centred(x, error)
    design = np.vander(z, 2, increasing=True) * weights[:, None]
    target = np.asarray(y, dtype=float) * weights
    fit, _, _, _ = linalg.lstsq(design, target)
    free = len(z) - 2
    widen = max(1.0, float(((target - design @ fit) ** 2).sum()) / free) if free > 0 else 1.0
    sigma = math.sqrt(max(float(linalg.pinvh(design.T @ design)[1, 1]) * widen, 0.0)) / spread
    half = NormalDist().inv_cdf(0.5 + level / 2) * sigma
    slope = float(fit[1]) / spread
    return Line(slope, Interval(slope - half, slope + half, level))


def bend(x: Sequence[float], y: Sequence[float], error: Sequence[float], scale: Scale = SCORE) -> float:
    """How surely the points bend on ``scale``: a signed z-value, negative when the curve bends down.

    The signed root of the likelihood ratio of a parabola against a line, both fitted through ``scale``
    to the scores themselves, whose errors are taken as known. (To transform the scores first would bend
    them: near an end, chance is stretched on one side only.) When the parabola misses the points
    by more than their errors, the value is shrunk by the root of χ² per degree of freedom.

    Args:
        x: at least three distinct values.

    Source: McCullagh and Nelder 1989, appendix C (signed likelihood root).
    """
    straight, _ = _fit(x, y, error, scale, 1)
    curved, coefficient = _fit(x, y, error, scale, 2)
    free = len(x) - 3
    widen = max(1.0, curved / free) if free > 0 else 1.0
    return math.copysign(math.sqrt(max(straight - curved, 0.0) / widen), coefficient)


def _fit(
    x: Sequence[float], y: Sequence[float], error: Sequence[float], scale: Scale, degree: int
) -> tuple[float, float]:
    """χ² and highest coefficient of the polynomial that fits best through ``scale``."""
    z, weights, _ = _centred(x, error)
    scores = np.asarray(y, dtype=float)
    design = np.vander(z, degree + 1, increasing=True)
    inner = np.clip(scores, INNER, 1 - INNER) if scale is not SCORE else scores
    start, _, _, _ = linalg.lstsq(design * weights[:, None], scale.to(inner) * weights)
    if scale is SCORE:
        return float((((design @ start - scores) * weights) ** 2).sum()), float(start[degree])
    found = optimize.least_squares(lambda b: (scale.back(design @ b) - scores) * weights, start, x_scale="jac")
    return float(2 * found.cost), float(found.x[degree])


def _centred(x: Sequence[float], error: Sequence[float]) -> tuple[Array, Array, float]:
    """x centred and of span 1, weights 1 / error, and the span."""
    spread = max(float(np.ptp(x)), 1e-12)
    return (np.asarray(x, dtype=float) - float(np.mean(x))) / spread, 1.0 / np.asarray(error, dtype=float), spread
