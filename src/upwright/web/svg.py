"""Small charts as inline SVG: scores from 0 to 100 % by generation, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from upwright.lines import Measure


@dataclass(frozen=True, slots=True)
class Point:
    """One score; ``faded`` for a generation that was rolled back."""

    generation: int
    score: Measure
    label: str = ""
    faded: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a chart and the room around its plot, in SVG units."""

    width: int
    height: int
    left: int = 44
    right: int = 16
    top: int = 14
    bottom: int = 34
    small: bool = False

    def x(self, generation: int, last: int) -> float:
        """Position of a generation on an axis from 0 to ``last``."""
        inner = self.width - self.left - self.right
        return self.left + inner * ((generation + 0.5) / (last + 1))

    def y(self, score: float) -> float:
        """Position of a score in [0, 1]."""
        inner = self.height - self.top - self.bottom
        return self.top + inner * (1 - min(1.0, max(0.0, score)))


LARGE = Frame(760, 300)
SMALL = Frame(236, 132, left=30, right=8, top=10, bottom=20, small=True)


def curve(points: Sequence[Point], title: str, last: int, frame: Frame = LARGE) -> str:
    """A chart of scores; the intervals are bars, each point tells its numbers on hover.

    Args:
        last: the number of the newest generation, so that charts side by side share an axis.
    """
    parts = [
        f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
        *_axes(frame, last),
    ]
    line = [p for p in points if not p.faded]
    if len(line) > 1:
        path = " ".join(f"{frame.x(p.generation, last):.1f},{frame.y(p.score.mean):.1f}" for p in line)
        parts.append(f'<polyline class="line" points="{path}"/>')
    for p in points:
        parts += _point(p, frame, last)
    return "".join([*parts, "</svg>"])


def _axes(frame: Frame, last: int) -> list[str]:
    parts = []
    for percent in (0, 50, 100) if frame.small else (0, 25, 50, 75, 100):
        y = frame.y(percent / 100)
        parts.append(
            f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text class="tick" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{percent}</text>')
    every = max(1, -(-(last + 1) // (6 if frame.small else 16)))
    for number in range(0, last + 1, every):
        x = frame.x(number, last)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{frame.height - frame.bottom + 15}" text-anchor="middle">{number}</text>'
        )
    if not frame.small:
        middle = (frame.left + frame.width - frame.right) / 2
        parts.append(
            f'<text class="tick" x="{middle:.0f}" y="{frame.height - 3}" text-anchor="middle">generation</text>'
        )
    return parts


def _point(p: Point, frame: Frame, last: int) -> list[str]:
    x, low, high = frame.x(p.generation, last), frame.y(p.score.interval.low), frame.y(p.score.interval.high)
    y, cap = frame.y(p.score.mean), 3 if frame.small else 6
    ends = f"{100 * p.score.interval.low:.1f} to {100 * p.score.interval.high:.1f}"
    told = f"generation {p.generation}: {100 * p.score.mean:.1f} % ({ends}), {p.score.n} tasks{'; ' + p.label if p.label else ''}"
    parts = [
        f'<g class="point{" faded" if p.faded else ""}"><title>{escape(told)}</title>',
        f'<path class="bar" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - cap:.1f} {low:.1f}h{2 * cap}M{x - cap:.1f} {high:.1f}h{2 * cap}"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 if frame.small else 5}"/>',
    ]
    if not frame.small:
        parts.append(f'<text class="value" x="{x + 10:.1f}" y="{y + 4:.1f}">{100 * p.score.mean:.1f} %</text>')
    return [*parts, "</g>"]
