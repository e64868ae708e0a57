"""A chart of gain against cost as an SVG file of its own: a dot for every arm and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 170, 24, 44
COLOURS = ("#1b6ca8", "#c1440e", "#2e7d32", "#7b3fa0", "#b8860b", "#00838f", "#ad1457", "#5d4037", "#455a64", "#827717")


@dataclass(frozen=True, slots=True)
class Dot:
    """One arm with one seed; ``gain`` and ``interval`` in units of score."""

    arm: str
    cost: float
    gain: float
    interval: tuple[float, float] | None


def scatter(dots: Sequence[Dot], across: str, up: str) -> str:
    """The chart; each dot tells its numbers on hover, arms have a colour each and their mean as a ring.

    Args:
        across, up: what the axes are called.
    """
    names = list(dict.fromkeys(d.arm for d in dots))
    most = _round_up(max((d.cost for d in dots), default=1.0))
    ends = [v for d in dots for v in (d.gain, *(d.interval or ()))]
    low, high = min([0.0, *ends]), max([0.05, *ends])
    low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20

    def x(cost: float) -> float:
        return float(LEFT + (WIDTH - LEFT - RIGHT) * cost / most)

    def y(gain: float) -> float:
        return float(TOP + (HEIGHT - TOP - BOTTOM) * (high - gain) / (high - low))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    steps = max(1, round((high - low) / 0.05 / 6))
    for k in range(round((high - low) / 0.05) + 1):
        if k % steps == 0:
            at = y(low + 0.05 * k)
            bold = ' stroke-width="2"' if abs(low + 0.05 * k) < 1e-9 else ""
            parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"{bold}/>')
            parts.append(
                f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{100 * (low + 0.05 * k):+.0f}</text>'
            )
    for k in range(5):
        at = x(most * k / 4)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#555">{most * k / 4:.0f}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle" fill="#555">{escape(across)}</text>'
    )
    parts.append(f'<text x="{LEFT - 44}" y="{TOP - 8}" fill="#555">{escape(up)}</text>')
    for number, name in enumerate(names):
        colour = COLOURS[number % len(COLOURS)]
        own = [d for d in dots if d.arm == name]
        for d in own:
            told = f"{name}: {100 * d.gain:+.1f} points, {d.cost:.0f} {across}"
            bar = (
                f'<path d="M{x(d.cost):.1f} {y(d.interval[0]):.1f}V{y(d.interval[1]):.1f}" stroke="{colour}" opacity=".45"/>'
                if d.interval
                else ""
            )
            parts.append(
                f'<g><title>{escape(told)}</title>{bar}<circle cx="{x(d.cost):.1f}" cy="{y(d.gain):.1f}" r="4" fill="{colour}"/></g>'
            )
        mean_cost, mean_gain = (sum(v) / len(own) for v in ([d.cost for d in own], [d.gain for d in own]))
        parts.append(
            f'<circle cx="{x(mean_cost):.1f}" cy="{y(mean_gain):.1f}" r="9" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        line = TOP + 12 + 18 * number
        parts.append(f'<circle cx="{WIDTH - RIGHT + 22}" cy="{line - 4}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 34}" y="{line}">{escape(name)} {100 * mean_gain:+.1f}</text>')
    return "".join([*parts, "</svg>"]) + "\n"


def _round_up(value: float) -> float:
    """The next number with one leading digit that divides by four."""
    unit = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(float(unit * k) for k in (1, 2, 4, 8, 12) if unit * k >= value)
