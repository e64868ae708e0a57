from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from school import LABELLED, PLAN, FakeTrain, Lab, Scale, chance, fake_rows, level, own_mistake, pupil, truth

from upwright.bodies.body import Body, render_toml
from upwright.bodies.curriculum import Curriculum
from upwright.errors import BuildError, Stopped
from upwright.levers import _rounds
from upwright.levers._labels import DOUBT
from upwright.levers._rounds import read_rounds
from upwright.levers.base import Built, Situation
from upwright.levers.curriculum import ANCHORS, ROUNDS, CurriculumLever, levels
from upwright.levers.rejection import FULL_DATA, REAL, parse_data, read_data
from upwright.records import Proposal, Rung, Task, derive_seed
from upwright.testing.levers import LeverContract, fake_body, fake_situation, fingerprint, rejected, tree


@pytest.fixture(autouse=True)
def trainer(monkeypatch: pytest.MonkeyPatch) -> FakeTrain:
    fake = FakeTrain()
    monkeypatch.setattr(_rounds, "train", fake)
    monkeypatch.setattr(_rounds, "rows_of", fake_rows)
    return fake


def able(situation: Situation) -> Situation:
    return replace(situation, trainable=True)


class TestCurriculum(LeverContract):
    @pytest.fixture
    def lever(self) -> CurriculumLever:
        return CurriculumLever()

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Body:
        return pupil(tmp_path / "parent")

    @pytest.fixture
    def situation(self, parent: Body) -> Situation:
        return able(fake_situation(parent))

    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Callable[[str], Any]:
        return lambda name: Lab(tmp_path / name, parent)


def proposal(parent: Body, **plan: Any) -> Proposal:
    found = CurriculumLever().propose(able(fake_situation(parent)))
    assert found is not None
    return replace(found, settings={**found.settings, "plan": {**found.settings["plan"], **plan}})


def build(tmp_path: Path, parent: Body, lab: Lab | None = None, **plan: Any) -> Built:
    return CurriculumLever().build(parent, proposal(parent, **plan), lab or Lab(tmp_path / "lab", parent))


def grown(parent: Body, built: Built, root: Path) -> Body:
    """The child, as the store would have it."""
    for path, data in tree(parent.root).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    for path, value in built.changes.items():
        assert value is not None
        (root / path).write_bytes(value.read_bytes() if isinstance(value, Path) else value)
    return Body(root, "b" * 64)


# ---- propose ------------------------------------------------------------------------------------


def test_a_body_says_itself_that_it_learns_so(tmp_path: Path) -> None:
    bare = fake_body(tmp_path / "bare")
    assert CurriculumLever().propose(able(fake_situation(bare))) is None
    adapted = pupil(tmp_path / "adapted")
    (adapted.root / "model" / "adapter").mkdir()
    (adapted.root / "model" / "adapter" / "adapter_config.json").write_text("{}")
    assert CurriculumLever().propose(able(fake_situation(adapted))) is None


def test_after_a_failure_it_trains_longer_and_after_a_doubt_not_at_all(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    situation = able(fake_situation(parent))
    first = proposal(parent)
    second = CurriculumLever().propose(replace(situation, history=[rejected(first)]))
    assert second is not None
    assert second.settings["plan"]["steps"] == 2 * PLAN.steps
    assert second.settings["plan"]["stride"] == 1
    assert CurriculumLever().propose(replace(situation, history=[rejected(first), rejected(second)])) is None
    doubted = replace(rejected(first), why=f"could not be built: {DOUBT}: …")
    assert CurriculumLever().propose(replace(situation, history=[doubted])) is None


def test_effort_is_rounds(tmp_path: Path) -> None:
    found = CurriculumLever().propose(able(fake_situation(pupil(tmp_path / "p"), effort=0.5)))
    assert found is not None
    assert found.settings["plan"]["rounds"] == PLAN.rounds // 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"samples": 1}, "agrees with itself"),
        ({"temperature": 0.0}, "agrees with itself"),
        ({"reach": 0.0}, "reach"),
        ({"newest": 1.0}, "newest"),
        ({"stride": 0}, "stride"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Curriculum(**wrong)
    assert Curriculum(samples=1, voters=2).voters == 2


# ---- rounds -------------------------------------------------------------------------------------


def test_it_climbs_beyond_its_labels_and_every_datum_says_where_it_came_from(
    tmp_path: Path, trainer: FakeTrain
) -> None:
    parent = pupil(tmp_path / "p")
    built = build(tmp_path, parent)
    child = grown(parent, built, tmp_path / "child")
    rounds = read_rounds(child.root / ROUNDS)
    assert [(r.first, r.last, r.undone) for r in rounds] == [(4, 5, ""), (6, 7, ""), (8, 9, ""), (10, 11, "")]
    assert built.note["hardest learned, by its own agreement"] == 11
    assert chance(child.root / "model", 11) > 0.9
    assert built.rung is Rung.CONSENSUS
    data = read_data(child)
    assert set(levels(data)) == set(range(1, 12))
    own = [d for d in data if d.by != REAL]
    assert {d.by for d in own} == {parent.digest}
    assert {d.rung for d in own} == {Rung.CONSENSUS.value}
    assert {level(d.input) for d in data if d.by == REAL} == {1, 2, 3}
    assert min(level(d.input) for d in own) == LABELLED + 1
    assert all(f"difficulty {level(d.input)}" in d.check and d.agree == 1.0 for d in own)
    assert {d.check for d in own if level(d.input) == 6} == {"vote of 4 answers of 1 network, round 2, difficulty 6"}
    assert sum(truth(d.input) == d.answer for d in own) / len(own) > 0.98
    json.dumps(built.note, allow_nan=False)


def test_all_rounds_are_trained_on_and_the_newest_has_its_share(tmp_path: Path, trainer: FakeTrain) -> None:
    build(tmp_path, pupil(tmp_path / "p"))
    assert [name for name, _, _ in trainer.calls] == ["first", "round-001", "round-002", "round-003", "round-004"]
    first, *later = trainer.calls
    assert (first[1].steps, first[2]) == (PLAN.first_steps, {"newest": PLAN.labelled})
    earlier = [sources["earlier"] for _, _, sources in later]
    assert earlier[0] == PLAN.labelled
    for before, (_, _, sources), now in zip(earlier, later, earlier[1:]):
        assert now == before + sources["newest"]
    for _, recipe, _ in later:
        assert recipe.mix == {"newest": 0.5, "earlier": 0.5}
        assert (recipe.steps, recipe.learning_rate) == (PLAN.steps, 0.5 * first[1].learning_rate)


def test_anchors_and_the_gold_probe_are_never_trained_on(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    built = build(tmp_path, parent)
    data, anchors = built.changes[FULL_DATA], built.changes[ANCHORS]
    assert isinstance(data, bytes)
    assert isinstance(anchors, bytes)
    trained, held = {d.input for d in parse_data(data)}, [d.input for d in parse_data(anchors)]
    assert len(held) == len(set(held)) == 4 * PLAN.anchors
    assert not trained & set(held)
    probe = Scale().draw(PLAN.probe + PLAN.labelled, derive_seed(proposal(parent).seed, "gold"))[: PLAN.probe]
    assert not trained & {t.input for t in probe}


def test_the_next_build_goes_on_where_this_one_ended(tmp_path: Path, trainer: FakeTrain) -> None:
    parent = pupil(tmp_path / "p")
    child = grown(parent, build(tmp_path, parent, rounds=2), tmp_path / "child")
    trainer.calls.clear()
    again = build(tmp_path, child, Lab(tmp_path / "two", child), rounds=1)
    assert [name for name, _, _ in trainer.calls] == ["round-003"], "what has labels is not learned twice"
    grandchild = grown(child, again, tmp_path / "grandchild")
    assert [r.last for r in read_rounds(grandchild.root / ROUNDS)] == [5, 7, 9]
    before, after = read_data(child), read_data(grandchild)
    assert after[: len(before)] == before, "nothing is replaced"
    assert {d.by for d in after[len(before) :]} == {child.digest}


def test_it_stops_where_its_answers_stop_agreeing(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path / "lab", pupil(tmp_path / "p"), right=lambda text, chance, luck: level(text) <= 5 and luck < chance
    )
    built = build(tmp_path, lab.parent, lab)
    assert built.note["hardest learned, by its own agreement"] == 5
    assert "agreement on difficulty 6" in built.note["ended"]
    assert built.note["rounds"][-1]["difficulties"] == "none added"


def test_answers_of_the_wrong_length_are_no_labels_even_if_all_agree(tmp_path: Path) -> None:
    lab = Lab(
        tmp_path / "lab", pupil(tmp_path / "p"), mistake=lambda text, draw: truth(text)[:-1],
        right=lambda text, chance, luck: level(text) <= LABELLED,
    )  # fmt: skip
    built = build(tmp_path, lab.parent, lab)
    assert built.note["hardest learned, by its own agreement"] == LABELLED
    assert built.note["rounds"][0]["agreement before"] == [0.0]


def test_several_networks_vote(tmp_path: Path, trainer: FakeTrain) -> None:
    parent = pupil(tmp_path / "p")
    built = build(tmp_path, parent, voters=3, samples=1, rounds=1)
    assert [name for name, _, _ in trainer.calls] == ["first"] * 3 + ["round-001"] * 3
    data = built.changes[FULL_DATA]
    assert isinstance(data, bytes)
    assert any("3 answers of 3 networks" in d.check for d in parse_data(data))


def test_a_toehold_at_the_next_difficulty_is_trained_on_before_it_is_taken_up(tmp_path: Path) -> None:
    """At 94 % the next difficulty is below the reach; its agreed answers alone bring it above, and only then does it count."""
    parent = pupil(tmp_path / "p")
    built = build(tmp_path, parent, reach=0.97, toehold=0.5, rounds=4, patience=0)
    rounds = built.note["rounds"]
    kinds = [r["difficulties"] for r in rounds]
    first, second = LABELLED + 1, LABELLED + 2
    toehold = "a toehold at the next"
    assert kinds == [toehold, f"{first} to {first}", toehold, f"{second} to {second}"]
    assert all(r["labels"] for r in rounds)
    assert built.note["hardest learned, by its own agreement"] == LABELLED + 2
    without = build(tmp_path / "without", parent, reach=0.97, rounds=4, patience=0)
    assert without.note["hardest learned, by its own agreement"] == LABELLED, "without it nothing can be added"


def test_a_toehold_that_brings_nothing_ends_by_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle(FakeTrain):
        """Learns what has labels from outside, and nothing else."""

        def __call__(self, model: Path, rows: Any, recipe: Any, scratch: Path, seed: int, step: Any) -> Any:
            return super().__call__(
                model, [r for r in rows if r.source != "newest"] or rows, recipe, scratch, seed, step
            )

    monkeypatch.setattr(_rounds, "train", Idle())
    built = build(tmp_path, pupil(tmp_path / "p"), reach=0.999, toehold=0.5, rounds=6, patience=1)
    assert len(built.note["rounds"]) < 6
    assert "below 100%" in built.note["ended"]


def test_harder_labelled_problems_may_count_more(tmp_path: Path) -> None:
    """Of three difficulties the hardest has three times the rows of the easiest; none is lost, and there are as many in all."""
    parent = pupil(tmp_path / "p")
    found = {}
    for power in (0.0, 1.0):
        built = build(tmp_path / str(power), parent, harder=power, labelled=600, rounds=1)
        data = built.changes[FULL_DATA]
        assert isinstance(data, bytes)
        found[power] = Counter(level(d.input) for d in parse_data(data) if level(d.input) <= LABELLED)
    assert sum(found[0.0].values()) == 600
    assert 540 <= sum(found[1.0].values()) <= 600
    assert 2.2 < found[1.0][3] / found[1.0][1] < 4.2
    assert 0.8 < found[0.0][3] / found[0.0][1] < 1.25


# ---- the truth is out of reach ------------------------------------------------------------------


def test_how_far_it_goes_does_not_depend_on_the_truth(tmp_path: Path) -> None:
    """Two worlds in which the networks say the same, and the truth beyond the labels is another: the same child, bit for bit."""

    class Otherwise(Scale):
        def draw(self, n: int, seed: int) -> tuple[Task, ...]:
            found = super().draw(n, seed)
            assert max(t.difficulty for t in found) <= LABELLED
            return found

        def score(self, text: str, task: Task) -> float:
            assert task.difficulty <= LABELLED
            return float(text == task.answer)

    parent = pupil(tmp_path / "p")
    mine = build(tmp_path, parent, Lab(tmp_path / "a", parent))
    other = build(tmp_path, parent, Lab(tmp_path / "b", parent, practice=Otherwise()))
    assert fingerprint(mine) == fingerprint(other)


TASKS = """
import os, random
LABELLED = 3

def generate(seed, difficulty=None):
    rng = random.Random(seed)
    difficulty = rng.randint(1, 9) if difficulty is None else difficulty
    if difficulty > LABELLED and os.environ.get("TRUTH_IS_SEALED"):
        raise AssertionError("somebody asked for the truth")
    text = f"{difficulty}:{rng.randrange(10 ** 6)}"
    from school import truth
    return {"input": text, "answer": truth(text), "difficulty": difficulty}

def problem(seed, difficulty):
    return {"input": f"{difficulty}:{random.Random(f'p{seed}').randrange(10 ** 6)}"}
"""


def test_with_a_real_suite_no_answer_beyond_the_labels_is_ever_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upwright.practice import Remainder
    from upwright.tasks import Suite, load_source

    (tmp_path / "digits.py").write_text(TASKS)
    suite = Suite("digits", load_source("digits.py", tmp_path), "salt")
    exam = suite.draw(24, 0)
    monkeypatch.setenv("TRUTH_IS_SEALED", "1")
    with pytest.raises(Exception, match="somebody asked for the truth"):
        suite.draw(24, 1)
    parent = pupil(tmp_path / "p")
    built = build(tmp_path, parent, Lab(tmp_path / "lab", parent, practice=Remainder(suite, exam)), rounds=2)
    assert built.note["hardest learned, by its own agreement"] == 7


# ---- avalanches ---------------------------------------------------------------------------------


def corrupting(root: Path, parent: Body, last_good: int) -> Lab:
    """Beyond a difficulty everybody says the same wrong thing, of the right length: votes and lengths let it through."""

    def lie(text: str, draw: int) -> str:
        return "7" * (level(text) + 1) if level(text) > last_good else own_mistake(text, draw)

    return Lab(root, parent, mistake=lie, right=lambda text, chance, luck: level(text) <= last_good and luck < chance)


def test_an_avalanche_is_stopped_within_one_round_and_undone_bit_for_bit(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    good = build(tmp_path, parent, corrupting(tmp_path / "good", parent, 5), rounds=1)
    lab = corrupting(tmp_path / "bad", parent, 5)
    bad = build(tmp_path, parent, lab)
    assert [bool(r.get("undone")) for r in bad.note["rounds"]] == [False, True], "and no round after it"
    assert "answers that were agreed on changed" in bad.note["rounds"][1]["undone"]
    assert "the gold probe fell" in bad.note["ended"]
    left, kept = fingerprint(bad), fingerprint(good)
    assert left.pop(ROUNDS) != kept.pop(ROUNDS), "the record tells of it"
    assert left == kept, "weights, data and anchors are those of the round before"
    folder = lab.scratch / "round-002"
    assert [p.name for p in folder.iterdir()] == ["round.json"], "nothing of what it learned is left"


def test_an_avalanche_in_the_first_round_of_a_body_that_knew_all_this_is_no_child(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    child = grown(parent, build(tmp_path, parent, rounds=1), tmp_path / "child")
    with pytest.raises(BuildError, match=DOUBT):
        build(tmp_path, child, corrupting(tmp_path / "bad", child, 5))


def test_a_build_after_an_undone_round_goes_on_from_the_last_good_one(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    child = grown(parent, build(tmp_path, parent, corrupting(tmp_path / "bad", parent, 5)), tmp_path / "child")
    again = build(tmp_path, child, Lab(tmp_path / "two", child), rounds=1)
    assert [(r["round"], r["difficulties"]) for r in again.note["rounds"]] == [(3, "6 to 7")]


# ---- interruptions ------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize("corrupt", [False, True])
def test_a_build_that_is_killed_anywhere_ends_in_the_same_child(
    tmp_path: Path, corrupt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the first report or write, gone on with, killed at the second, and so on: within rounds and between them."""
    parent = pupil(tmp_path / "p")
    left, small = [10**9], {"labelled": 24, "problems": 16, "look": 12, "anchors": 4, "probe": 9, "samples": 2}

    def tick() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    def keep(path: Path, what: Any) -> None:
        tick()
        write(path, what)
        tick()

    write = _rounds.keep
    monkeypatch.setattr(_rounds, "keep", keep)

    def run(name: str) -> Built:
        lab = corrupting(tmp_path / name, parent, 4) if corrupt else Lab(tmp_path / name, parent)
        heard = lab.progress

        def progress(done: int, total: int, note: str) -> None:
            tick()
            heard(done, total, note)

        monkeypatch.setattr(lab, "progress", progress, raising=False)
        return build(tmp_path, parent, lab, rounds=2, stride=1, **small)

    whole = run("whole")
    places = 10**9 - left[0]
    assert bool(whole.note["rounds"][-1].get("undone")) is corrupt
    assert places > 20
    for place in range(1, places, 5):
        left[0] = place
        with pytest.raises(Killed):
            run(f"torn-{place}")
        left[0] = place // 2
        try:
            torn = run(f"torn-{place}")
        except Killed:
            left[0] = 10**9
            torn = run(f"torn-{place}")
        assert fingerprint(torn) == fingerprint(whole), place
        assert torn.note == whole.note


def test_a_request_to_stop_is_heard_within_a_training(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    lab = Lab(tmp_path / "lab", parent)
    lab.stop_after = 1
    with pytest.raises(Stopped):
        build(tmp_path, parent, lab)
    assert lab.heard[-1][2].startswith("first, network 1 of 1: ")


# ---- what it cannot do --------------------------------------------------------------------------


def test_without_an_axis_or_an_end_of_labels_there_is_nothing_to_climb(tmp_path: Path) -> None:
    parent = pupil(tmp_path / "p")
    with pytest.raises(BuildError, match="problems of every difficulty"):
        build(tmp_path, parent, Lab(tmp_path / "lab", parent, practice=Flat()))


class Flat(Scale):
    axis = None


def test_without_a_network_it_makes_one_by_its_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from school import net

    from upwright.bodies.architecture import Architecture
    from upwright.levers import curriculum

    parent = pupil(tmp_path / "p")
    for path in (parent.root / "model").iterdir():
        path.unlink()
    with pytest.raises(BuildError, match=r"architecture\.toml"):
        build(tmp_path, parent)
    made: list[int] = []

    def create(shape: Architecture, folder: Path, seed: int) -> Path:
        made.append(seed)
        return net(folder, {})

    monkeypatch.setattr(curriculum, "create", create)
    (parent.root / "architecture.toml").write_bytes(render_toml(Architecture(layers=2)))
    parent = Body(parent.root, parent.digest)
    built = build(tmp_path, parent, Lab(tmp_path / "two", parent), voters=2, samples=1, rounds=1)
    assert len(set(made)) == 2, "voters begin apart"
    assert built.note["hardest learned, by its own agreement"] == 5
