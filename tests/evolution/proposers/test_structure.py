from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("libcst")

from upwright.evolution.blocks import Scope, outside
from upwright.evolution.proposers._changes import CHANGES, Spot
from upwright.evolution.proposers._places import places
from upwright.evolution.proposers._source import compiles, source_of
from upwright.evolution.proposers.base import Brief, Proposer, Result
from upwright.evolution.proposers.structure import Structure, applied

from .conftest import candidate_of

SORTS = '''"""Sorts numbers."""
from __future__ import annotations
import math
# EVOLVE-BLOCK-START
SIZE = 16


class Box:
    """Holds one."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value


def sort(items: list[float], *, key=None) -> list[float]:
    """Insertion."""
    items = list(items)
    for i in range(1, len(items)):  # each in turn
        j, x = i, items[i]
        while j > 0 and items[j - 1] > x:
            items[j] = items[j - 1]
            j -= 1
        items[j] = x
    if not items: return []
    total = sum(math.sqrt(abs(v)) for v in items if v is not None)
    text = f"{total:.2f} of {len(items)}"
    box = Box(total); extra = [a + b for a, b in zip(items, items[1:])]
    try:
        best = min(items, max(items), key=lambda v: -v)
    except ValueError as error:
        best = None
    else:
        del extra
    return items if len(text) > 3 or best in items else [box.value]
# EVOLVE-BLOCK-END


def run():
    return sort([3.0, 1.0, 2.0])
'''
ROOT = Path(__file__).parents[3]
REAL = [
    path.read_text()
    for path in [ROOT / "examples/circle_packing/program.py", ROOT / "src/upwright/evolution/blocks.py"]
]
TEXTS = [SORTS, *REAL]


def make(text: str, seed: int, n: int = 4, scope: Scope | None = None) -> Brief:
    return Brief(candidate_of(text), (), (), scope or Scope(), "quality", "max", random.Random(seed), n)


def test_it_is_a_proposer() -> None:
    assert isinstance(Structure(), Proposer)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(TEXTS))
def test_what_comes_out_is_python_that_differs_where_it_may(seed: int, text: str) -> None:
    brief = make(text, seed)
    drafts = Structure().propose(brief)
    assert drafts
    assert len({draft.program["program.py"] for draft in drafts}) == len(drafts)
    for draft in drafts:
        assert draft.program != brief.parent.program
        assert compiles(draft.program["program.py"])
        assert outside(brief.parent.program, draft.program, brief.scope) == []
        assert draft.note
        assert "→" in draft.changes


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(sorted(CHANGES)))
def test_every_kind_of_change_is_python_or_nothing(seed: int, kind: str) -> None:
    source = source_of("program.py", SORTS, Scope())
    assert source is not None
    edits = CHANGES[kind](Spot(source, places(source), random.Random(seed)))
    text = applied(source, edits, Scope()) if edits else None
    if text is not None:
        assert outside({"program.py": SORTS}, {"program.py": text}, Scope()) == []


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_every_kind_of_change_comes_about(kind: str) -> None:
    source = source_of("program.py", SORTS, Scope())
    assert source is not None
    made = (CHANGES[kind](Spot(source, places(source), random.Random(seed))) for seed in range(40))
    assert any(applied(source, edits, Scope()) for edits in made if edits)


def test_what_is_not_changed_stays_byte_for_byte() -> None:
    before = SORTS.splitlines()
    for draft in Structure().propose(make(SORTS, 5, 12)):
        after = Counter(draft.program["program.py"].splitlines())
        assert sum((Counter(before) - after).values()) <= 24
        assert "# each in turn" in draft.program["program.py"] or "for" in draft.changes


def test_the_same_chance_makes_the_same_drafts() -> None:
    assert Structure().propose(make(SORTS, 3)) == Structure().propose(make(SORTS, 3))


def test_kinds_that_pay_are_made_more_often() -> None:
    proposer, seen = Structure(), Counter[str]()
    for seed in range(30):
        for draft in proposer.propose(make(SORTS, seed)):
            kinds = draft.note.split(", ")
            proposer.told(draft, Result(0.9 if "delete" in kinds else 0.1))
            if seed >= 15:
                seen.update(kinds)
    assert seen.most_common(1)[0][0] == "delete"


@pytest.mark.parametrize("text", ["def run(:\n", "", "# only a comment\n", "x\r\n"])
def test_where_nothing_can_be_changed_there_is_nothing(text: str) -> None:
    assert Structure().propose(make(text, 0)) == []


def test_a_scope_that_holds_no_python_is_left_alone(brief: Callable[..., Brief]) -> None:
    program = {"program.py": SORTS, "notes.txt": "def f(): return 1\n"}
    assert Structure().propose(brief(program, scope=Scope(("notes.txt",)))) == []
    assert Structure().propose(brief(program, score=None)) == []
