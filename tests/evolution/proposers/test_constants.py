from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("cma")
pytest.importorskip("libcst")

from upwright.evolution.blocks import Scope
from upwright.evolution.proposers._literals import literals, skeleton, spelled, written
from upwright.evolution.proposers.base import Brief, Proposer, Result
from upwright.evolution.proposers.constants import Constants

TWO = "def run():\n    a = 3.0\n    b = 0.5\n    return a, b\n"


def floats(text: str) -> list[float]:
    return [n.value for n in literals({"program.py": text}, Scope())]


def test_it_is_a_proposer() -> None:
    assert isinstance(Constants(), Proposer)


def test_numbers_are_found_where_they_say_how_much() -> None:
    text = (
        "import numpy as np\nRATE = -0.25\nseed = 77\n\n\ndef f(x: int, y=1.5):\n    rng = np.random.default_rng(5)\n"
        "    z = x[3] ** 2 + np.sum(x, axis=4) + 12\n    return z * 0.5 + 0x10 + 1, [0, -1, 2.0, 3]\n"
    )
    assert floats(text) == [-0.25, 1.5, 12.0, 0.5, 0.0, -1.0, 2.0, 3.0]


def test_numbers_outside_of_the_blocks_are_left_alone() -> None:
    text = "A = 2.5\n# EVOLVE-BLOCK-START\nB = 3.5\n# EVOLVE-BLOCK-END\nC = 4.5\n"
    assert floats(text) == [3.5]
    assert [n.value for n in literals({"program.py": text}, Scope(blocks=False))] == [2.5, 3.5, 4.5]
    assert literals({"program.py": text}, Scope(("other.py",))) == ()


@pytest.mark.parametrize("value", [0.1, -3.0, 1e-30, 123456.789, 0.0])
def test_a_number_that_is_written_reads_back(value: float) -> None:
    numbers = literals({"program.py": TWO}, Scope())
    assert floats(written({"program.py": TWO}, numbers, [value, value])["program.py"]) == [value, value]


def test_a_sign_that_comes_in_front_of_a_power_is_put_into_brackets() -> None:
    (number,) = literals({"program.py": "y = 2.5 ** x\n"}, Scope())
    assert spelled(number, -1.5) == "(-1.5)"


def test_programs_that_differ_in_numbers_alone_have_one_skeleton() -> None:
    def of(text: str) -> str:
        return skeleton({"program.py": text}, literals({"program.py": text}, Scope()))

    assert of(TWO) == of(TWO.replace("0.5", "0.75").replace("3.0", "1e9"))
    assert of(TWO) != of(TWO.replace("a,", "a + b,"))


def ask(
    proposer: Constants, brief: Callable[..., Brief], quality: Callable[[float, float], float], asks: int
) -> tuple[float, str]:
    """A search in which the best so far is always the parent."""
    best, score = TWO, quality(3.0, 0.5)
    for step in range(asks):
        for draft in proposer.propose(brief(best, score=score, seed=step)):
            text = draft.program["program.py"]
            told = quality(*floats(text))
            proposer.told(draft, Result(told))
            if told > score:
                best, score = text, told
    return score, best


def bowl(a: float, b: float) -> float:
    return 1 / (1 + (a - 7.0) ** 2 + 30 * (b - 0.1) ** 2)


def test_it_finds_the_top_of_a_bowl(brief: Callable[..., Brief]) -> None:
    score, text = ask(Constants(), brief, bowl, 60)
    a, b = floats(text)
    assert score > 0.9999
    assert a == pytest.approx(7.0, abs=0.05)
    assert b == pytest.approx(0.1, abs=0.01)


def test_the_same_asks_bring_the_same_drafts(brief: Callable[..., Brief]) -> None:
    assert ask(Constants(), brief, bowl, 12) == ask(Constants(), brief, bowl, 12)


def test_nothing_but_numbers_changes_and_signs_stay(brief: Callable[..., Brief]) -> None:
    drafts = Constants().propose(brief(TWO, n=8))
    assert len(drafts) == 8
    for draft in drafts:
        assert draft.parents
        assert all(value > 0 for value in floats(draft.program["program.py"]))
        assert draft.program["program.py"].splitlines()[0] == "def run():"


def test_an_integer_stays_one_and_does_not_vanish(brief: Callable[..., Brief]) -> None:
    proposer = Constants()
    for step in range(10):
        for draft in proposer.propose(brief("def run():\n    return range(40)\n", seed=step)):
            count = draft.program["program.py"].split("range(")[1].split(")")[0]
            assert count.isdigit()
            assert int(count) >= 2
            proposer.told(draft, Result(0.1))


def test_failures_rank_last_and_end_no_search(brief: Callable[..., Brief]) -> None:
    def cliff(a: float, b: float) -> float:
        return bowl(a, b)

    proposer, best, score = Constants(), TWO, bowl(3.0, 0.5)
    for step in range(60):
        for draft in proposer.propose(brief(best, score=score, seed=step)):
            a, b = floats(draft.program["program.py"])
            told = None if a < 2.5 else cliff(a, b)
            proposer.told(draft, Result(told, why="" if told else "crash"))
            if told is not None and told > score:
                best, score = draft.program["program.py"], told
    assert score > 0.99


def test_a_population_that_dies_as_a_whole_comes_closer(brief: Callable[..., Brief]) -> None:
    proposer = Constants()
    spread: list[float] = []
    for step in range(30):
        for draft in proposer.propose(brief(TWO, seed=step)):
            spread.append(abs(floats(draft.program["program.py"])[0] - 3.0))
            proposer.told(draft, Result(None, why="crash"))
    assert sum(spread[-20:]) < sum(spread[:20]) / 3


def test_there_is_nothing_to_do_without_numbers_or_without_a_score(brief: Callable[..., Brief]) -> None:
    assert Constants().propose(brief("def run():\n    return input()\n")) == []
    assert Constants().propose(brief(TWO, score=None)) == []
    assert Constants().propose(brief("def run(:\n")) == []


def test_what_was_told_before_an_interruption_is_where_it_goes_on(brief: Callable[..., Brief]) -> None:
    first: Any = Constants()
    drafts = first.propose(brief(TWO))
    again = Constants()
    for draft in drafts:
        again.told(draft, Result(bowl(*floats(draft.program["program.py"]))))
    rng = random.Random(1)
    assert again.propose(brief(TWO, score=bowl(3.0, 0.5), seed=rng.getrandbits(8)))
