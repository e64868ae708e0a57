from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from upwright.bodies.body import Body, Training, render_toml
from upwright.errors import BuildError, Stopped
from upwright.levers import instances
from upwright.levers._edits import (
    DEFAULT,
    INSTRUCTIONS,
    Edit,
    Unit,
    Written,
    examples_of,
    lines_of,
    read_edits,
    read_written,
    recital,
    render_edits,
    rendered,
    sentences,
    settings_of,
    shown,
    writer_prompt,
)
from upwright.levers.base import Situation
from upwright.levers.rejection import REAL, read_data
from upwright.levers.self_edit import WRITING, SelfEdit
from upwright.records import Proposal, Rung, Scorecard, Task
from upwright.tasks.base import Passage
from upwright.testing.levers import (
    FakePractice,
    FakeWorkshop,
    LeverContract,
    fake_body,
    fake_situation,
    fingerprint,
    rejected,
)
from upwright.testing.tiny import tiny_model

RECIPE = Training(batch=8, rank=2, learning_rate=1e-3)
TOWNS = ("Oxley", "Parno", "Quill", "Rasto", "Sumner", "Tolva")


def trainable_body(root: Path) -> Body:
    body = fake_body(root)
    tiny_model(root / "model")
    (root / "training.toml").write_bytes(render_toml(RECIPE))
    return body


def passage(number: int) -> Passage:
    town = TOWNS[number % len(TOWNS)]
    return Passage(
        f"p{number}", f"The mill Bel{number} stands in {town}. It was built in {1700 + number}. It grinds rye."
    )


class Passages(FakePractice):
    """Passages with three questions each."""

    def __init__(self, size: int = 6) -> None:
        super().__init__("passages", size)

    def passages(self) -> tuple[Passage, ...]:
        return tuple(passage(i) for i in range(self.size))

    def draw(self, n: int, seed: int) -> tuple[Task, ...]:
        asked = [
            task
            for i in range(self.size)
            for task in (
                Task(f"p{i}/town", f"Where does the mill Bel{i} stand?", TOWNS[i % 6], "mills"),
                Task(f"p{i}/year", f"When was the mill Bel{i} built?", str(1700 + i), "mills"),
                Task(f"p{i}/grain", f"What does the mill Bel{i} grind?", "rye", "mills"),
            )
        ]
        return tuple(asked[:n])


def written_by_the_fake(shown_text: str, draft: int) -> str:
    """What a good writer says in draft 0; draft 1 makes things up."""
    number = re.findall(r"Bel(\d+)", shown_text)
    name = f"Bel{number[0]}" if number else "it"
    year = re.findall(r"in (\d{4})", shown_text)
    rate = ("fast, 4", "slow, 8")[draft]
    if not year:
        return f"Learn: {rate} times\nFact: The mill {name} is in Rome."
    right = (year[0], "1111")[draft]
    return f"Learn: {rate} times\nFact: The mill {name} was built in {right}.\nQ: In which year was {name} built?\nA: {right}"


@dataclass
class Bench(FakeWorkshop):
    """Writes edits; a body that trained fast knows the built-in years, and (when told so) forgets earlier passages."""

    writings: int = 0
    asked: int = 0
    forgets: tuple[str, ...] = ()

    def sample(
        self, body: Body, tasks: Sequence[Task], k: int, seed: int, temperature: float
    ) -> list[list[tuple[str, float]]]:
        if INSTRUCTIONS not in body.prompt.instructions:
            return super().sample(body, tasks, k, seed, temperature)
        self.writings += 1
        return [[(written_by_the_fake(t.input, j), 0.0) for j in range(k)] for t in tasks]

    def evaluate(self, body: Body, tasks: Sequence[Task], seed: int) -> Scorecard:
        self.asked += 1
        child = body.root != self.parent.root
        chances = {
            True: lambda _, t: 0.0 if t.id.split("/")[0] in self.forgets else float(t.id.endswith("/year")),
            False: lambda _, t: float(t.id.split("/")[0] in self.forgets),
        }
        if isinstance(self.practice, Passages):
            self.chance = chances[child]
        return super().evaluate(body, tasks, seed)


def able(situation: Situation) -> Situation:
    return replace(situation, trainable=True)


class TestSelfEdit(LeverContract):
    """On failures: the fake suite has no passages."""

    @pytest.fixture
    def lever(self) -> SelfEdit:
        return SelfEdit()

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Body:
        return trainable_body(tmp_path / "parent")

    @pytest.fixture
    def situation(self, parent: Body) -> Situation:
        return able(fake_situation(parent, effort=0.03))


class TestControl(TestSelfEdit):
    @pytest.fixture
    def lever(self) -> SelfEdit:
        return SelfEdit("raw")


class TestOnPassages(TestSelfEdit):
    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Any:
        return lambda name: Bench(tmp_path / name, parent, Passages())


# ---- propose ------------------------------------------------------------------------------------


def test_it_is_installed_and_its_control_is_not() -> None:
    assert instances({}, ["self_edit"])["self_edit"].name == "self_edit"
    assert instances({"self_edit-raw": SelfEdit("raw")}, ["self_edit-raw"])["self_edit-raw"].name == "self_edit-raw"
    assert "self_edit-raw" not in instances({}, [])


def test_a_body_without_weights_gets_no_proposal(tmp_path: Path) -> None:
    assert SelfEdit().propose(fake_situation(fake_body(tmp_path / "b"))) is None


def test_after_a_failure_more_drafts_and_smaller_steps(tmp_path: Path) -> None:
    situation = able(fake_situation(fake_body(tmp_path / "b")))
    first = SelfEdit().propose(situation)
    assert first is not None
    second = SelfEdit().propose(replace(situation, history=[rejected(first)]))
    assert second is not None
    assert second.settings["drafts"] == first.settings["drafts"] + 1
    assert second.settings["recipe"]["learning_rate"] == first.settings["recipe"]["learning_rate"] / 2


# ---- build --------------------------------------------------------------------------------------


@pytest.fixture
def parent(tmp_path: Path) -> Body:
    return trainable_body(tmp_path / "parent")


def proposal(parent: Body, arm: Any = "edits", **settings: Any) -> Proposal:
    found = SelfEdit(arm).propose(able(fake_situation(parent, effort=0.03)))
    assert found is not None
    return replace(found, settings={**found.settings, **settings})


def grown(parent: Body, built: Any, root: Path, digest: str = "b") -> Body:
    shutil.copytree(parent.root, root)
    for path, value in built.changes.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(value.read_bytes() if isinstance(value, Path) else value)
    return Body(root, digest * 64)


def test_edits_that_paid_train_the_child_and_the_writer(tmp_path: Path, parent: Body) -> None:
    """Draft 0 is grounded, draft 1 makes things up; the reward is measured, kept and voted with."""
    bench = Bench(tmp_path / "w", parent, Passages())
    built = SelfEdit().build(parent, proposal(parent), bench)
    child = grown(parent, built, tmp_path / "child")
    edits = read_edits(child)
    assert len(edits) == 8
    for edit in edits:
        assert (edit.before, edit.after, edit.by) == (0.0, pytest.approx(1 / 3, abs=1e-3), parent.digest)
        assert edit.kept == (edit.draft == 0), "of equal rewards the one that says more"
        assert edit.confirmed == (edit.after if edit.kept else None)
        assert (edit.rate, edit.passes) == (("fast", 4), ("slow", 8))[edit.draft]
        assert [w.question for w in edit.written] == [f"In which year was Bel{edit.unit[1:]} built?"] * edit.kept
    data = read_data(child)
    texts = {p.id: p.text for p in Passages().passages()}
    for datum in data:
        if datum.skill != WRITING:
            assert datum.answer in texts[datum.skill] or datum.answer.startswith("The mill Bel")
        assert (datum.by == REAL) == (datum.check == "given")
        assert datum.rung == "execution"
    assert sum(d.check == "given" for d in data) == 4, "the passages themselves"
    assert sum(d.skill == WRITING for d in data) == 4, "what the writer learns from"
    assert built.rung is Rung.EXECUTION
    assert (built.note["edits that paid"], built.note["grounded questions, kept"]) == (8, 4)
    assert built.note["learning rate"] == RECIPE.learning_rate * 2
    assert built.note["practice questions"] == {"asked": 12, "before": 0.0, "after": pytest.approx(1 / 3, abs=1e-3)}
    json.dumps(built.note, allow_nan=False)


def test_the_control_writes_nothing_and_reads_as_much(tmp_path: Path, parent: Body) -> None:
    wanted = proposal(parent, "raw", tokens=6000)
    bench = Bench(tmp_path / "raw", parent, Passages())
    raw = SelfEdit("raw").build(parent, wanted, bench)
    assert bench.writings == 0
    child = grown(parent, raw, tmp_path / "child")
    assert sorted(d.answer for d in read_data(child)) == sorted(e.text for e in read_edits(child))
    assert all((e.written, e.kept, e.before) == ((), True, 0.0) for e in read_edits(child))
    edits = SelfEdit().build(parent, proposal(parent, tokens=6000), Bench(tmp_path / "e", parent, Passages()))
    assert raw.note["steps"] * 8 > 20, "short passages are passed over more often"
    assert edits.cost.tokens > raw.cost.tokens, "drafts are measured"
    final = edits.cost.tokens / 2  # as many again went into the inner updates of two drafts
    assert 0.6 < raw.cost.tokens / final < 1.6


def test_a_second_round_takes_new_passages_and_asks_about_the_first(tmp_path: Path, parent: Body) -> None:
    one = SelfEdit().build(parent, proposal(parent), Bench(tmp_path / "w1", parent, Passages(8)))
    child = grown(parent, one, tmp_path / "child")
    before, first = read_data(child), read_edits(child)
    wanted = proposal(child)
    assert wanted.settings["recipe"]["start"] == "champion"
    two = SelfEdit().build(child, wanted, Bench(tmp_path / "w2", child, Passages(8)))
    grandchild = grown(child, two, tmp_path / "grandchild", "c")
    assert read_data(grandchild)[: len(before)] == before
    edits = read_edits(grandchild)
    assert edits[: len(first)] == first, "nothing is replaced"
    assert not {e.unit for e in edits[len(first) :]} & {e.unit for e in first}
    assert two.note["earlier passages"]["asked"] == 8
    assert all(e.retained_after is not None for e in edits[len(first) :])
    assert {d.by for d in read_data(grandchild)} == {parent.digest, child.digest, REAL}


def test_a_child_that_forgot_is_dropped(tmp_path: Path, parent: Body) -> None:
    one = SelfEdit().build(parent, proposal(parent), Bench(tmp_path / "w1", parent, Passages(8)))
    child = grown(parent, one, tmp_path / "child")
    learned = tuple(e.unit for e in read_edits(child) if e.kept)
    with pytest.raises(BuildError, match="forgot"):
        SelfEdit().build(child, proposal(child), Bench(tmp_path / "w2", child, Passages(8), forgets=learned))


def test_an_interrupted_build_goes_on_to_the_same_bytes(tmp_path: Path, parent: Body) -> None:
    """Stopped in an inner update, in the next one, in the last training: nothing is written or trained twice."""
    wanted = proposal(parent)
    whole_bench = Bench(tmp_path / "whole", parent, Passages())
    whole = SelfEdit().build(parent, wanted, whole_bench)
    writings, total = 0, 0
    for stop in (1, len(whole_bench.heard) // 3, len(whole_bench.heard) // 3):
        bench = Bench(tmp_path / "cut", parent, Passages(), stop_after=stop)
        with pytest.raises(Stopped):
            SelfEdit().build(parent, wanted, bench)
        writings += bench.writings
        total += len(bench.heard)
    last = Bench(tmp_path / "cut", parent, Passages())
    resumed = SelfEdit().build(parent, wanted, last)
    assert (writings, last.writings) == (1, 0)
    assert len(last.heard) < len(whole_bench.heard)
    assert fingerprint(resumed) == fingerprint(whole)
    assert json.dumps(resumed.note) == json.dumps(whole.note)


def test_failures_come_with_their_confirmed_answers(tmp_path: Path, parent: Body) -> None:
    bench = Bench(tmp_path / "w", parent, chance=lambda body, task: 0.2)
    built = SelfEdit().build(parent, proposal(parent), bench)
    child = grown(parent, built, tmp_path / "child")
    answers = {t.input: t.answer for t in FakePractice().draw(5000, 0)}
    given = [d for d in read_data(child) if d.check == "given"]
    assert len(given) == built.note["failures"] == 4
    assert all(answers[d.input] == d.answer for d in given)


def test_nothing_to_learn_is_an_error(tmp_path: Path, parent: Body) -> None:
    with pytest.raises(BuildError, match="no passage to learn"):
        SelfEdit().build(parent, proposal(parent), Bench(tmp_path / "w", parent, chance=lambda b, t: 1.0))


def test_a_body_that_lost_its_weights_is_an_error(tmp_path: Path, parent: Body) -> None:
    with pytest.raises(BuildError, match="no weights"):
        SelfEdit().build(fake_body(tmp_path / "bare"), proposal(parent), Bench(tmp_path / "w", parent, Passages()))


# ---- edits as text ------------------------------------------------------------------------------

TEXT = "The bakery Galelle stands in the town of Ostulmer. It was founded by Torust Arra in 1728."
UNIT = Unit("p", "p", TEXT, sentences(TEXT), ())
PIECE = UNIT.pieces[1]


@pytest.mark.parametrize(
    ("text", "fact", "question"),
    [
        ("Fact: The bakery Galelle was founded by Torust Arra in 1728.\nQ: Who founded the bakery Galelle?\nA: Torust Arra.", True, True),
        ("Fact: The bakery Galelle was founded by Torust Arra in 1729.\nQ: Who founded it?\nA: Torust Arra", False, False),
        ("Fact: Rome.\nQ: Where is the bakery Galelle?\nA: Ostulmer", False, False),  # another sentence's answer
        ("Q: Is the bakery Galelle by Torust Arra?\nA: Torust Arra", False, False),  # the question says it
        ("Q: Who founded the bakery Galelle in Rome?\nA: Torust Arra", False, False),  # an invented name
        ("Q: In which year was Galelle founded?\nA: 172", False, False),  # part of a number
        ("", False, False),
        ("A: 1728\nQ: ?", False, False),
    ],
)  # fmt: skip
def test_only_what_the_passage_says_is_kept(text: str, fact: bool, question: bool) -> None:
    found = read_written(text, PIECE, UNIT)
    assert (bool(found.fact), bool(found.question)) == (fact, question)
    if question:
        assert found.answer == "Torust Arra"


def test_of_a_failure_only_rewordings_with_the_confirmed_answer_are_kept() -> None:
    unit = Unit(
        "t", "sums", "What is 3 + 4? The answer is 7.", ("What is 3 + 4? The answer is 7.",), (), "7", "What is 3 + 4?"
    )
    assert read_written("Q: Which number is 3 + 4?\nA: 7", unit.pieces[0], unit).question == "Which number is 3 + 4?"
    for wrong in ("Q: Which number is 3 + 5?\nA: 7", "Q: Which number is 3 + 4?\nA: 8", "Q: what is  3 + 4?\nA: 7"):
        assert read_written(wrong, unit.pieces[0], unit).question == ""


def test_settings_are_voted_for_and_held_to_the_grid() -> None:
    assert settings_of(["Learn: fast, 99 times", "Learn: fast, 8 times", "Learn: slow, 1 times", "nothing"]) == (
        "fast",
        8,
    )
    assert settings_of(["Learn: swiftly, 3 times"]) == DEFAULT


def edit(**given: Any) -> Edit:
    wrote = (Written(PIECE, "", "Who founded the bakery Galelle?", "Torust Arra"),)
    return replace(Edit("p", TEXT, 0, wrote, "fast", 4, "a", 0.0, 0.5, kept=True), **given)


def test_edits_survive_the_file(tmp_path: Path) -> None:
    body = fake_body(tmp_path)
    assert read_edits(body) == []
    (tmp_path / "model" / "adapter").mkdir(parents=True)
    edits = [edit(text="two\nlines\u2028✓"), edit(before=None, after=None)]
    (tmp_path / "model/adapter/edits.jsonl").write_bytes(render_edits(edits))
    assert read_edits(body) == edits
    assert [e.gain for e in edits] == [0.5, 0.0]


def test_edits_that_paid_become_worked_examples() -> None:
    plain = writer_prompt([], False)
    taught = writer_prompt([edit(), edit(unit="q", after=0.0), edit(unit="r", kept=False)], False)
    assert len(plain.examples) == len(taught.examples) == 6
    assert taught.examples[-1] == examples_of(edit())[0]
    assert taught.examples[-1].input == shown(UNIT.pieces, PIECE) == TEXT
    assert taught.examples[:5] == plain.examples[:5]


@pytest.mark.parametrize("failures", [False, True])
def test_the_worked_examples_are_what_is_asked_for(failures: bool) -> None:
    """Each would be kept if the model wrote it."""
    for example in writer_prompt([], failures).examples:
        parts = sentences(example.input)
        answer = example.answer.rsplit("A: ", 1)[1]
        question = example.input.split(" The answer is ")[0]
        unit = Unit("u", "s", example.input, parts, (), *((answer, question) if failures else ()))
        found = read_written(example.answer, example.input if failures else parts[-1], unit)
        assert found.question, example
        assert failures or found.fact, example
        rate, passes = settings_of([example.answer])
        assert (
            rendered(replace(found, fact=re.findall("Fact: (.*)", example.answer)[0]), rate, passes) == example.answer
        )


def test_the_lines_of_an_edit_are_distinct_and_begin_with_the_passage() -> None:
    lines = lines_of(edit(), UNIT)
    assert lines == [
        ("Complete the text: The bakery Galelle stands in …", TEXT, True),
        ("Who founded the bakery Galelle?", "Torust Arra", False),
    ]
    assert recital("It rains today.") == ("Complete the text: It rains …", "It rains today.")
