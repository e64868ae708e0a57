"""How the curve bends: too early to say, flattening, steady or compounding.

Two lines are fitted to the confirmed scores, one that gains steadily and one that bends. Because a
score cannot leave [0, 1], a second scale has to agree. *Flattening* must also show in the share of
errors that each generation removes: a body that goes on halving its errors gains ever fewer points,
and that is a ceiling, not a plateau. *Compounding* must also show in log-odds: near the floor any
steady growth in them looks like acceleration. A bend is claimed only when both scales
show it at the 5 % level (two-sided); else the curve is called steady.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from upwright.errors import UpwrightError
from upwright.records import Interval
from upwright.trajectory.curve import ERRORS, ODDS, Line, bend, line

Kind = Literal["too early", "flattening", "steady", "compounding"]

MINIMUM = 3
"""Fewest points at which a bend can be told from a line; with fewer the account is "too early"."""

SURE = 1.959964
"""z-value of a two-sided 5 % test."""


@dataclass(frozen=True, slots=True)
class ConfirmedPoint:
    """A generation's score from a fresh confirmation draw.

    Attributes:
        generation: its number; 0 is the first body.
        score: in [0, 1]; higher is better.
        low, high: its 95 % interval.
        seconds: wall seconds that the project had spent when it was confirmed.
    """

    generation: int
    score: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Where it is going.

    Attributes:
        gain_per_generation: score points per generation (weighted slope), or ``None`` with one point.
        gain_per_1000_s: score points per 1,000 seconds of work, or ``None`` when no time passed.
        slope: 95 % interval of ``gain_per_generation``.
    """

    kind: Kind
    sentence: str
    gain_per_generation: float | None
    gain_per_1000_s: float | None
    slope: Interval | None


def account(confirmed: Sequence[ConfirmedPoint]) -> Trajectory:
    """Say how the curve bends, no more surely than the intervals allow.

    Args:
        confirmed: points in order of generation.

    Raises:
        UpwrightError: the generations are not in order, or a score is outside its interval.
    """
    _check(confirmed)
    if len(confirmed) < 2:
        return Trajectory("too early", _early(len(confirmed)), None, None, None)
    x = [float(p.generation) for p in confirmed]
    y = [p.score for p in confirmed]
    error = [max(p.high - p.low, 1e-6) / (2 * SURE) for p in confirmed]
    trend = line(x, y, error)
    seconds = [p.seconds for p in confirmed]
    pace = 1000 * line(seconds, y, error).slope if max(seconds) > min(seconds) else None
    if len(confirmed) < MINIMUM:
        return Trajectory("too early", _early(len(confirmed)), trend.slope, pace, trend.interval)
    plain = bend(x, y, error)
    kind: Kind = "steady"
    if plain < -SURE and bend(x, y, error, ERRORS) < -SURE:
        kind = "flattening"
    elif plain > SURE and bend(x, y, error, ODDS) > SURE:
        kind = "compounding"
    return Trajectory(kind, _sentence(kind, trend, confirmed), trend.slope, pace, trend.interval)


def _sentence(kind: Kind, trend: Line, confirmed: Sequence[ConfirmedPoint]) -> str:
    low, high = trend.interval.low, trend.interval.high
    points = f"{100 * trend.slope:+.1f} points per generation (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    over = f"over {len(confirmed)} confirmed generations, from {confirmed[0].score:.0%} to {confirmed[-1].score:.0%}"
    if kind == "flattening":
        return f"Flattening: {points} {over}; each generation gains less, and removes a smaller share of the errors."
    if kind == "compounding":
        return f"Compounding: {points} {over}; each generation gains more than the one before, also in log-odds."
    if low <= 0 <= high:
        return f"Steady: {points} {over}; neither a gain nor a bend can be told from chance."
    return f"Steady: {points} {over}; the data do not show that the curve bends."


def _early(n: int) -> str:
    some = "no confirmed generation" if n == 0 else f"{n} confirmed generation{'s' * (n > 1)}"
    return f"Too early to say: {some}; a bend needs at least {MINIMUM}."


def _check(confirmed: Sequence[ConfirmedPoint]) -> None:
    for before, after in pairwise(confirmed):
        if after.generation <= before.generation:
            raise UpwrightError(
                "confirmed points need rising generation numbers", value=(before.generation, after.generation)
            )
    for p in confirmed:
        if not (0 <= p.low <= p.score <= p.high <= 1) or not math.isfinite(p.seconds):
            raise UpwrightError("a confirmed point needs 0 ≤ low ≤ score ≤ high ≤ 1", value=p)
