"""Mutations of the syntax tree (``libcst``): one to three small changes at once, of kinds that paid before more often.

Changes are spliced into the text, so that everything else stays as it is written. What does not compile, or is the parent
again, is not proposed. Which kind of change is made is drawn by Thompson sampling on how often its drafts were better than their parent.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from upwright.errors import BodyError
from upwright.evolution.proposers._changes import CHANGES, Edits, Spot
from upwright.evolution.proposers._places import places
from upwright.evolution.proposers._source import Source, compiles, sources, spliced
from upwright.evolution.proposers.base import Brief, Draft, Program, Result, Scope
from upwright.evolution.records import program_digest

TRIES = 12
"""Attempts for each draft that is wanted."""
MORE = 0.3
"""How often a further change is made on top; :data:`MOST` changes at most."""
MOST = 3
FADE = 0.98
REMEMBERED = 10_000
"""Drafts whose verdict is still awaited."""


@dataclass(frozen=True, slots=True)
class _Asked:
    kinds: tuple[str, ...]
    score: float


class Structure:
    """The ``structure`` proposer."""

    name = "structure"
    cost = 0.01

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        self._paid: dict[str, tuple[float, float]] = {}

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """Programs that differ from the parent in one to three places."""
        if brief.parent.score is None:
            return []
        drafts: dict[str, Draft] = {}
        for _ in range(TRIES * brief.n):
            if len(drafts) == brief.n:
                break
            made = self._mutated(brief)
            if made is None:
                continue
            program, kinds, changes = made
            digest = program_digest(program)
            if digest in drafts or digest in self._asked or digest == brief.parent.digest:
                continue
            drafts[digest] = Draft(program, self.name, ", ".join(kinds), (brief.parent.digest,), changes)
            self._asked[digest] = _Asked(kinds, brief.parent.score)
        while len(self._asked) > REMEMBERED:
            del self._asked[next(iter(self._asked))]
        return list(drafts.values())

    def told(self, draft: Draft, result: Result) -> None:
        """Learn which kinds of change make a program better than its parent."""
        asked = self._asked.pop(program_digest(draft.program), None)
        if asked is None:
            return
        better = result.score is not None and result.score > asked.score
        for kind in asked.kinds:
            good, bad = self._paid.get(kind, (0.0, 0.0))
            self._paid[kind] = good * FADE + better, bad * FADE + (not better)

    def _mutated(self, brief: Brief) -> tuple[Program, tuple[str, ...], str] | None:
        """A program after some changes, their kinds, and what was changed in words."""
        program, kinds, said = brief.parent.program, [], []
        for _ in range(MOST):
            found = sources(program, brief.scope)
            if not found:
                return None
            source = found[0] if len(found) == 1 else brief.rng.choice(found)
            kind = self._kind(brief.rng)
            edits = CHANGES[kind](Spot(source, places(source), brief.rng))
            text = applied(source, edits, brief.scope) if edits else None
            if text is not None and edits:
                program = {**program, source.path: text}
                kinds.append(kind)
                said.append(_told(source, edits))
                if brief.rng.random() >= MORE:
                    break
        return (program, tuple(kinds), "; ".join(said)) if kinds else None

    def _kind(self, rng: random.Random) -> str:
        drawn = {
            kind: rng.betavariate(1 + good, 4 + bad)
            for kind, (good, bad) in ((k, self._paid.get(k, (0.0, 0.0))) for k in CHANGES)
        }
        return max(drawn, key=lambda kind: drawn[kind])


def applied(source: Source, edits: Edits, scope: Scope) -> str | None:
    """The file after changes; ``None`` where that is no Python, nothing new, or has other markers than before."""
    spans = sorted((span for span, _ in edits), key=lambda span: (span.start, span.stop))
    if any(a.stop > b.start for a, b in pairwise(spans)):
        return None
    if not all(any(span in free for free in source.free) for span in spans):
        return None
    text = spliced(source.data, edits)
    if text.encode() == source.data or not compiles(text):
        return None
    try:
        same = len(scope.spans(source.path, text)) == len(scope.spans(source.path, source.data.decode()))
    except BodyError:
        return None
    return text if same else None


def _told(source: Source, edits: Edits) -> str:
    """A change in words."""
    span, new = edits[0]
    old = " ".join(source.data[span.start : span.stop].decode().split())
    new = " ".join(new.split())
    return f"line {source.line(span.start) + 1}: {_short(old) or 'nothing'} → {_short(new) or 'nothing'}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
