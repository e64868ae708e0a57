from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from upwright.errors import BuildError
from upwright.levers._labels import (
    DOUBT,
    RECORD,
    LabelRound,
    clearly_below,
    doubt,
    doubted,
    labelled,
    measured,
    read_rounds,
    render_rounds,
    vote,
    weakest,
)
from upwright.records import Proposal
from upwright.testing.levers import fake_body, fake_situation, fake_weakness, rejected


def line(right: float, probed: int = 40, lever: str = "consensus", number: int = 1) -> LabelRound:
    return replace(measured(lever, ("a" * 64, number, "base"), [1.0] * int(right) + [0.0] * (probed - int(right))))


# ---- votes --------------------------------------------------------------------------------------


def test_the_majority_counts_what_is_the_same_but_for_writing() -> None:
    found = vote(["7", " 7.", "8", "7 ", '"7"'])
    assert found is not None
    assert (found.text, found.share, found.distinct) == ("7", 0.8, 2)
    assert found.entropy == pytest.approx(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2)))


def test_silence_is_no_answer_but_counts_among_all() -> None:
    found = vote(["", " ", "", "yes"])
    assert found is not None
    assert (found.text, found.share) == ("yes", 0.25)
    assert vote(["", "  "]) is None
    assert vote([]) is None


def test_one_voice_is_sure() -> None:
    found = vote(["a", "A", "a."])
    assert found is not None
    assert (found.share, found.distinct, found.entropy) == (1.0, 1, 0.0)


def test_ties_do_not_depend_on_the_order() -> None:
    texts = ["b", "a", "c", "b", "a"]
    assert len({vote(random.Random(i).sample(texts, 5)) for i in range(20)}) == 1


def test_voting_finds_what_single_answers_miss() -> None:
    """Right four times in ten and wrong in many ways: the majority of nine is right far more often."""
    rng = random.Random(1)
    right = single = 0
    for _ in range(500):
        texts = ["right" if rng.random() < 0.4 else f"wrong {rng.random()}" for _ in range(9)]
        found = vote(texts)
        assert found is not None
        right += found.text == "right"
        single += texts[0] == "right"
    assert right / 500 > 0.9
    assert single / 500 < 0.5


# ---- the interval -------------------------------------------------------------------------------


def test_clearly_below_is_newcombes_interval() -> None:
    """Newcombe 1998, table II, example (a): 56/70 against 48/80 gives 0.0524 to 0.3339 at 95 %."""
    assert clearly_below((48, 80), (56, 70), 0.95)
    assert not clearly_below((56, 70), (48, 80), 0.95)
    assert not clearly_below((20, 40), (22, 40))
    assert not clearly_below((0, 0), (40, 40))
    assert not clearly_below((0, 40), (0, 0))


def test_labels_that_are_as_right_as_before_are_rarely_doubted() -> None:
    """The one-sided error at the level used is about a tenth."""
    rng = random.Random(3)
    calls = sum(
        clearly_below((sum(rng.random() < 0.7 for _ in range(40)), 40), (sum(rng.random() < 0.7 for _ in range(40)), 40))
        for _ in range(2000)
    )  # fmt: skip
    assert 0.05 < calls / 2000 < 0.13


# ---- doubt --------------------------------------------------------------------------------------


def test_decay_is_doubted_where_it_is_clear() -> None:
    """79 %, then 69 % may be chance on 40 tasks; 63 % after that is not, for it is compared with the best."""
    first, second, third = line(32), line(28), line(25)
    assert doubt([], first, 0.5) == ""
    assert doubt([first], second, 0.5) == ""
    why = doubt([first, second], third, 0.5)
    assert why.startswith(DOUBT)
    assert "62% of 40" in why
    assert "80% of 40" in why
    assert doubt([replace(first, lever="distillation")], third, 0.5) == "", "another lever's labels are no measure"


def test_the_floor_and_an_empty_probe() -> None:
    assert "clearly below the floor of 50%" in doubt([], line(8), 0.5)
    assert doubt([], line(17), 0.5) == "", "42 % of 40 may well be half"
    assert "nothing is known" in doubt([], line(0, 0), 0.0)


def test_a_doubted_build_ends_the_lever_on_that_parent(tmp_path: Path) -> None:
    body = fake_body(tmp_path / "b")
    proposal = Proposal("consensus", {}, "because", "me", body.digest or "", 1)
    why = f"could not be built: {DOUBT}: because"
    history = [replace(rejected(proposal), why=why)]
    assert doubted(fake_situation(body, history=history), "consensus")
    assert not doubted(fake_situation(body, history=history), "distillation")
    assert not doubted(fake_situation(body, history=[rejected(proposal)]), "consensus")
    other = [replace(rejected(replace(proposal, parent="b" * 64)), why=why)]
    assert not doubted(fake_situation(body, history=other), "consensus")


def test_labels_are_counted_or_too_few() -> None:
    assert (labelled(line(30), [0.5, 1.0] * 4).labels, labelled(line(30), [0.5, 1.0] * 4).agree) == (8, 0.75)
    with pytest.raises(BuildError, match="too few answers agreed"):
        labelled(line(30), [1.0] * 7)


def test_rounds_survive_the_file(tmp_path: Path) -> None:
    body = fake_body(tmp_path)
    assert read_rounds(body) == []
    (tmp_path / "model" / "adapter").mkdir(parents=True)
    rounds = [line(32), replace(line(20, lever="distillation", number=2), entropy=0.5, distinct=2.0)]
    (tmp_path / RECORD).write_bytes(render_rounds(rounds))
    assert read_rounds(body) == rounds


def test_the_weakest_skill_inside_the_domain(tmp_path: Path) -> None:
    weak = [fake_weakness("dates", 0.1), fake_weakness("sums", 0.3), fake_weakness("names", 0.2)]
    situation = fake_situation(fake_body(tmp_path), weak)
    found = [weakest(replace(situation, domain=d)) for d in ((), ("sums", "names"), ("maps",))]
    assert [w and w.skill for w in found] == ["dates", "names", None]
