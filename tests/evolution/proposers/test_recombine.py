from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("libcst")

from upwright.evolution.blocks import Scope, outside
from upwright.evolution.proposers._source import compiles
from upwright.evolution.proposers.base import Brief, Proposer
from upwright.evolution.proposers.recombine import Recombine
from upwright.evolution.proposers.structure import Structure

from .conftest import candidate_of
from .test_structure import SORTS

HEAD = "import math\n# EVOLVE-BLOCK-START\n"
TAIL = "# EVOLVE-BLOCK-END\n\n\ndef run():\n    return a(1), b(2)\n"


def module(*parts: str) -> str:
    return HEAD + "\n\n".join(parts) + TAIL


OLD_A, NEW_A = "def a(x):\n    return x\n", "def a(x):\n    return helper(np.abs(x))\n"
OLD_B, NEW_B = (
    "def b(x):\n    y = x\n    z = 1\n    return y + z\n",
    "def b(x):\n    y = 2 * x\n    z = 1\n    return y * z\n",
)
HELPER = "import numpy as np\n\n\ndef helper(x):\n    return math.floor(x)\n"


def mixtures(brief: Callable[..., Brief], *programs: str, seeds: int = 12) -> set[str]:
    return {d.program["program.py"] for seed in range(seeds) for d in Recombine().propose(brief(*programs, seed=seed))}


def test_it_is_a_proposer() -> None:
    assert isinstance(Recombine(), Proposer)


def test_two_improvements_come_together(brief: Callable[..., Brief]) -> None:
    first = module("def a(x):\n    return x + 9\n", "UNTOUCHED = 1\n", OLD_B)
    second = module(OLD_A, "UNTOUCHED = 1\n", NEW_B)
    found = mixtures(brief, first, second)
    assert module("def a(x):\n    return x + 9\n", "UNTOUCHED = 1\n", NEW_B) in found
    assert found.isdisjoint({first, second})


def test_a_function_brings_what_it_needs(brief: Callable[..., Brief]) -> None:
    found = mixtures(brief, module(OLD_A, OLD_B), module(HELPER, NEW_A, NEW_B))
    whole = [t for t in found if NEW_A in t and OLD_B in t]
    assert any("import numpy as np" in t and "def helper" in t for t in whole)
    for text in whole:
        space: dict[str, object] = {}
        if "def helper" in text and "import numpy" in text:
            exec(text, space)
            assert space["run"]() == (1, 3)  # type: ignore[operator]


def test_both_parents_are_named(brief: Callable[..., Brief]) -> None:
    asked = brief(module(OLD_A, OLD_B), module(HELPER, NEW_A, NEW_B))
    for draft in Recombine().propose(asked):
        assert draft.parents == (asked.parent.digest, asked.inspirations[0].digest)


def test_files_are_mixed_as_a_whole(brief: Callable[..., Brief]) -> None:
    mine = {"a.txt": "1", "b.txt": "1", "c.txt": "1", "fixed.txt": "0"}
    other = {"a.txt": "2", "b.txt": "2", "fixed.txt": "0"}
    scope = Scope(("a.txt", "b.txt", "c.txt"))
    found = [d.program for seed in range(20) for d in Recombine().propose(brief(mine, other, scope=scope, seed=seed))]
    assert {"a.txt": "2", "b.txt": "1", "c.txt": "1", "fixed.txt": "0"} in found
    assert {"a.txt": "1", "b.txt": "1", "fixed.txt": "0"} in found
    assert all(outside(mine, program, scope) == [] for program in found)


def test_alone_there_is_nothing_to_mix(brief: Callable[..., Brief]) -> None:
    assert Recombine().propose(brief(SORTS)) == []
    assert Recombine().propose(brief(SORTS, SORTS.replace("16", "17"))) == []


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_what_comes_out_is_python_that_differs_where_it_may(seed: int) -> None:
    rng = random.Random(seed)
    parents = []
    for _ in range(2):
        text = SORTS
        for _ in range(2):
            made = Structure().propose(Brief(candidate_of(text), (), (), Scope(), "q", "max", rng, 1))
            text = made[0].program["program.py"] if made else text
        parents.append(candidate_of(text))
    brief = Brief(parents[0], (parents[1],), (), Scope(), "q", "max", rng, 4)
    for draft in Recombine().propose(brief):
        assert compiles(draft.program["program.py"])
        assert outside(parents[0].program, draft.program, Scope()) == []
        assert draft.program not in (parents[0].program, parents[1].program)
