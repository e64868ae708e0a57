from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from ballots import TRUTH, Ballot, Ballots, FakeTrainer, body_with_weights
from test_rejection import able, grown, trainable_body

from upwright.bodies.body import Body, Example, Inference, Prompt, render_prompt, render_toml
from upwright.errors import BuildError, Stopped
from upwright.levers import _domain
from upwright.levers._domain import REHEARSED
from upwright.levers._labels import DOUBT, RECORD, measured, read_rounds, render_rounds
from upwright.levers.base import Situation
from upwright.levers.distillation import Distillation
from upwright.levers.rejection import DATA, Datum, read_data
from upwright.records import Proposal, Rung, Task
from upwright.testing.levers import FakePractice, LeverContract, fake_body, fake_situation, fingerprint, rejected


def growing(body: Body, task: Task) -> float:
    """A body that help helps, before training and after it."""
    return 0.95 if body.memory and body.inference.memory else 0.5 + 0.2 * bool(read_data(body))


class TestDistillation(LeverContract):
    """With the tiny model's weights trained in earnest, in two rounds."""

    @pytest.fixture
    def lever(self) -> Distillation:
        return Distillation()

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Body:
        return trainable_body(tmp_path / "parent")

    @pytest.fixture
    def situation(self, parent: Body) -> Situation:
        return able(fake_situation(parent))

    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Callable[[str], Any]:
        return lambda name: Ballots(tmp_path / name, parent, chance=growing)


@pytest.fixture
def parent(tmp_path: Path) -> Body:
    return body_with_weights(tmp_path / "parent")


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> FakeTrainer:
    fake = FakeTrainer()
    monkeypatch.setattr(_domain, "fine_tune", fake)
    return fake


def proposal(parent: Body, **changes: Any) -> Proposal:
    found = Distillation().propose(able(fake_situation(parent)))
    assert found is not None
    return replace(found, settings={**found.settings, **changes})


def right(data: Sequence[Datum]) -> float:
    """Share of labels that are the truth."""
    return sum(TRUTH[datum.input] == datum.answer for datum in data) / len(data)


# ---- propose ------------------------------------------------------------------------------------


def test_without_weights_or_a_weakness_in_the_domain_there_is_no_proposal(parent: Body) -> None:
    assert Distillation().propose(fake_situation(parent)) is None
    assert Distillation().propose(replace(able(fake_situation(parent)), domain=("maps",))) is None
    found = Distillation().propose(replace(able(fake_situation(parent)), domain=("names",)))
    assert found is not None
    assert (found.weakness, found.settings["domain"]) == ("names", ("names",))


def test_rounds_follow_the_effort_and_a_doubt_ends_it(parent: Body) -> None:
    small, normal = (
        Distillation().propose(able(fake_situation(parent, effort=effort))) for effort in (0.35, 1.0)
    )  # fmt: skip
    assert small is not None
    assert normal is not None
    assert (small.settings["rounds"], normal.settings["rounds"]) == (1, 2)
    assert small.settings["tasks"] < normal.settings["tasks"]
    doubted = replace(rejected(normal), decision=None, why=f"could not be built: {DOUBT}: 30%")
    assert Distillation().propose(replace(able(fake_situation(parent)), history=[doubted])) is None


# ---- build --------------------------------------------------------------------------------------


def test_the_bare_child_does_alone_what_took_help(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    """Bare 0.4, with cases and votes nearly always: the labels are right, the child has the score at a part of the tokens."""
    built = Distillation().build(parent, proposal(parent), Ballots(tmp_path / "w", parent))
    child = grown(parent, built.changes, tmp_path / "child")
    labels = read_data(child)
    assert right(labels) > 0.9
    probe = built.note["on the probe"]
    assert probe["bare parent"]["score"] < 0.6
    assert probe["amplified parent"]["score"] > 0.9
    assert probe["child"]["bare"]["score"] > 0.9
    assert probe["child"]["bare"]["tokens"] == probe["bare parent"]["tokens"] < probe["amplified parent"]["tokens"]
    assert built.note["tokens saved by the bare child"] == pytest.approx(1 - 24 / 100, abs=0.01)
    assert built.note["score against the amplified parent"] > -0.1
    assert (child.inference.samples, child.inference.memory, child.inference.choose) == (1, 0, "first")
    assert set(built.changes) == {
        "model/adapter/adapter_config.json", "model/adapter/adapter_model.safetensors", DATA, RECORD, REHEARSED,
        "training.toml", "inference.toml",
    }  # fmt: skip
    json.dumps(built.note, allow_nan=False)


def test_labels_are_the_amplified_body_s_own_and_traced(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    """Some are wrong, none is gold; each tells who said it, what agreed, and how weak the evidence is."""
    bench = Ballots(tmp_path / "w", parent, chance=lambda body, task: 0.5 + 0.1 * bool(body.memory), shared=1.0)
    built = Distillation().build(parent, proposal(parent, rounds=1), bench)
    child = grown(parent, built.changes, tmp_path / "child")
    labels = read_data(child)
    assert 0.4 < right(labels) < 1.0
    assert {d.answer for d in labels if TRUTH[d.input] != d.answer} == {"the usual mistake"}
    assert {(d.by, d.check, d.rung) for d in labels} == {
        (parent.digest, "vote of 5 amplified answers", "self-consistency")
    }
    assert all(d.agree >= 0.5 for d in labels)
    assert built.rung is Distillation.rung is Rung.CONSENSUS
    (record,) = read_rounds(child)
    assert record.low <= right(labels) <= record.high, "the probe tells what the labels are worth"


def test_gold_is_never_looked_at_for_a_label(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    """Where half of the tasks have no right answer at all, the labels are the same, byte for byte."""

    class Other(Ballot):
        def score(self, text: str, task: Task) -> float:
            return float(text == TRUTH[task.input] and task.id[-1] in "02468")

    wanted = proposal(parent, rounds=1, floor=0.0)
    one, two = (
        Distillation().build(parent, wanted, Ballots(tmp_path / practice.name, parent, practice=practice))
        for practice in (Ballot("one"), Other("two"))
    )
    assert one.changes[DATA] == two.changes[DATA]
    assert one.changes[RECORD] != two.changes[RECORD]


def test_the_second_round_amplifies_the_model_of_the_first(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    built = Distillation().build(parent, proposal(parent), Ballots(tmp_path / "w", parent, chance=growing))
    one, two = built.note["rounds"]
    assert (one["labels"]["start"], two["labels"]["start"]) == ("base", "champion")
    assert two["bare"]["score"] > one["bare"]["score"]
    (first, _, _), (second, lessons, recipe) = trainer.calls
    assert first == parent.root / "model"
    assert (second / "adapter" / "adapter_config.json").exists(), "it goes on from the first round's adapter"
    assert recipe.start == "champion"
    assert len(lessons) > len(trainer.calls[0][1]), "on all data so far"
    data = read_data(grown(parent, built.changes, tmp_path / "child"))
    assert {d.check for d in data} == {
        "vote of 5 amplified answers", "vote of 5 amplified answers, round 2"
    }  # fmt: skip
    assert built.note["ended early"] == ""


def test_a_round_that_cannot_be_believed_leaves_the_one_before(
    tmp_path: Path, parent: Body, trainer: FakeTrainer
) -> None:
    """The trained model's mistakes agree: its labels decay, the second round is not trained, the first one's child stands."""

    def chance(body: Body, task: Task) -> float:
        helped = bool(body.memory and body.inference.memory)
        return (0.35 + 0.05 * helped) if read_data(body) else (0.5 + 0.4 * helped)

    bench = Ballots(tmp_path / "w", parent, chance=chance, shared=1.0)
    built = Distillation().build(parent, proposal(parent), bench)
    assert len(built.note["rounds"]) == len(trainer.calls) == 1
    assert "round 2 was not trained" in built.note["ended early"]
    assert len(read_rounds(grown(parent, built.changes, tmp_path / "child"))) == 1


def test_the_domain_alone_is_trained_on(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    bench = Ballots(tmp_path / "w", parent, rehearsal=[FakePractice("basics", 300)])
    built = Distillation().build(parent, proposal(parent, domain=["dates"]), bench)
    child = grown(parent, built.changes, tmp_path / "child")
    assert {d.skill for d in read_data(child)} == {"dates"}
    kept = [json.loads(text) for text in (child.root / REHEARSED).read_text().splitlines()]
    assert {one["by"] for one in kept} == {"practice", parent.digest}
    assert built.note["training examples"]["rehearsed"] == len(kept) > 0
    assert built.note["domain"] == ["dates"]


def test_the_parent_s_help_stays_where_the_child_needs_it(tmp_path: Path, trainer: FakeTrainer) -> None:
    """A parent with votes and worked examples: its child is bare only if it scores as high that way."""
    parent = body_with_weights(tmp_path / "parent")
    how = Inference(samples=9, choose="vote", temperature=0.8)
    (parent.root / "inference.toml").write_bytes(render_toml(how))
    (parent.root / "prompt.md").write_bytes(render_prompt(Prompt("Be brief.", (Example("q", "a"),))))
    learns = Distillation().build(parent, proposal(parent), Ballots(tmp_path / "w", parent))
    child = grown(parent, learns.changes, tmp_path / "child")
    assert (child.inference.samples, child.prompt) == (1, Prompt("Be brief."))
    dull = Ballots(tmp_path / "v", parent, chance=lambda body, task: 0.4 + 0.1 * bool(body.memory))
    built = Distillation().build(parent, proposal(parent), dull)
    assert "inference.toml" not in built.changes
    prices = built.note["on the probe"]["child"]
    assert prices["with the parent's help"]["score"] > prices["bare"]["score"]
    assert prices["with the parent's help"]["tokens"] > prices["bare"]["tokens"]


# ---- stopping -----------------------------------------------------------------------------------


def test_help_that_does_not_help_is_not_distilled(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    bench = Ballots(tmp_path / "w", parent, chance=lambda body, task: 0.4 - 0.3 * bool(body.memory), shared=1.0)
    with pytest.raises(BuildError, match="help does not help"):
        Distillation().build(parent, proposal(parent), bench)
    assert not trainer.calls
    assert len(bench.asked) == 2 * 80, "no task was labelled"


def test_labels_below_the_floor_or_an_earlier_round_stop_it(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    weak = lambda body, task: 0.2 + 0.15 * bool(body.memory)  # noqa: E731
    with pytest.raises(BuildError, match="clearly below the floor") as caught:
        Distillation().build(parent, proposal(parent), Ballots(tmp_path / "w", parent, chance=weak, shared=1.0))
    assert caught.value.what.startswith(DOUBT)
    (parent.root / "model" / "adapter").mkdir()
    before = measured("distillation", ("b" * 64, 1, "base"), [1.0] * 79 + [0.0])
    (parent.root / RECORD).write_bytes(render_rounds([before]))
    middling = lambda body, task: 0.4 + 0.15 * bool(body.memory)  # noqa: E731
    with pytest.raises(BuildError, match="clearly fewer than in an earlier round"):
        Distillation().build(parent, proposal(parent), Ballots(tmp_path / "v", parent, chance=middling, shared=1.0))
    assert not trainer.calls


def test_a_body_that_lost_its_weights_is_an_error(tmp_path: Path, parent: Body) -> None:
    with pytest.raises(BuildError, match="no weights"):
        Distillation().build(fake_body(tmp_path / "bare"), proposal(parent), Ballots(tmp_path / "w", parent))


def test_an_interrupted_build_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Stopped while the tiny model trains in the second round: nothing that was finished is done again."""
    parent = trainable_body(tmp_path / "parent")
    wanted = proposal(parent)
    whole = Distillation().build(parent, wanted, Ballots(tmp_path / "whole", parent, chance=growing))
    assert [len(one["loss"]) > 0 for one in whole.note["rounds"]] == [True, True]
    bench = Ballots(tmp_path / "cut", parent, chance=growing)
    bench.stop_after = 3
    with pytest.raises(Stopped):
        Distillation().build(parent, wanted, bench)
    assert (bench.scratch / "round-1" / "trained.json").exists()
    assert not (bench.scratch / "round-2" / "trained.json").exists()
    again = Ballots(tmp_path / "cut", parent, chance=growing)
    resumed = Distillation().build(parent, wanted, again)
    assert fingerprint(resumed) == fingerprint(whole)
    assert resumed.note == whole.note
    third = Ballots(tmp_path / "cut", parent, chance=growing)
    Distillation().build(parent, wanted, third)
    assert "training" not in {note for _, _, note in third.heard}


def test_batches_of_labels_are_not_asked_for_again(tmp_path: Path, parent: Body, trainer: FakeTrainer) -> None:
    wanted = proposal(parent, rounds=1)
    whole = Ballots(tmp_path / "whole", parent)
    built = Distillation().build(parent, wanted, whole)
    cut = Ballots(tmp_path / "cut", parent)
    cut.stop_after = 2
    with pytest.raises(Stopped):
        Distillation().build(parent, wanted, cut)
    assert cut.asked == whole.asked[: 2 * 80 + 48]
    again = Ballots(tmp_path / "cut", parent)
    resumed = Distillation().build(parent, wanted, again)
    assert again.asked == whole.asked[2 * 80 + 48 :]
    assert fingerprint(resumed) == fingerprint(built)


def test_a_later_round_with_too_few_labels_leaves_the_one_before(
    tmp_path: Path, parent: Body, trainer: FakeTrainer
) -> None:
    """After the first training its answers no longer agree: what the first round made stands, and the note says why."""

    def chance(body: Body, task: Task) -> float:
        helped = bool(body.memory and body.inference.memory)
        return (0.2 + 0.05 * helped) if read_data(body) else (0.5 + 0.45 * helped)

    built = Distillation().build(parent, proposal(parent, share=0.75), Ballots(tmp_path / "w", parent, chance=chance))
    assert len(built.note["rounds"]) == 1
    assert built.note["ended early"].startswith("round 2 was not trained: ")
