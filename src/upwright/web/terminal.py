"""The report on a terminal: the same content as the page, in short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from upwright.lines import GenerationLine, Measure
from upwright.web import frontiers, planned, programs, shapes
from upwright.web.facts import Facts, calibration_lines, headline, knowing_told

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 44
BLOCKS = "▁▂▃▄▅▆▇█"
MOST = 12
"""Kept and rejected candidates shown, the last ones; `upwright log --all` shows every one."""


def show(console: Console, facts: Facts) -> None:
    """Print the report."""
    from rich.text import Text

    for text in lines(facts):
        style = "bold" if text and not text.startswith(" ") else ""
        console.print(Text(text, style=style), soft_wrap=True)


def lines(facts: Facts) -> list[str]:
    """The report as plain lines; those that do not begin with a space are headings."""
    line = facts.lineage
    told = [f"{facts.name}: {headline(facts)}"]
    if not line.generations:
        return told
    if metrics := programs.lines(line, facts.search):
        told += ["", "what the evaluator measured, in sealed runs", *(f"  {text}" for text in metrics)]
    told += [] if metrics else _confirmed(facts)
    if reached := frontiers.told(line.generations):
        told += [
            "",
            "how far it reaches: the hardest difficulty with so many answers right, on practice (95 % intervals)",
        ]
        told += [f"  {sentence}" for sentence in reached]
    if facts.curves and not metrics:
        told += ["", "by skill"]
        told += [
            f"  {skill:<20} {spark(m for _, m in points)}  {_path(points)}" for skill, points in facts.curves.items()
        ]
    if facts.knowing:
        told += ["", "how well its confidence tells right answers from wrong ones, on practice"]
        told += [f"  {sentence}" for sentence in knowing_told(facts)]
    told += _kept(facts)
    if line.plans:
        told += ["", "what was planned, and what happened"]
        told += [f"  {text}" for text in planned.lines(line.plans)]
    told += ["", "what got worse"]
    told += [f"  {_worse(w.generation, w.what, w.change)}" for w in facts.worse] or ["  nothing that was measured"]
    rejected = [c for c in line.candidates if c.why and not c.promoted]
    told += ["", f"what was rejected ({len(rejected)})"]
    told += [f"  {c.round:>3} {c.lever}: {c.decision or 'not tested'}; {c.why}" for c in rejected[-MOST:]]
    told += ["", "what it cost"]
    told.append(
        f"  {line.spent.seconds:.0f} s, {line.spent.tokens} tokens, money {line.spent.money:.2f}; {line.tests} tests"
    )
    if line.calibration:
        told += ["", "calibration of the gate", *(f"  {text}" for text in calibration_lines(line.calibration))]
    if facts.ledger:
        ok = f"{facts.ledger.entries} entries, every hash, signature, threshold and verdict follows"
        broken = f"BROKEN at entry {facts.ledger.index}: {facts.ledger.problem}"
        told += ["", "ledger", f"  {ok if facts.ledger.ok else broken}"]
    return told


def _kept(facts: Facts) -> list[str]:
    """The generations, the newest :data:`MOST`, each with its reason, cost and evidence."""
    kept = facts.lineage.generations[1:]
    told = ["", "what was kept, and why it was tried", *_older(kept)]
    for g in kept[-MOST:]:
        e = g.evidence
        told.append(f"  {g.number:>3} {g.lever or '–'}: {g.reason}")
        told.append(f"      changed {', '.join(g.changed) or '–'}; learned from {g.rung or '–'}")
        if g.digest in facts.shapes:
            told.append(f"      network: {shapes.told(facts.shapes[g.digest])}")
            told += [f"      recipe: {change}" for change in facts.shapes[g.digest].recipe]
        if found := g.note.get("found by"):
            told.append(f"      found by {found}")
        told.append(
            f"      cost: {g.build.seconds:.0f} s to build it, {g.cost.seconds:.0f} s since the generation before"
        )
        if e:
            told.append(f"      evidence: {'measured again' if e.claim else e.weight}; {e.reason}")
    return told


def _confirmed(facts: Facts) -> list[str]:
    """The confirmed scores, a line for each generation."""
    told = [
        f"  {g.number:>3} {band(g.score)}  {_score(g.score)}{'  rolled back' * g.rolled_back}"
        for g in facts.lineage.generations
    ]
    return ["", "confirmed score by generation", *told, f"  {facts.trajectory.sentence}"]


def _older(kept: Sequence[GenerationLine]) -> list[str]:
    """That some are left out."""
    left = len(kept) - MOST
    return [f"  {left} older one{'s' * (left != 1)}: `upwright log`"] if left > 0 else []


def band(m: Measure | None) -> str:
    """A score and its interval drawn on a line from 0 to 100 %."""
    cells = ["·"] * WIDTH
    if m is not None:
        low, at, high = (min(WIDTH - 1, max(0, int(v * WIDTH))) for v in (m.interval.low, m.mean, m.interval.high))
        cells[low : high + 1] = "━" * (high - low + 1)
        cells[at] = "●"
    return "".join(cells)


def spark(values: Iterable[Measure]) -> str:
    """One block per generation; a full block is 100 %."""
    return "".join(BLOCKS[min(len(BLOCKS) - 1, int(m.mean * len(BLOCKS)))] for m in values)


def _score(m: Measure | None) -> str:
    return (
        "not confirmed"
        if m is None
        else f"{100 * m.mean:5.1f} % ({100 * m.interval.low:.1f} to {100 * m.interval.high:.1f})"
    )


def _path(points: Sequence[tuple[int, Measure]]) -> str:
    return " → ".join(f"{100 * m.mean:.0f}" for _, m in points) + " %"


def _worse(generation: int, what: str, change: float) -> str:
    return f"generation {generation}: {what}, {100 * change:+.1f} points"
