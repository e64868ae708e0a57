"""Betting against a null hypothesis about the mean of bounded values: two e-processes.

The wealth of a gambler who cannot win in expectation while the null is true, ``E[value | past] ≤ 0``, is an
e-process: by Ville's inequality it ever reaches 1/α with probability at most α, however its values depend on each
other. All that a bet needs is to be fixed before the value that it is laid on.

- :class:`Star` knows what it must reach and how many tasks it has. Source: Voráček & Orabona 2025, "STaR-Bets:
  Sequential Target-Recalculating Bets for Tighter Confidence Intervals". What is optimal for reaching a goal by a
  deadline is set anew before each value, from the wealth still wanted and the values still to come (Browne 1999 has the
  same in continuous time), so no evidence is paid for looks that will never be taken. Departures: it bets three quarters
  of what growth alone would bet (Kelly 1956) where that is more, so that a large gain ends a test early; no bet wins
  much more than is wanted; at its goal it stops betting, so a crossing within a batch is kept.
- :class:`Mixture` is the mean over a fixed geometric grid of bets (Waudby-Smith & Ramdas 2023). Tests that were
  committed before ``Star`` came are recomputed with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ends = tuple[Floats | float, Floats | float, float]
"""How far a value can lie below and above 0, and the share of Kelly's bet that is the least."""

C = 0.9
"""Largest share of its wealth that a bet may lose on one task."""
J = 24
"""Number of bets in the mixture."""
KELLY = 0.75
"""Share of the growth-optimal bet, estimated from the past, below which no bet falls."""
PRIOR_N, PRIOR_SQUARES = 4, 1.0
"""Values that the estimate of the second moment starts with, and the sum of their squares."""
OVER = 1.01
"""No bet aims at more than this multiple of the wealth that is wanted."""


def grid(sign: int = 1, shift: float = 0.0) -> Floats:
    """Bets λ of the mixture, shape (J,): geometric on [c/64, c], scaled so that every factor stays ≥ 1 − c > 0.

    Factors are ``1 + λ · sign · (D + shift)``; the worst payoff over D ∈ [−1, 1] is
    ``−(1 − sign · shift)``, hence the scale.
    """
    worst = 1.0 - sign * shift
    return np.geomspace(C / 64.0, C, J) / worst


def log_path(d: Floats, sign: int = 1, shift: float = 0.0) -> Floats:
    """Log of the mixture e-process after each task.

    Args:
        d: paired differences in [−1, 1], shape (..., n).

    Returns:
        shape (..., n): ``log((1/J) Σ_j Π_{i ≤ k} (1 + λ_j sign (d_i + shift)))`` at k = 1 … n.
    """
    total: Floats | None = None
    for lam in grid(sign, shift):
        wealth = np.cumsum(np.log1p(lam * sign * (d + shift)), axis=-1)
        total = wealth if total is None else np.logaddexp(total, wealth)
    assert total is not None
    return total - math.log(J)


def star_step(
    log_wealth: Floats, past: tuple[int, Floats, Floats], goal: tuple[Floats | float, int], y: Floats, ends: Ends
) -> Floats:
    """Log wealth after one more value, for many processes at once; :meth:`Star.update` is the same for one.

    Args:
        past: how many values were seen, their sum, and the sum of their squares.
        goal: log of the wealth wanted, and the number of values by which.
        y: the value, whose mean is ≤ 0 under the null.
    """
    (n, total, squares), (log_target, n_max), (worst, best, kelly) = past, goal, ends
    gap = log_target - log_wealth
    lam = np.sqrt(2.0 * np.maximum(gap, 0.0) * (n + PRIOR_N) / (max(n_max - n, 1) * (squares + PRIOR_SQUARES)))
    if kelly:
        lam = np.maximum(lam, kelly * total / (squares + PRIOR_SQUARES))
    lam = np.minimum(np.minimum(lam, C / worst), (OVER * np.exp(np.minimum(gap, 50.0)) - 1.0) / best)
    return np.where(gap > 0.0, log_wealth + np.log1p(np.where(gap > 0.0, lam, 0.0) * y), log_wealth)


def star_path(
    d: Floats, log_target: Floats | float, n_max: int, sign: int = 1, shift: float = 0.0, kelly: float = KELLY
) -> Floats:
    """Log of the :class:`Star` e-process after each task; it stays where it is once it has reached its goal.

    Args:
        d: paired differences in [−1, 1], shape (..., n).
        log_target: one for all rows, or one a row, shape (...).

    Returns:
        shape (..., n).
    """
    y = sign * (d + shift)
    path, wealth = np.empty_like(y), np.zeros(y.shape[:-1])
    total, squares = np.zeros_like(wealth), np.zeros_like(wealth)
    ends = (1.0 - sign * shift, 1.0 + sign * shift, kelly)
    for n in range(y.shape[-1]):
        wealth = star_step(wealth, (n, total, squares), (log_target, n_max), y[..., n], ends)
        path[..., n] = wealth
        total += y[..., n]
        squares += y[..., n] ** 2
    return path


def checked(d: Iterable[float]) -> Floats:
    """Differences as an array.

    Raises:
        ValueError: one is outside [−1, 1] or not finite.
    """
    x = np.asarray(list(d), dtype=np.float64)
    if not np.all(np.abs(x) <= 1.0):  # also false for NaN
        raise ValueError(f"paired differences must lie in [-1, 1], got {x.tolist()!r}")
    return x


@dataclass(frozen=True, slots=True)
class Mixture:
    """The mixture e-process against ``sign · (E[D | past] + shift) ≤ 0``.

    Attributes:
        log_wealth: log wealth of each bet, length J.
        n: tasks seen.
    """

    sign: int = 1
    shift: float = 0.0
    log_wealth: tuple[float, ...] = (0.0,) * J
    n: int = 0

    def update(self, d: Iterable[float]) -> Mixture:
        """The process after a batch of differences in [−1, 1]."""
        x = checked(d)
        lam = grid(self.sign, self.shift)
        gained = np.log1p(lam[:, None] * (self.sign * (x + self.shift))[None, :]).sum(axis=1)
        wealth = tuple(float(w) for w in np.asarray(self.log_wealth) + gained)
        return replace(self, log_wealth=wealth, n=self.n + int(x.size))

    @property
    def log_e(self) -> float:
        """Natural log of the e-value: the mean wealth over the bets."""
        w = np.asarray(self.log_wealth)
        top = float(w.max())
        return top + math.log(float(np.exp(w - top).mean()))


@dataclass(frozen=True, slots=True)
class Star:
    """The target-recalculating e-process against ``sign · (E[D | past] + shift) ≤ 0``.

    Superiority (H0: Δ ≤ 0) has sign 1 and shift 0; non-inferiority with margin ε (H0: Δ ≤ −ε) 1 and ε; futility
    (H0: Δ ≥ δ) −1 and −δ; inferiority (H0: Δ ≥ −ε) −1 and ε.

    Attributes:
        log_target: natural log of the e-value that it wants to reach; n_max: the number of tasks by which. Both are
            fixed before the first task is drawn.
        log_e: natural log of the e-value.
        n, total, squares: tasks seen, sum of the shifted differences and of their squares.
    """

    sign: int
    shift: float
    log_target: float
    n_max: int
    log_e: float = 0.0
    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def update(self, d: Iterable[float]) -> Star:
        """The process after a batch of differences in [−1, 1]; its value does not depend on how tasks were batched."""
        worst, best = 1.0 - self.sign * self.shift, 1.0 + self.sign * self.shift
        log_e, n, total, squares = self.log_e, self.n, self.total, self.squares
        for x in checked(d).tolist():
            y, gap = self.sign * (x + self.shift), self.log_target - log_e
            if gap > 0.0:
                known = squares + PRIOR_SQUARES
                chase = math.sqrt(2.0 * gap * (n + PRIOR_N) / (max(self.n_max - n, 1) * known))
                enough = (OVER * math.exp(min(gap, 50.0)) - 1.0) / best
                log_e += math.log1p(min(max(chase, KELLY * total / known), C / worst, enough) * y)
            n, total, squares = n + 1, total + y, squares + y * y
        return replace(self, log_e=log_e, n=n, total=total, squares=squares)
