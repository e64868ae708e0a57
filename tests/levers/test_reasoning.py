from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from upwright.bodies._think import CUE, MARK, split
from upwright.bodies.body import Body, Example, Inference, Memory, Prompt, Training, render_memory, render_toml
from upwright.diagnose.rationales import read
from upwright.errors import BuildError, Stopped
from upwright.levers import may_use
from upwright.levers._monitor import watch_thoughts
from upwright.levers._rationales import HINTED, SEEDS, Thought, _examples, data_of, gather, pay, thinking
from upwright.levers.base import Situation
from upwright.levers.reasoning import (
    Reasoning,
    ReasoningSettings,
    choose_thinking,
    completions,
    label,
    lessons_of,
    strategies,
)
from upwright.levers.rejection import REAL, Datum, lesson, read_data
from upwright.records import Proposal, Task, from_json
from upwright.testing.levers import (
    FakeWorkshop,
    LeverContract,
    fake_body,
    fake_chance,
    fake_situation,
    fake_task,
    fingerprint,
    rejected,
)
from upwright.testing.tiny import tiny_model

RECIPE = Training(examples=240, epochs=1.0, batch=8, rank=2, learning_rate=1e-3, real=0.0, samples=4)
Chance = Callable[[Body, Task], float]


@dataclass
class Thoughts(FakeWorkshop):
    """A body that thinks writes a thought before its answer; ``thought`` is what it writes for a task."""

    thought: Callable[[Task], str] = lambda task: f"{task.input.split('?')[0].split('(')[0]} gives {task.answer}."
    sampled: int = 0

    def sample(
        self, body: Body, tasks: Sequence[Task], k: int, seed: int, temperature: float
    ) -> list[list[tuple[str, float]]]:
        self.sampled += 1
        found = super().sample(body, tasks, k, seed, temperature)
        if not body.inference.think:
            return found
        return [
            [(f"{self.thought(task)}\n{MARK} {text}" if score else text, score) for text, score in texts]
            for task, texts in zip(tasks, found, strict=True)
        ]


def pays(body: Body, task: Task) -> float:
    """Thinking helps sums a lot, hurts the rest; a hint helps whoever thinks."""
    if body.inference.think:
        return 1.0 if "The answer is" in task.input else 0.9 if task.skill == "sums" else 0.1
    return 0.2 if task.skill == "sums" else 0.7


def trainable_body(root: Path) -> Body:
    body = fake_body(root, Prompt("Be brief.", (Example(fake_task(0).input, "x"),)))
    tiny_model(root / "model")
    (root / "training.toml").write_bytes(render_toml(RECIPE))
    return body


@pytest.fixture
def parent(tmp_path: Path) -> Body:
    return trainable_body(tmp_path / "parent")


def able(situation: Situation) -> Situation:
    return replace(situation, trainable=True)


def proposal(parent: Body, **changes: Any) -> Proposal:
    found = Reasoning().propose(able(fake_situation(parent, effort=0.3)))
    assert found is not None
    return replace(found, settings={**found.settings, **changes})


def grown(parent: Body, changes: Any, root: Path) -> Body:
    shutil.copytree(parent.root, root)
    for path, value in changes.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(value.read_bytes() if isinstance(value, Path) else value)
    return Body(root, "b" * 64)


class TestRationales(LeverContract):
    @pytest.fixture
    def lever(self) -> Reasoning:
        return Reasoning()

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Body:
        return trainable_body(tmp_path / "parent")

    @pytest.fixture
    def situation(self, parent: Body) -> Situation:
        return able(fake_situation(parent, effort=0.3))

    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Callable[[str], Any]:
        return lambda name: Thoughts(tmp_path / name, parent, chance=pays)


class TestTestTime(LeverContract):
    """A body without weights: strategies alone."""

    @pytest.fixture
    def lever(self) -> Reasoning:
        return Reasoning()

    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Callable[[str], Any]:
        chance: Chance = lambda body, task: 0.8 if body.inference.think else fake_chance(body, task)  # noqa: E731
        return lambda name: Thoughts(tmp_path / name, parent, chance=chance)


# ---- propose ------------------------------------------------------------------------------------


def kinds(situation: Situation) -> list[str]:
    found: list[str] = []
    history: list[Any] = []
    while (one := Reasoning().propose(replace(situation, history=history))) is not None:
        found.append(one.settings["kind"])
        history.append(rejected(one))
    return found


def test_rationales_and_test_time_in_turn(tmp_path: Path) -> None:
    body = fake_body(tmp_path / "b")
    found = kinds(able(fake_situation(body)))
    assert found[:4] == ["rationales", "test time", "rationales", "test time"]
    assert found.count("rationales") == 2
    thinks = fake_body(tmp_path / "t", inference=Inference(think=30))
    assert kinds(able(fake_situation(thinks)))[:2] == ["test time", "rationales"]


def test_without_weights_only_test_time_and_no_strategy_twice(tmp_path: Path) -> None:
    body = fake_body(tmp_path / "endpoint")
    assert set(kinds(fake_situation(body))) == {"test time"}
    assert strategies(body.inference, False)[0] == {"think": 48}, "a larger model is asked to think first"
    assert "think" not in strategies(body.inference, True)[0]


def test_an_endpoint_needs_no_leave_to_train(tmp_path: Path) -> None:
    allowed = ("prompt.md", "inference.toml")
    assert may_use(Reasoning(), allowed, trainable=False)
    assert not may_use(Reasoning(), allowed, trainable=True)
    assert not may_use(Reasoning(), ("prompt.md",), trainable=False)


def test_strategies_write_no_more_than_four_answers() -> None:
    for how in (Inference(), Inference(think=20)):
        for option in strategies(how, True):
            after = replace(how, **option)
            assert label(option)
            assert after.budget <= 4 * (after.max_tokens + after.think)
            assert completions(after) > completions(how)
    assert len({label(o) for o in strategies(Inference(), True)}) == len(strategies(Inference(), True))


# ---- gathering ----------------------------------------------------------------------------------


def tasks(n: int = 48) -> list[Task]:
    return [fake_task(i) for i in range(n)]


def test_hand_written_thoughts_are_in_the_form_that_is_asked_for() -> None:
    for one in SEEDS:
        thought, answer = split(one.answer)
        assert answer
        assert read(one.input, thought, answer).derives


def test_only_thoughts_that_derive_their_answer_are_kept(tmp_path: Path, parent: Body) -> None:
    """Right answers after thoughts that say nothing of the question: all dropped, so that no skill thinks."""
    always: Chance = lambda body, task: 1.0 if body.inference.think else 0.2  # noqa: E731
    bench = Thoughts(tmp_path / "w", parent, chance=always, thought=lambda task: f"It is {task.answer}.")
    found = gather(parent, tasks(), (3, 40, 0.8, 0.0), 1, bench)
    assert len(found.thoughts) >= 24
    assert not any(t.usable for t in found.thoughts)
    assert {t.reading.why for t in found.thoughts} == {"nothing of the question is in it"}
    assert data_of(found, "p")[0] == []


def test_thinking_where_it_pays_plain_where_not(tmp_path: Path, parent: Body) -> None:
    bench = Thoughts(tmp_path / "w", parent, chance=pays)
    found = gather(parent, tasks(), (3, 40, 0.8, 0.0), 1, bench)
    assert [skill for skill, p in found.pays.items() if p.thinks] == ["sums"]
    thoughts, plain = data_of(found, "p" * 64)
    assert {d.skill for d in thoughts} == {"sums"}
    assert "sums" not in {d.skill for d in plain}
    answers = {t.input: t for t in tasks()}
    for datum in thoughts:
        thought, answer = split(datum.answer)
        task = answers[datum.input]  # without the hint
        assert answer == task.answer
        assert read(datum.input, thought, task.answer).derives
        assert (datum.by, datum.rung) == ("p" * 64, "execution")
        assert datum.agree > 0 or datum.check.endswith(HINTED)


def test_a_hint_where_no_sample_is_right_and_it_is_gone_afterwards(tmp_path: Path, parent: Body) -> None:
    """Nothing passes, plain or thinking, but with the answer given: there is nothing to lose."""
    hinted: Chance = lambda body, task: float("The answer is" in task.input)  # noqa: E731
    bench = Thoughts(tmp_path / "w", parent, chance=hinted)
    found = gather(parent, tasks(), (3, 40, 0.8, 0.0), 1, bench)
    thoughts, _ = data_of(found, "p")
    assert len(thoughts) == 48
    assert all(d.check == "exact" + HINTED and d.agree == 0 for d in thoughts)
    assert not any("The answer is" in d.input for d in thoughts)


def test_a_hint_alone_does_not_make_thinking_pay() -> None:
    some = [fake_task(i) for i in (1, 5, 9)]
    given = [Thought(t, "x", read(t.input, f"{t.input} {t.answer}", t.answer), hinted=True, agree=0.0) for t in some]
    assert not pay(some, {t.id: 0.3 for t in some}, given)["sums"].thinks
    assert pay(some, {}, given)["sums"].thinks
    assert not pay(some, {}, given[:1])["sums"].thinks, "one thought is too few"
    free = [replace(one, hinted=False, agree=0.33) for one in given]
    assert pay(some, {t.id: 0.2 for t in some}, free)["sums"].thinks
    assert not pay(some, {t.id: 0.3 for t in some}, free)["sums"].thinks, "too little to tell from luck"


def test_later_thoughts_are_shown_the_first(tmp_path: Path, parent: Body) -> None:
    (parent.root / "memory.jsonl").write_bytes(render_memory([Memory("m", "case", "sums", "q", "a")]))
    bench = Thoughts(tmp_path / "w", parent)
    own = [
        Thought(t, "x", read(t.input, f"{t.input} {t.answer}", t.answer), False, 1.0) for t in map(fake_task, (1, 5, 4))
    ]
    lost = replace(own[0], reading=read("q", "", "a"))
    assert _examples([lost]) == list(SEEDS)
    shown = _examples([lost, *own[:2]])
    assert [e.input for e in shown] == [own[0].task.input, own[1].task.input, SEEDS[0].input]
    assert {e.input for e in _examples(own)[:2]} == {fake_task(1).input, fake_task(4).input}, "different skills first"
    body = thinking(parent, 40, bench, shown)
    assert (body.inference.think, body.inference.memory) == (40, 0)
    assert list(body.prompt.examples) == shown
    assert thinking(parent, 40, bench).prompt.examples == ()
    messages = lesson(body, "What?", "That.").messages
    assert [m.content for m in messages] == [f"Be brief.\n{CUE}", "What?"]


# ---- build --------------------------------------------------------------------------------------


def test_what_it_makes(tmp_path: Path, parent: Body) -> None:
    bench = Thoughts(tmp_path / "w", parent, chance=pays)
    wanted = proposal(parent)
    built = Reasoning().build(parent, wanted, bench)
    child = grown(parent, built.changes, tmp_path / "child")
    data = read_data(child)
    think = [d for d in data if split(d.answer)[1] is not None]
    assert {d.skill for d in think} == {"sums"}
    assert {d.skill for d in data} == {"sums", "dates", "names", "yes or no"}
    note = built.note
    assert sum(note["thoughts trained on, new"].values()) == len(think)
    assert note["does thinking pay"]["sums"]["thinks"]
    assert set(note["practice score of the child"]) == {"plain", "thinking"}
    best = max(note["practice score of the child"], key=note["practice score of the child"].__getitem__)
    assert (child.inference.think > 0) == (best == "thinking") == ("thoughts" in note)
    assert note["trained from"] == "base"
    assert built.rung.value == "execution"
    json.dumps(note, allow_nan=False)


def test_data_accumulate_and_the_second_round_goes_on(tmp_path: Path, parent: Body) -> None:
    one = Reasoning().build(parent, proposal(parent), Thoughts(tmp_path / "w1", parent, chance=pays))
    child = grown(parent, one.changes, tmp_path / "child")
    before = read_data(child)
    again = proposal(child, kind="rationales")
    two = Reasoning().build(child, again, Thoughts(tmp_path / "w2", child, chance=pays))
    after = read_data(grown(child, two.changes, tmp_path / "grandchild"))
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert two.note["trained from"] == "champion"


def test_an_interrupted_build_goes_on_to_the_same_bytes(tmp_path: Path, parent: Body) -> None:
    wanted = proposal(parent)
    whole = Reasoning().build(parent, wanted, Thoughts(tmp_path / "whole", parent, chance=pays))
    cut = Thoughts(tmp_path / "cut", parent, chance=pays, stop_after=3)
    with pytest.raises(Stopped):
        Reasoning().build(parent, wanted, cut)
    again = Thoughts(tmp_path / "cut", parent, chance=pays)
    resumed = Reasoning().build(parent, wanted, again)
    assert again.sampled < cut.sampled + 3, "what was sampled is not sampled again"
    assert fingerprint(resumed) == fingerprint(whole)
    assert resumed.note == whole.note


def test_where_thinking_pays_for_nothing_the_build_goes_on_to_test_time(tmp_path: Path, parent: Body) -> None:
    def chance(body: Body, task: Task) -> float:
        return 0.0 if body.inference.think else 0.9 if body.inference.sure else 0.3

    bench = Thoughts(tmp_path / "w", parent, chance=chance)
    built = Reasoning().build(parent, proposal(parent), bench)
    assert set(built.changes) == {"inference.toml"}
    assert "unless" in built.note["chosen"]
    assert not any(p["thinks"] for p in built.note["thinking pays for no skill"].values())
    with pytest.raises(BuildError, match="thinking pays for no skill"):
        Reasoning().build(parent, proposal(parent, options=()), Thoughts(tmp_path / "w2", parent, chance=chance))


def test_a_body_that_lost_its_weights_is_an_error(tmp_path: Path, parent: Body) -> None:
    with pytest.raises(BuildError, match="no weights"):
        Reasoning().build(fake_body(tmp_path / "bare"), proposal(parent), Thoughts(tmp_path / "w", parent))


def test_settings_that_do_not_fit(tmp_path: Path, parent: Body) -> None:
    with pytest.raises(BuildError, match="does not fit inference"):
        Reasoning().build(
            parent, proposal(parent, kind="test time", options=[{"hard": "luck"}]), Thoughts(tmp_path / "w", parent)
        )


def test_lessons_of_a_skill_that_thinks_are_thoughts_alone(tmp_path: Path, parent: Body) -> None:
    bench = Thoughts(tmp_path / "w", parent, chance=pays)
    found = gather(parent, tasks(), (3, 40, 0.8, 0.0), 1, bench)
    thoughts, plain = data_of(found, "p")
    old = Datum("an old sum", "12", "sums", REAL, "exact", "execution", 1.0)
    settings = from_json(ReasoningSettings, dict(proposal(parent).settings))
    lessons, used = lessons_of(parent, [old, *thoughts, *plain], found, settings, bench)
    assert old not in used
    assert len(lessons) == len(used) == len(thoughts) + len(plain)
    assert all(CUE in one.messages[0].content for one in lessons)


@pytest.mark.parametrize(("good", "form"), [(0.9, "thinking"), (0.3, "plain")])
def test_the_child_thinks_when_that_scores_higher(tmp_path: Path, parent: Body, good: float, form: str) -> None:
    chance: Chance = lambda body, task: good if body.inference.think else 0.3  # noqa: E731
    chosen, scores = choose_thinking(parent, {}, 40, tasks(), 1, Thoughts(tmp_path / "w", parent, chance=chance))
    assert set(scores) == {"plain", "thinking"}
    assert (grown(parent, chosen, tmp_path / "c").inference.think > 0) == (form == "thinking")


# ---- the monitor --------------------------------------------------------------------------------


CHANGES = {"inference.toml": render_toml(Inference(think=40, memory=0))}


def test_the_monitor_reads_the_childs_thoughts(tmp_path: Path, parent: Body) -> None:
    always: Chance = lambda body, task: 1.0  # noqa: E731
    found = watch_thoughts(parent, CHANGES, tasks(20), 1, Thoughts(tmp_path / "a", parent, chance=always))
    assert (found.thoughts, found.right, found.derivation, found.illegible) == (20, 20, 1.0, 0.0)
    assert found.length_ratio == 1.0
    empty = Thoughts(tmp_path / "b", parent, chance=always, thought=lambda task: "because " * 30 + str(task.answer))
    worse = watch_thoughts(parent, CHANGES, tasks(20), 1, empty)
    assert (worse.derivation, worse.illegible) == (0.0, 1.0)
    assert worse.lacking == {"nothing of the question is in it": 20}


@pytest.mark.parametrize("reads", [True, False])
def test_a_thought_that_is_not_read_is_not_faithful(tmp_path: Path, parent: Body, reads: bool) -> None:
    """Handed back whole, cut or corrupted, an answer either follows the thought or does not."""

    class Follows(Thoughts):
        def sample(self, body: Body, asked: Sequence[Task], *rest: Any) -> list[list[tuple[str, float]]]:
            if body.inference.think:
                return super().sample(body, asked, *rest)
            thoughts = [t.input.split("went:\n")[1].split("\n\n")[0] for t in asked]
            return [[(thought.split()[-1] if reads else "7", 0.0)] for thought in thoughts]

    always: Chance = lambda body, task: 1.0  # noqa: E731
    found = watch_thoughts(parent, CHANGES, tasks(20), 1, Follows(tmp_path / "w", parent, chance=always))
    assert found.asked == 8
    assert found.faithful == (1.0 if reads else 0.0)
    assert found.changed["truncated"] == found.faithful


def test_length_creep_is_against_the_parent_asked_alike(tmp_path: Path, parent: Body) -> None:
    class Longer(Thoughts):
        def sample(self, body: Body, asked: Sequence[Task], *rest: Any) -> list[list[tuple[str, float]]]:
            words = "one two three four " if "training.toml" in self.marks(body) else ""
            self.thought = lambda task: words + "one two three four"
            return super().sample(body, asked, *rest)

        def marks(self, body: Body) -> set[str]:
            return {"training.toml"} if body.training.rank == 99 else set()

    changes = {**CHANGES, "training.toml": render_toml(replace(RECIPE, rank=99))}
    always: Chance = lambda body, task: 1.0  # noqa: E731
    found = watch_thoughts(parent, changes, tasks(12), 1, Longer(tmp_path / "w", parent, chance=always))
    assert found.length_ratio == 2.0


def test_a_child_without_thoughts_shows_nothing(tmp_path: Path, parent: Body) -> None:
    never: Chance = lambda body, task: 0.0  # noqa: E731
    found = watch_thoughts(parent, CHANGES, tasks(12), 1, Thoughts(tmp_path / "w", parent, chance=never))
    assert (found.thoughts, found.derivation, found.faithful, found.length_ratio) == (0, None, None, None)
