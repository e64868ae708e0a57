"""What every lever must do, and a workshop without a model to try it in.

Inherit :class:`LeverContract` and give it a fixture named ``lever``; override ``parent`` or ``workshop`` when
the lever needs another body or other tools::

    class TestMyLever(LeverContract):
        @pytest.fixture
        def lever(self):
            return MyLever()
"""

from __future__ import annotations

import copy
import hashlib
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from upwright.bodies.body import Body, Inference, Prompt, Training, render_prompt, render_toml
from upwright.errors import BuildError, Stopped, TaskError
from upwright.evolution.records import Trials
from upwright.levers.base import Attempt, Built, Changes, Lever, Situation
from upwright.principles import Constitution
from upwright.records import (
    Answer,
    Cost,
    Decision,
    Finish,
    Interval,
    Outcome,
    Proposal,
    Question,
    Scorecard,
    Task,
    Weakness,
    derive_seed,
    from_json,
    to_json,
)
from upwright.tasks.base import Axis, Passage, Practice

SKILLS = ("dates", "sums", "yes or no", "names")


def fake_task(number: int) -> Task:
    """Task ``number`` of an endless suite of four skills with answers of four shapes."""
    skill = SKILLS[number % len(SKILLS)]
    answer = {
        "dates": f"20{number % 90 + 10}-0{number % 9 + 1}-1{number % 10}",
        "sums": str(number * 7),
        "yes or no": ("yes", "no")[number // 4 % 2],
        "names": ("Ann", "Bo", "Cy", "Di", "Ed")[number // 4 % 5],
    }[skill]
    return Task(
        f"t{number}", f"About {skill}: question {number}?", answer, skill, number % 3 + 1, check={"kind": "any"}
    )


class FakePractice:
    """Practice tasks of :func:`fake_task`; a text scores 1 when it is the answer.

    Args:
        size: tasks there are.
    """

    def __init__(self, name: str = "fake", size: int = 5000) -> None:
        self.name = name
        self.size = size

    axis: Axis | None = None
    """No difficulty axis."""

    def problems(self, difficulty: int, n: int, seed: int) -> tuple[Question, ...]:
        """None can be asked for."""
        raise TaskError(f"suite {self.name}: has no difficulty axis")

    def passages(self) -> tuple[Passage, ...]:
        """None."""
        return ()

    def draw(self, n: int, seed: int) -> tuple[Task, ...]:
        """``n`` distinct tasks."""
        return tuple(fake_task(i) for i in random.Random(seed).sample(range(self.size), min(n, self.size)))

    def score(self, text: str, task: Task) -> float:
        """1 for the right answer, else 0."""
        return float(text.strip() == task.answer)

    def describe(self) -> Mapping[str, Any]:
        """Kind and size."""
        return {"kind": "fake", "size": self.size}


def fake_chance(body: Body, task: Task) -> float:
    """Chance that a body answers a task right, in [0, 1]: a stand-in for a model that reads its parts.

    Starts at 0.3; worked examples and memories of the skill, a rule about it, and votes each add to it.
    """
    prompt, inference = body.prompt, body.inference
    chance = 0.3
    chance += 0.12 * min(3, sum(f"About {task.skill}:" in e.input for e in prompt.examples))
    chance += 0.1 * (f"For {task.skill}:" in prompt.instructions)
    about = [e for e in body.memory if e.skill == task.skill and e.kind != "bare"]
    if about and inference.memory:
        chance += 0.06 * min(len(about), inference.memory) + 0.1 * any(e.kind == "lesson" for e in about)
    if inference.samples > 1 and inference.choose == "vote":
        chance += 0.05 * inference.samples
    return min(chance, 0.95)


@dataclass
class FakeWorkshop:
    """A workshop whose "model" is :func:`fake_chance` (or another function of body and task).

    Attributes:
        answers: completions asked for so far.
        heard: progress reports so far.
        stop_after: reports after which ``progress`` raises ``Stopped``; ``None`` never.
        needs_tokens: answers are cut short when ``max_tokens`` is less.
        archive: digest → a child of earlier rounds.
        trials: the objective's evaluator.
    """

    root: Path
    parent: Body
    practice: Practice = field(default_factory=FakePractice)
    rehearsal: Sequence[Practice] = ()
    chance: Callable[[Body, Task], float] = fake_chance
    needs_tokens: int = 0
    constitution: Constitution | None = None
    judge: Body | None = None
    stop_after: int | None = None
    answers: int = 0
    heard: list[tuple[int, int, str]] = field(default_factory=list)
    drafts: int = 0
    archive: Mapping[str, Body] = field(default_factory=dict)
    trials: Trials | None = None

    def __post_init__(self) -> None:
        self.scratch = self.root / "scratch"
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.state = self.root / "state"
        self.state.mkdir(exist_ok=True)

    def _luck(self, task: Task, *salt: object) -> float:
        digest = hashlib.sha256(repr((task.id, *salt)).encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def evaluate(self, body: Body, tasks: Sequence[Task], seed: int) -> Scorecard:
        """Right when the task's luck (the same for every body) is below the body's chance."""
        inference = body.inference
        outcomes = []
        for task in tasks:
            cut = inference.max_tokens < self.needs_tokens
            right = not cut and self._luck(task, seed) < self.chance(body, task)
            text = str(task.answer) if right else "no idea"
            samples = inference.samples + inference.refine
            self.answers += samples
            tokens = 20 + sum(len(e.input) // 4 for e in body.prompt.examples)
            finish = Finish.LENGTH if cut else Finish.STOP
            answer = Answer(task.id, text, finish, tokens, 4 * samples, 0.01 * samples, samples=samples)
            outcomes.append(Outcome(task.id, task.skill, task.difficulty, answer, self.practice.score(text, task)))
        return Scorecard(body.digest or "scratch", self.practice.name, seed, tuple(outcomes))

    def ahead(self, bodies: Sequence[Body], tasks: Sequence[Task], seed: int) -> None:
        """Nothing: answering here costs nothing."""

    def sample(
        self, body: Body, tasks: Sequence[Task], k: int, seed: int, temperature: float
    ) -> list[list[tuple[str, float]]]:
        """``k`` answers per task, each right with the body's chance."""
        self.answers += k * len(tasks)
        found = []
        for task in tasks:
            rights = [self._luck(task, seed, j) < self.chance(body, task) for j in range(k)]
            found.append([(str(task.answer), 1.0) if right else ("no idea", 0.0) for right in rights])
        return found

    def ask(self, body: Body, questions: Sequence[Question], k: int, seed: int, temperature: float) -> list[list[str]]:
        """No ideas: the fake model knows answers only of tasks that it is told."""
        self.answers += k * len(questions)
        return [["no idea"] * k for _ in questions]

    def variant(self, changes: Changes) -> Body:
        """A copy of the parent with changes applied."""
        self.drafts += 1
        root = self.scratch / f"draft-{self.drafts}"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.parent.root, root)
        for path, value in changes.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if value is None:
                target.unlink(missing_ok=True)
            else:
                target.write_bytes(value.read_bytes() if isinstance(value, Path) else value)
        return Body(root)

    def archived(self, digest: str) -> Body:
        """One of ``archive``."""
        if digest not in self.archive:
            raise BuildError("an archived body cannot be had: there is no such generation", value=digest)
        return self.archive[digest]

    def progress(self, done: int, total: int, note: str) -> None:
        """Keep the report; raise ``Stopped`` when it is time."""
        self.heard.append((done, total, note))
        if self.stop_after is not None and len(self.heard) > self.stop_after:
            raise Stopped("stopped by the test")


def fake_body(root: Path, prompt: Prompt | None = None, inference: Inference | None = None) -> Body:
    """A body of text parts only."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "prompt.md").write_bytes(render_prompt(prompt or Prompt("You are a helpful assistant.")))
    (root / "inference.toml").write_bytes(render_toml(inference or Inference()))
    (root / "training.toml").write_bytes(render_toml(Training()))
    return Body(root, "a" * 64)


def fake_weakness(skill: str, rate: float, headroom: float | None = 0.2, **errors: float) -> Weakness:
    """A weakness; ``errors`` are shares by kind with ``_`` for the space (``wrong_format=0.4``)."""
    shares = {kind.replace("_", " "): share for kind, share in (errors or {"wrong_value": 1.0}).items()}
    interval = Interval(max(0.0, rate - 0.1), min(1.0, rate + 0.1))
    return Weakness(skill, None, rate, interval, 24, shares, headroom, (), f"{skill} passes {rate:.0%}")


def fake_situation(
    body: Body,
    weaknesses: Sequence[Weakness] | None = None,
    history: Sequence[Attempt] = (),
    *,
    effort: float = 1.0,
    seed: int = 0,
) -> Situation:
    """A situation with four weak skills (dates weakest) unless told otherwise."""
    if weaknesses is None:
        weaknesses = [fake_weakness(skill, 0.2 + 0.1 * i) for i, skill in enumerate(SKILLS)]
    return Situation(body.digest or "a" * 64, body, weaknesses, history, False, effort, random.Random(seed))


def rejected(proposal: Proposal) -> Attempt:
    """An attempt that the warden rejected."""
    return Attempt(proposal, Decision.REJECT, 0.0, Cost(1.0), "rejected")


def fingerprint(built: Built) -> dict[str, str | None]:
    """Path → SHA-256 of the bytes that a build gives it (``None``: deleted)."""
    data = {p: v.read_bytes() if isinstance(v, Path) else v for p, v in built.changes.items()}
    return {p: None if v is None else hashlib.sha256(v).hexdigest() for p, v in data.items()}


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


class LeverContract:
    """What every lever does."""

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Body:
        """The body that is changed."""
        return fake_body(tmp_path / "parent")

    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Callable[[str], Any]:
        """Name → a fresh workshop."""
        return lambda name: FakeWorkshop(tmp_path / name, parent)

    @pytest.fixture
    def situation(self, parent: Body) -> Situation:
        """What the lever knows when it proposes."""
        return fake_situation(parent)

    def proposal(self, lever: Lever, situation: Situation) -> Proposal:
        """The lever's first proposal."""
        found = lever.propose(copy.deepcopy(situation))
        assert found is not None, "the lever has nothing to try in this situation: give it another"
        return found

    def test_propose_is_deterministic_and_touches_nothing(self, lever: Lever, situation: Situation) -> None:
        """The same situation gives the same proposal, and the body stays as it is."""
        before = tree(situation.body.root)
        assert self.proposal(lever, situation) == self.proposal(lever, situation)
        assert tree(situation.body.root) == before

    def test_proposals_are_plain_signed_and_say_why(self, lever: Lever, situation: Situation) -> None:
        """They survive JSON and name lever, parent, author and reason."""
        proposal = self.proposal(lever, situation)
        assert to_json(from_json(Proposal, to_json(proposal))) == to_json(proposal)
        assert (proposal.lever, proposal.parent) == (lever.name, situation.parent)
        assert proposal.author
        assert len(proposal.reason) > 10

    def test_nothing_to_do_is_none(self, lever: Lever, parent: Body) -> None:
        """No weakness, no proposal."""
        assert lever.propose(fake_situation(parent, [])) is None

    def test_it_comes_to_an_end(self, lever: Lever, situation: Situation) -> None:
        """With every proposal rejected, proposals differ and then there are none left."""
        history: list[Attempt] = []
        seen: list[Any] = []
        for round_ in range(200):
            now = replace(situation, history=tuple(history), rng=random.Random(round_))
            proposal = lever.propose(now)
            if proposal is None:
                return
            assert to_json(proposal.settings) not in seen, "the same settings were proposed again"
            seen.append(to_json(proposal.settings))
            history.append(rejected(proposal))
        pytest.fail("200 rejected proposals, and still more to come")

    def test_build_is_replayed_exactly_from_json(
        self, lever: Lever, parent: Body, situation: Situation, workshop: Callable[[str], Any]
    ) -> None:
        """Parent, proposal and practice determine every byte; only the lever's parts change."""
        proposal = self.proposal(lever, situation)
        before = tree(parent.root)
        first = lever.build(parent, proposal, workshop("one"))
        again = lever.build(parent, from_json(Proposal, to_json(proposal)), workshop("two"))
        assert first.changes, "the fake body can be improved by this lever: it should find how"
        assert fingerprint(first) == fingerprint(again)
        assert to_json(first.note) == to_json(again.note)
        for path in first.changes:
            assert any(path == p or (p.endswith("/") and path.startswith(p)) for p in lever.parts), path
        assert tree(parent.root) == before

    def test_a_stop_request_is_heard(
        self, lever: Lever, parent: Body, situation: Situation, workshop: Callable[[str], Any]
    ) -> None:
        """``Stopped`` from ``progress`` comes out of ``build``."""
        bench = workshop("stopping")
        bench.stop_after = 2
        with pytest.raises(Stopped):
            lever.build(parent, self.proposal(lever, situation), bench)


def seeds(n: int) -> list[int]:
    """``n`` fixed seeds."""
    return [derive_seed("testing", i) for i in range(n)]
