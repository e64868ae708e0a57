"""Programs in the report: the evaluator's metric beside the score, and every candidate that was tried as one picture.

The picture and the counts are of practice, read from the archive of the search: a candidate that looks best there is not proven. What is proven are the
generations, whose metric comes from sealed runs.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from upwright.bodies.program import FOLDER
from upwright.bodies.store import Store
from upwright.errors import UpwrightError
from upwright.evolution.records import program_digest
from upwright.lines import GenerationLine, Lineage
from upwright.metrics import Metric, number, numbers
from upwright.project import Project
from upwright.warden.errors import WardenFault
from upwright.warden.evaluator_spec import EvaluatorSpec
from upwright.web.svg import LARGE, Frame

ARCHIVES = "archive*.db"
"""Where a project's searches keep what they tried, inside ``.upwright/``."""

MOST = 12
"""Measurements that the terminal shows."""
DOTS = 2000
"""Candidates drawn; of more, every so many-th, and each that was the best so far."""
BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 44
FRAME = Frame(LARGE.width, 260, left=64)


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate on practice: its number, its metric (``None`` where it failed), who proposed it."""

    number: int
    metric: float | None
    proposer: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """What a search over programs tried.

    Attributes:
        best: those candidates that were the best so far, in order.
        by_proposer: name → (candidates, failed, how often it found a new best).
        failures: kind of failure → candidates; ``refused``: kind of refusal → drafts that were never run.
        kept: number of a generation → the candidate that it is.
    """

    name: str
    direction: str
    tried: tuple[Tried, ...]
    best: tuple[Tried, ...]
    by_proposer: Mapping[str, tuple[int, int, int]]
    failures: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[int, Tried] = field(default_factory=dict)


def read_search(paths: Iterable[Path], metric: Metric, programs: Mapping[int, str] | None = None) -> Search | None:
    """What the archives of a search tell; ``None`` where nothing was tried.

    Args:
        metric: the objective's.
        programs: number of a generation → digest of its program.
    """
    rows, failures, refused = list[tuple[str, str, str]](), dict[str, int](), dict[str, int]()
    for path in paths:
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
                # what a failed run measured is no result: the evaluator itself may have said so
                metrics = "CASE WHEN kind = '' THEN metrics ELSE '{}' END"
                query = f"SELECT {metrics}, proposer, digest FROM candidate WHERE event IS NOT NULL ORDER BY number"
                rows += db.execute(query).fetchall()
                _add(failures, db.execute("SELECT kind, count(*) FROM candidate WHERE kind != '' GROUP BY kind"))
                _add(refused, db.execute("SELECT kind, count(*) FROM refused GROUP BY kind"))
        except sqlite3.Error:
            continue  # a search that is about to begin has no tables yet
    if not rows:
        return None
    tried = tuple(Tried(n, _number(metrics, metric.name), who, digest) for n, (metrics, who, digest) in enumerate(rows))
    best, counts = list[Tried](), dict[str, list[int]]()
    sign = 1 if metric.direction == "max" else -1
    for one in tried:
        count = counts.setdefault(one.proposer or "the first program", [0, 0, 0])
        count[0] += 1
        count[1] += one.metric is None
        if one.metric is not None and (not best or sign * one.metric > sign * (best[-1].metric or 0.0)):
            best.append(one)
            count[2] += 1
    found = {digest: one for one in tried if (digest := one.digest)}
    kept = {n: found[digest] for n, digest in (programs or {}).items() if digest in found}
    by_proposer = {name: (c[0], c[1], c[2]) for name, c in counts.items()}
    return Search(metric.name, metric.direction, tried, tuple(best), by_proposer, failures, refused, kept)


def gather_search(project: Project, line: Lineage) -> Search | None:
    """What a project's searches tried; ``None`` where its body is no program."""
    metric = objective(line) or named(project, line)
    if metric is None:
        return None
    store, programs = Store(project.state / "store"), dict[int, str]()
    for g in line.generations:
        try:
            files = store.get(g.digest).files
            texts = {p.removeprefix(FOLDER): store.file(store.get(g.digest), p) for p in files if p.startswith(FOLDER)}
        except UpwrightError:
            continue
        programs[g.number] = program_digest({p: b.decode("utf-8", "surrogateescape") for p, b in texts.items()})
    return read_search(archives(project), metric, programs)


def archives(project: Project) -> list[Path]:
    """The archives of a project's searches, oldest first."""
    return sorted(project.state.glob(ARCHIVES), key=lambda path: path.stat().st_mtime)


def named(project: Project, line: Lineage) -> Metric | None:
    """The objective's metric as its evaluator has it, before anything was measured in a sealed run; ``None`` where it is no evaluator."""
    given = project.settings.suites.get(line.objective)
    if given is None or not given.source.startswith("evaluator:"):
        return None
    folder, _, name = given.source.removeprefix("evaluator:").partition("#")
    try:
        spec = EvaluatorSpec.read(project.root / folder)
    except WardenFault:
        return None
    return Metric(line.objective, name or spec.metric, spec.of(name or None).direction, None, None, 0)


def objective(line: Lineage) -> Metric | None:
    """The newest measurement of the objective's metric; ``None`` for bodies that are no programs."""
    every = [m for g in reversed(line.generations) for m in g.metrics] + [m for c in line.candidates for m in c.metrics]
    return next((m for m in every if m.suite == line.objective), None)


def sentence(line: Lineage) -> str:
    """From where to where the metric came, by sealed runs; empty where that is not known."""
    total = next((m for v in reversed(line.vault) if v.digest == line.champion for m in v.metrics), None)
    champion = line.of(line.champion)
    if total is not None:
        return _sentence(total, total.former, total.child)
    if champion is None or not champion.number or not champion.metrics:
        return ""
    first = line.generations[0].metrics
    now = champion.metrics[0]
    return _sentence(now, first[0].former if first else now.former, now.child)


def _sentence(m: Metric, before: float | None, after: float | None) -> str:
    told = numbers(before, after)
    runs = f"in each of {m.n} sealed runs" if m.exact else f"mean of {m.n} sealed runs each"
    return f"{m.name} from {told[0]} to {told[1]} ({'more' if m.direction == 'max' else 'less'} is better; {runs})"


def tile(m: Metric) -> tuple[str, str, str]:
    """Title, number and small print of what the champion measured."""
    better = "more" if m.direction == "max" else "less"
    return f"champion's {m.name}", escape(number(m.child)), f"{better} is better; {m.n} sealed runs"


# ---- the terminal -------------------------------------------------------------------------------


def lines(line: Lineage, search: Search | None) -> list[str]:
    """For the terminal: the metric of every generation, then what was tried."""
    told = [
        f"{g.number:>3} {m.told if g.number else f'{m.name} {number(m.child)}'}"
        for g in line.generations
        for m in g.metrics
    ]
    if len(told) > MOST:
        left = len(told) - MOST
        told[MOST // 2 : len(told) - MOST // 2] = [f"    … {left} more: `upwright log`"]
    if search is not None:
        told.append(f"best {search.name} on practice over {len(search.tried)} candidates: {spark(search)}")
        told += counted(search)
    return told


def counted(search: Search) -> list[str]:
    """Who tried how much, and what failed."""
    told = []
    for name, (count, failed, best) in search.by_proposer.items():
        fails = f", {failed} failed" if failed else ""
        told.append(f"{name}: {count} candidate{'s' * (count != 1)}{fails}, {best} times the best so far")
    for what, kinds in (("failed", search.failures), ("not run", search.refused)):
        if kinds:
            told.append(f"{what}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    return told


def spark(search: Search) -> str:
    """The best so far, one block for each share of the candidates."""
    if not search.best:
        return "none has a score"
    low, high = (search.best[0].metric or 0.0), (search.best[-1].metric or 0.0)
    told = numbers(low, high)
    cells, at = "", search.best[0]
    for cell in range(WIDTH):
        until = (cell + 1) * len(search.tried) / WIDTH
        at = next((b for b in reversed(search.best) if b.number < until), search.best[0])
        share = 1.0 if low == high else ((at.metric or 0.0) - low) / (high - low)
        cells += BLOCKS[min(len(BLOCKS) - 1, int(share * len(BLOCKS)))]
    return f"{told[0]} {cells} {told[1]}"


# ---- the page -----------------------------------------------------------------------------------


def section(line: Lineage, search: Search | None) -> str:
    """The page's section; empty for bodies that are no programs."""
    if search is None and objective(line) is None:
        return ""
    parts = ["<h2>The metric</h2>"]
    if told := sentence(line):
        parts.append(f"<p>Proven: {escape(told)}.</p>")
    rows = "".join(_row(g, m) for g in line.generations for m in g.metrics)
    if rows:
        head = "".join(f"<th{kind}>{name}</th>" for name, kind in _COLUMNS)
        parts.append(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>')
    if search is not None:
        items = "".join(f"<li>{escape(text)}</li>" for text in counted(search))
        parts.append(
            f"<h3>Every candidate, on practice</h3><figure>{picture(search)}</figure>"
            '<p class="soft">Each dot is one candidate, the line the best so far: what the search saw while it chose, and no proof. '
            f"Rings are the candidates that the warden let in.</p><ul>{items}</ul>"
        )
    return "".join(parts)


_NUMERIC = ' class="n"'
_COLUMNS = (("gen", _NUMERIC), ("metric", ""), ("before", _NUMERIC), ("now", _NUMERIC), ("sealed runs", _NUMERIC))


def _row(g: GenerationLine, m: Metric) -> str:
    before, now = numbers(m.former, m.child)
    kind = {True: ' class="n good"', False: ' class="n bad"', None: _NUMERIC}[m.better if g.number else None]
    cells = (
        f"<td{_NUMERIC}>{g.number}</td><td>{escape(m.name)}</td><td{_NUMERIC}>{before if g.number else '–'}</td>"
        f"<td{kind}>{now}</td><td{_NUMERIC}>{m.n}{', exact' if m.exact else ''}</td>"
    )
    return f"<tr>{cells}</tr>"


def picture(search: Search) -> str:
    """Metric over candidates: a dot for each, a step for each new best, a ring for what was let in."""
    scale = _Scale.of(search)
    title = f"{search.name} over {len(search.tried)} candidates: {' → '.join(_ends(search))}"
    parts = [
        f'<svg viewBox="0 0 {FRAME.width} {FRAME.height}" role="img" aria-label="{escape(title, quote=True)}">',
        f"<title>{escape(title)}</title>",
        *scale.axes(),
    ]
    kept = {one.number for one in (*search.best, *search.kept.values())}
    step = max(1, len(search.tried) // DOTS)
    drawn = [t for t in search.tried if t.metric is not None and (t.number % step == 0 or t.number in kept)]
    parts += [
        f'<circle class="faded" cx="{scale.x(t.number):.1f}" cy="{scale.y(t.metric or 0.0):.1f}" r="2.2"/>'
        for t in drawn
    ]
    parts.append(_steps(search, scale))
    for generation, one in search.kept.items():
        if one.metric is None:
            continue
        told = f"generation {generation}: candidate {one.number} by {one.proposer or 'hand'}, {number(one.metric)} on practice"
        x, y = scale.x(one.number), scale.y(one.metric)
        parts.append(
            f'<g class="point"><title>{escape(told)}</title><circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
            f'<text class="value" x="{x + 10:.1f}" y="{y + 4:.1f}">{generation}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def _ends(search: Search) -> tuple[str, ...]:
    if not search.best:
        return ("none has a score",)
    return numbers(search.best[0].metric, search.best[-1].metric)


def _steps(search: Search, scale: _Scale) -> str:
    if not search.best:
        return ""
    path = f"M{scale.x(search.best[0].number):.1f} {scale.y(search.best[0].metric or 0.0):.1f}"
    for one in search.best[1:]:
        path += f"H{scale.x(one.number):.1f}V{scale.y(one.metric or 0.0):.1f}"
    return f'<path class="line" d="{path}H{scale.x(len(search.tried) - 1):.1f}"/>'


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a candidate and a metric lie; what is far worse than the rest lies on the lower edge."""

    last: int
    low: float
    high: float
    flipped: bool

    @staticmethod
    def of(search: Search) -> _Scale:
        """From the best and the better half of what was tried."""
        values = sorted(t.metric for t in search.tried if t.metric is not None)
        flipped = search.direction == "min"
        if not values:
            return _Scale(len(search.tried) - 1, 0.0, 1.0, flipped)
        middle = values[len(values) // 2]
        first = (search.best[0].metric or 0.0) if search.best else middle
        best = values[0] if flipped else values[-1]
        worst = max(first, middle) if flipped else min(first, middle)
        low, high = min(best, worst), max(best, worst)
        room = 0.08 * (high - low) or max(abs(high), 1.0) * 0.01
        return _Scale(max(1, len(search.tried) - 1), low - room, high + room, flipped)

    def x(self, candidate: int) -> float:
        """Position of a candidate."""
        return FRAME.left + (FRAME.width - FRAME.left - FRAME.right) * candidate / max(1, self.last)

    def y(self, metric: float) -> float:
        """Position of a metric; better is higher."""
        share = (metric - self.low) / (self.high - self.low)
        return FRAME.y(1 - share if self.flipped else share)

    def axes(self) -> list[str]:
        """Grid and numbers."""
        parts = []
        ticks = [self.low + (self.high - self.low) * k / 4 for k in range(5)]
        digits = max(3, 2 - math.floor(math.log10((self.high - self.low) / max(abs(self.low), abs(self.high), 1e-300))))
        for value in ticks:
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{FRAME.left}" x2="{FRAME.width - FRAME.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{FRAME.left - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value, min(digits, 6))}</text>'
            )
        bottom = FRAME.height - FRAME.bottom + 15
        for k in range(5):
            at = round(self.last * k / 4)
            parts.append(f'<text class="tick" x="{self.x(at):.1f}" y="{bottom}" text-anchor="middle">{at}</text>')
        middle = (FRAME.left + FRAME.width - FRAME.right) / 2
        parts.append(
            f'<text class="tick" x="{middle:.0f}" y="{FRAME.height - 3}" text-anchor="middle">candidate</text>'
        )
        return parts


def _add(counts: dict[str, int], rows: Iterable[Sequence[object]]) -> None:
    for kind, count in rows:
        counts[str(kind)] = counts.get(str(kind), 0) + int(str(count))


def _number(metrics: str, name: str) -> float | None:
    value = json.loads(metrics).get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
