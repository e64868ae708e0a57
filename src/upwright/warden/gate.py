"""The gate: is the child better than the champion, and nowhere worse?

Pure and deterministic. Every comparison is a bet against a null hypothesis about the mean of paired
differences ``D ∈ [−1, 1]`` (child minus the other; higher is better): the wealth of a gambler who
cannot win in expectation if the null is true. Wealth is an e-process, so by Ville's inequality it
may be looked at after every batch (Waudby-Smith & Ramdas 2023, "Estimating means of bounded random
variables by betting").

Departure from the source: the bets λ are a fixed mixture over a geometric grid, not a predictable
plug-in; it has no tuning and its value does not depend on how answers were batched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from upwright.warden.bounds import confidence_sequence, wilson

__all__ = ["Betting", "Decision", "Gate", "Stream", "confidence_sequence", "grid", "log_path", "wilson"]

Floats = npt.NDArray[np.float64]

C = 0.9
"""Largest share of its wealth that a bet may lose on one task."""
J = 24
"""Number of bets in the mixture."""


class Decision(StrEnum):
    """The only three words that the improver hears."""

    PROMOTE = "PROMOTE"
    REJECT = "REJECT"
    INSUFFICIENT = "INSUFFICIENT"


def grid(sign: int = 1, shift: float = 0.0) -> Floats:
    """Bets λ, shape (J,): geometric on [c/64, c], scaled so that every factor stays ≥ 1 − c > 0.

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


@dataclass(frozen=True, slots=True)
class Betting:
    """An e-process against ``sign · (E[D] + shift) ≤ 0``.

    Superiority (H0: Δ ≤ 0) is ``Betting()``; non-inferiority with margin ε (H0: Δ ≤ −ε) is
    ``Betting(1, ε)``; futility (H0: Δ ≥ δ) is ``Betting(-1, -δ)``; inferiority (H0: Δ ≥ −ε) is ``Betting(-1, ε)``.

    Attributes:
        log_wealth: log wealth of each bet, length J.
        n: tasks seen.
    """

    sign: int = 1
    shift: float = 0.0
    log_wealth: tuple[float, ...] = (0.0,) * J
    n: int = 0

    def update(self, d: Iterable[float]) -> Betting:
        """The process after a batch of differences in [−1, 1].

        Raises:
            ValueError: a difference is outside [−1, 1] or not finite.
        """
        x = np.asarray(list(d), dtype=np.float64)
        if x.size == 0:
            return self
        if not np.all(np.abs(x) <= 1.0):  # also false for NaN
            raise ValueError(f"paired differences must lie in [-1, 1], got {x.tolist()!r}")
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
class Stream:
    """One comparison on one suite: evidence for the claim, evidence against it, and plain counts.

    Attributes:
        margin: ``None`` for superiority, else the non-inferiority margin ε in (0, 1).
        total: Σ D; squares: Σ D².
    """

    pro: Betting
    con: Betting
    margin: float | None = None
    wins: int = 0
    losses: int = 0
    ties: int = 0
    total: float = 0.0
    squares: float = 0.0

    @staticmethod
    def superiority(minimum_gain: float) -> Stream:
        """Claim: better. Against it: H0 "at least ``minimum_gain`` better"."""
        return Stream(Betting(), Betting(-1, -minimum_gain))

    @staticmethod
    def non_inferiority(margin: float) -> Stream:
        """Claim: not worse by ``margin`` or more. Against it: H0 "within the margin"."""
        return Stream(Betting(1, margin), Betting(-1, margin), margin)

    def update(self, d: Iterable[float]) -> Stream:
        """The stream after a batch of differences."""
        x = [float(v) for v in d]
        return replace(
            self,
            pro=self.pro.update(x),
            con=self.con.update(x),
            wins=self.wins + sum(v > 0 for v in x),
            losses=self.losses + sum(v < 0 for v in x),
            ties=self.ties + sum(v == 0 for v in x),
            total=self.total + math.fsum(x),
            squares=self.squares + math.fsum(v * v for v in x),
        )

    @property
    def n(self) -> int:
        """Pairs seen."""
        return self.pro.n

    @property
    def mean(self) -> float | None:
        """Mean difference, child minus the other."""
        return self.total / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Gate:
    """One test: the objective's superiority and each protected suite's non-inferiority.

    The objective is sampled first; protected suites only after it has crossed. A stream that has
    crossed the threshold is frozen there (a stopping time), so later batches cannot undo it. The
    combined e-value is the minimum over all streams: evidence against "not better, or worse somewhere".

    Attributes:
        log_threshold: natural log of 1/α_t.
        log_against: natural log of 1/β, where a stream gives up.
        protected: (suite, versus) → stream, versus in {"champion", "anchor"}.
    """

    objective: Stream
    protected: Mapping[tuple[str, str], Stream]
    log_threshold: float
    log_against: float
    minimum_gain: float
    n_max: int
    _order: tuple[str, ...] = field(default=())

    @staticmethod
    def start(
        threshold: float,
        beta: float,
        minimum_gain: float,
        n_max: int,
        margins: Mapping[str, float],
        versus: Iterable[str],
    ) -> Gate:
        """A gate before any task; ``margins`` maps protected suite → ε, ``versus`` lists who they are compared with."""
        pairs = {(s, v): Stream.non_inferiority(e) for s, e in margins.items() for v in tuple(versus)}
        objective = Stream.superiority(minimum_gain)
        return Gate(objective, pairs, math.log(threshold), -math.log(beta), minimum_gain, n_max, tuple(margins))

    def crossed(self, stream: Stream) -> bool:
        """True once the stream's e-value has reached the threshold."""
        return stream.n > 0 and stream.pro.log_e >= self.log_threshold

    def add_objective(self, d: Iterable[float]) -> Gate:
        """The gate after objective pairs (ignored once crossed)."""
        return self if self.crossed(self.objective) else replace(self, objective=self.objective.update(d))

    def add_protected(self, suite: str, versus: str, d: Iterable[float]) -> Gate:
        """The gate after pairs of a protected suite (ignored once that stream has crossed)."""
        old = self.protected[suite, versus]
        if self.crossed(old):
            return self
        return replace(self, protected={**self.protected, (suite, versus): old.update(d)})

    def open_suites(self, objective: str) -> tuple[str, ...]:
        """Suites that the next batch draws from; empty when everything has crossed."""
        if not self.crossed(self.objective):
            return (objective,)
        waiting = {s for (s, _), stream in self.protected.items() if not self.crossed(stream)}
        return tuple(s for s in self._order if s in waiting)

    @property
    def log_e(self) -> float:
        """Log of the combined e-value: the minimum over all streams."""
        return min([self.objective.pro.log_e, *(s.pro.log_e for s in self.protected.values())])

    def decide(self) -> tuple[Decision | None, str]:
        """The decision so far (``None``: draw on) and the reason in plain words."""
        o = self.objective
        if not self.crossed(o):
            return self._objective_fails(o)
        for (suite, versus), s in self.protected.items():
            if not self.crossed(s):
                word, reason = self._protected_fails(suite, versus, s)
                if word is not None:
                    return word, reason
        if any(not self.crossed(s) for s in self.protected.values()):
            return None, "better on the objective; the protected suites are not settled yet"
        kept = ", and not worse on " + ", ".join(self._order) if self._order else ""
        return Decision.PROMOTE, f"better after {o.n} tasks (mean difference {points(o.mean)} points){kept}"

    def _objective_fails(self, o: Stream) -> tuple[Decision | None, str]:
        seen = f"(mean difference {points(o.mean)} points)"
        if o.n and o.con.log_e >= self.log_against:
            least = f"{100 * self.minimum_gain:g}"
            return Decision.REJECT, f"no evidence after {o.n} tasks that it is at least {least} points better {seen}"
        if o.n >= self.n_max:
            return Decision.INSUFFICIENT, f"still undecided after {o.n} tasks, the most that the charter allows {seen}"
        return None, f"undecided after {o.n} tasks {seen}"

    def _protected_fails(self, suite: str, versus: str, s: Stream) -> tuple[Decision | None, str]:
        margin = f"{100 * (s.margin or 0.0):g} points"
        than = "" if versus == "champion" else " than the last approved generation"
        seen = f"(mean difference {points(s.mean)} points after {s.n} tasks)"
        if s.n and s.con.log_e >= self.log_against:
            return Decision.REJECT, f"worse on {suite}{than} by more than {margin} {seen}"
        if s.n >= self.n_max:
            return Decision.INSUFFICIENT, f"could not show that it is not worse on {suite}{than} by {margin} {seen}"
        return None, ""


def points(mean: float | None) -> str:
    """A signed mean in percentage points."""
    return "+0.0" if mean is None else f"{100 * mean:+.1f}"
