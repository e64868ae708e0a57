"""The gate: is the child better than the champion, and nowhere worse?

Pure and deterministic. Every comparison is a bet against a null hypothesis about the mean of paired
differences ``D ∈ [−1, 1]`` (child minus the other; higher is better), and its wealth an e-process, which may be looked
at after every batch: see :mod:`upwright.warden.bets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from upwright.warden.bets import Mixture, Star
from upwright.warden.bounds import confidence_sequence, wilson
from upwright.warden.exact import Exact, Pair

__all__ = ["BETS", "Decision", "Gate", "Stream", "confidence_sequence", "process", "wilson"]

BETS = "star"
"""How tests that are committed now bet; those committed before this was recorded are ``"grid"``."""


class Decision(StrEnum):
    """The only three words that the improver hears."""

    PROMOTE = "PROMOTE"
    REJECT = "REJECT"
    INSUFFICIENT = "INSUFFICIENT"


def process(bets: str, sign: int, shift: float, log_target: float, n_max: int) -> Star | Mixture:
    """An e-process against ``sign · (E[D | past] + shift) ≤ 0``, before any task.

    Args:
        bets: ``"star"``, which goes for ``log_target`` within ``n_max`` tasks, or ``"grid"``, which knows neither.
    """
    if bets == "star":
        return Star(sign, shift, log_target, n_max)
    if bets == "grid":
        return Mixture(sign, shift)
    raise ValueError(f"unknown bets {bets!r}: this ledger needs a later version of the warden")


@dataclass(frozen=True, slots=True)
class Stream:
    """One comparison on one suite: evidence for the claim, evidence against it, and plain counts.

    Attributes:
        margin: ``None`` for superiority, else the non-inferiority margin ε in (0, 1).
        total: Σ D; squares: Σ D².
    """

    pro: Star | Mixture
    con: Star | Mixture
    margin: float | None = None
    wins: int = 0
    losses: int = 0
    ties: int = 0
    total: float = 0.0
    squares: float = 0.0

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

    def facts(self) -> dict[str, Any]:
        """Counts, sums and e-values."""
        return {
            "n": self.n, "wins": self.wins, "losses": self.losses, "ties": self.ties, "sum": self.total,
            "sum_squares": self.squares, "mean": self.mean, "margin": self.margin, "e_value": e_value(self.pro.log_e),
            "log_e": self.pro.log_e, "log_e_against": self.con.log_e,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gate:
    """One test: the objective's superiority and each protected suite's non-inferiority.

    The objective is sampled first; protected suites only after it has crossed. A stream that has
    crossed the threshold is frozen there (a stopping time), so later batches cannot undo it. The
    combined e-value is the minimum over all streams: evidence against "not better, or worse somewhere".

    On a suite whose metric repeats exactly nothing is bet: :class:`~upwright.warden.exact.Exact` stands in the stream's place.

    Attributes:
        log_threshold: natural log of 1/α_t.
        log_against: natural log of 1/β, where a stream gives up.
        protected: (suite, versus) → stream, versus in {"champion", "anchor"}.
    """

    objective: Stream | Exact
    protected: Mapping[tuple[str, str], Stream | Exact]
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
        bets: str = BETS,
    ) -> Gate:
        """A gate before any task; ``margins`` maps protected suite → ε, ``versus`` lists who they are compared with.

        Claims are "better" on the objective and "not worse by the margin or more" on a protected suite; the nulls
        of what speaks against them are "at least ``minimum_gain`` better" and "within the margin".
        """
        up, down = math.log(threshold), -math.log(beta)

        def stream(claim: float, against: float, margin: float | None) -> Stream:
            return Stream(process(bets, 1, claim, up, n_max), process(bets, -1, against, down, n_max), margin)

        pairs = {(s, v): stream(e, e, e) for s, e in margins.items() for v in tuple(versus)}
        return Gate(stream(0.0, -minimum_gain, None), pairs, up, down, minimum_gain, n_max, tuple(margins))

    def exactly(self, objective: str, suites: Mapping[str, Mapping[str, int]]) -> Gate:
        """The gate with exact comparisons on some suites: suite → ``{"sign", "runs"}``."""

        def made(suite: str, stream: Stream | Exact) -> Stream | Exact:
            plan = suites.get(suite)
            return Exact(plan["sign"], plan["runs"], stream.margin) if plan else stream

        first = made(objective, self.objective)
        pairs = {(s, v): made(s, stream) for (s, v), stream in self.protected.items()}
        return replace(self, objective=first, protected=pairs)

    def crossed(self, stream: Stream | Exact) -> bool:
        """True once the claim is shown: the stream's e-value has reached the threshold, or all exact runs agree on it."""
        if isinstance(stream, Exact):
            return stream.held
        return stream.n > 0 and stream.pro.log_e >= self.log_threshold

    def add_objective(self, d: Iterable[float]) -> Gate:
        """The gate after objective pairs (ignored once crossed)."""
        old = self.objective
        return self if isinstance(old, Exact) or self.crossed(old) else replace(self, objective=old.update(d))

    def add_protected(self, suite: str, versus: str, d: Iterable[float]) -> Gate:
        """The gate after pairs of a protected suite (ignored once that stream has crossed)."""
        old = self.protected[suite, versus]
        if isinstance(old, Exact) or self.crossed(old):
            return self
        return replace(self, protected={**self.protected, (suite, versus): old.update(d)})

    def add_exact(self, which: tuple[str, str] | None, pairs: Iterable[Pair]) -> Gate:
        """The gate after runs of an exact suite: the objective's for ``None``, else of a protected (suite, versus)."""
        old = self.objective if which is None else self.protected[which]
        if not isinstance(old, Exact) or self.crossed(old):
            return self
        new = old.update(pairs)
        if which is None:
            return replace(self, objective=new)
        return replace(self, protected={**self.protected, which: new})

    @property
    def doubts(self) -> dict[str, str]:
        """Exact suites whose metric did not repeat → its values."""
        every = [("", self.objective), *((s, stream) for (s, _), stream in self.protected.items())]
        return {s: told for s, stream in every if isinstance(stream, Exact) and (told := stream.differs)}

    def open_suites(self, objective: str) -> tuple[str, ...]:
        """Suites that the next batch draws from; empty when everything has crossed."""
        if not self.crossed(self.objective):
            return (objective,)
        waiting = {s for (s, _), stream in self.protected.items() if not self.crossed(stream)}
        return tuple(s for s in self._order if s in waiting)

    @property
    def log_e(self) -> float:
        """Log of the combined e-value: the minimum over all streams; 0 where nothing is bet."""
        every = [self.objective, *self.protected.values()]
        return min([s.pro.log_e for s in every if isinstance(s, Stream)], default=0.0)

    def decide(self) -> tuple[Decision | None, str]:
        """The decision so far (``None``: draw on) and the reason in plain words."""
        o = self.objective
        if not self.crossed(o):
            return exactly_fails(o) if isinstance(o, Exact) else self._objective_fails(o)
        for (suite, versus), s in self.protected.items():
            if not self.crossed(s):
                word, reason = self._protected_fails(suite, versus, s)
                if word is not None:
                    return word, reason
        if any(not self.crossed(s) for s in self.protected.values()):
            return None, "better on the objective; the protected suites are not settled yet"
        kept = ", and not worse on " + ", ".join(self._order) if self._order else ""
        if isinstance(o, Exact):
            return Decision.PROMOTE, f"better: {o.told}{kept}"
        return Decision.PROMOTE, f"better after {o.n} tasks (mean difference {points(o.mean)} points){kept}"

    def _objective_fails(self, o: Stream) -> tuple[Decision | None, str]:
        seen = f"(mean difference {points(o.mean)} points)"
        if o.n and o.con.log_e >= self.log_against:
            least = f"{100 * self.minimum_gain:g}"
            return Decision.REJECT, f"no evidence after {o.n} tasks that it is at least {least} points better {seen}"
        if o.n >= self.n_max:
            return Decision.INSUFFICIENT, f"still undecided after {o.n} tasks, the most that the charter allows {seen}"
        return None, f"undecided after {o.n} tasks {seen}"

    def _protected_fails(self, suite: str, versus: str, s: Stream | Exact) -> tuple[Decision | None, str]:
        margin = f"{100 * (s.margin or 0.0):g} points"
        than = "" if versus == "champion" else " than the last approved generation"
        if isinstance(s, Exact):
            return exactly_fails(s, f" on {suite}{than} by more than {margin}")
        seen = f"(mean difference {points(s.mean)} points after {s.n} tasks)"
        if s.n and s.con.log_e >= self.log_against:
            return Decision.REJECT, f"worse on {suite}{than} by more than {margin} {seen}"
        if s.n >= self.n_max:
            return Decision.INSUFFICIENT, f"could not show that it is not worse on {suite}{than} by {margin} {seen}"
        return None, ""


def exactly_fails(s: Exact, where: str = "") -> tuple[Decision | None, str]:
    """Why an exact comparison does not hold, or that it has not all its runs yet."""
    if s.differs:
        return (
            Decision.INSUFFICIENT,
            f"a metric that should repeat exactly did not{where.partition(' by ')[0]}: {s.differs}",
        )
    if s.n < s.runs:
        return None, f"{s.n} of {s.runs} runs are made"
    return Decision.REJECT, f"worse{where}: {s.told}" if where else f"not better: {s.told}"


def e_value(log_e: float) -> float:
    """An e-value from its logarithm, as large as a number can be."""
    return math.exp(min(log_e, 700.0))


def points(mean: float | None) -> str:
    """A signed mean in percentage points."""
    return "+0.0" if mean is None else f"{100 * mean:+.1f}"
