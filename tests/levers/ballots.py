"""A body whose answers are known beforehand: how often it is right, and whether its mistakes agree with each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upwright.bodies.body import Body, Training, render_toml
from upwright.errors import BuildError
from upwright.levers._labels import vote
from upwright.levers._sft import Lesson, Trained, Trial
from upwright.levers.rejection import read_data
from upwright.records import Answer, Outcome, Scorecard, Task
from upwright.testing.levers import FakePractice, FakeWorkshop, fake_body, fake_task

RECIPE = Training(examples=80, epochs=1.0, batch=8, rank=2, learning_rate=1e-3)
TRUTH = {fake_task(i).input: str(fake_task(i).answer) for i in range(5000)}


def known_chance(body: Body, task: Task) -> float:
    """Chance of one right answer: 0.4 bare, 0.3 more with recalled cases; a trained body has what its labels had right."""
    data = [datum for datum in read_data(body) if datum.skill == task.skill]
    chance = sum(TRUTH.get(d.input) == d.answer for d in data) / len(data) if data else 0.4
    return min(1.0, chance + (0.3 if body.memory and body.inference.memory else 0.0))


class Ballot(FakePractice):
    """The fake suite with a public rule of form that can be applied: no line break, no tilde."""

    def draw(self, n: int, seed: int) -> tuple[Task, ...]:
        rule = {"kind": "regex", "pattern": "[^~\\n]+"}
        return tuple(replace(task, check=rule) for task in super().draw(n, seed))


@dataclass
class Ballots(FakeWorkshop):
    """Answers are drawn one by one and voted on as a body's ``inference.toml`` says.

    Attributes:
        chance: of one right answer.
        shared: share of the wrong answers that are the same mistake; the others are all different.
        asked: inputs of the tasks whose answers were drawn, in order.
    """

    practice: FakePractice = field(default_factory=Ballot)
    chance: Callable[[Body, Task], float] = known_chance
    shared: float = 0.0
    asked: list[str] = field(default_factory=list)
    chances: dict[str, float] = field(default_factory=dict)

    def _known(self, body: Body, task: Task) -> float:
        """The chance, which a body has for all tasks of a skill; its parts are read once for each call."""
        if task.skill not in self.chances:
            self.chances[task.skill] = self.chance(body, task)
        return self.chances[task.skill]

    def _drawn(self, body: Body, task: Task, k: int, seed: int) -> list[str]:
        chance = self._known(body, task)
        texts = []
        for j in range(k):
            if self._luck(task, seed, j) < chance:
                texts.append(TRUTH[task.input])
            else:
                same = self._luck(task, seed, j, "mistake") < self.shared
                texts.append("the usual mistake" if same else f"mistake {self._luck(task, seed, j, 'which'):.9f}")
        return texts

    def evaluate(self, body: Body, tasks: Sequence[Task], seed: int) -> Scorecard:
        self.chances.clear()
        how, remembers, shown = body.inference, bool(body.memory), len(body.prompt.examples)
        outcomes = []
        for task in tasks:
            self.asked.append(task.input)
            texts = self._drawn(body, task, how.samples, seed)
            found = vote(texts)
            assert found is not None
            share = found.share if how.samples > 1 else None
            read = 20 + 15 * (how.memory if remembers else 0) + 10 * shown
            answer = Answer(
                task.id, found.text, prompt_tokens=read, completion_tokens=4 * how.samples, vote_share=share
            )
            outcomes.append(
                Outcome(task.id, task.skill, task.difficulty, answer, self.practice.score(found.text, task))
            )
        return Scorecard(body.digest or "scratch", self.practice.name, seed, tuple(outcomes))

    def sample(
        self, body: Body, tasks: Sequence[Task], k: int, seed: int, temperature: float
    ) -> list[list[tuple[str, float]]]:
        self.chances.clear()
        self.asked += [task.input for task in tasks]
        return [
            [(text, self.practice.score(text, task)) for text in self._drawn(body, task, k, seed)] for task in tasks
        ]


class FakeTrainer:
    """Stands for ``fine_tune``; keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Path, Sequence[Lesson], Training]] = []

    def __call__(
        self, model: Path, lessons: Sequence[Lesson], recipe: Training, scratch: Path, seed: int,
        step: Callable[[int, int, str], None], trial: Trial | None = None,
    ) -> Trained:  # fmt: skip
        if not (model / "config.json").exists():
            raise BuildError("no weights")
        self.calls.append((model, lessons, recipe))
        for done in (1, 2, 3):
            step(done, 3, "training")
        (scratch / "adapter").mkdir(parents=True, exist_ok=True)
        (scratch / "adapter" / "adapter_config.json").write_text(json.dumps({"r": recipe.rank}))
        (scratch / "adapter" / "adapter_model.safetensors").write_bytes(repr((recipe, seed, len(lessons))).encode())
        return Trained(scratch / "adapter", 3, 100, (2.0,), (1.0,), "")


def body_with_weights(root: Path, recipe: Training = RECIPE) -> Body:
    """A body whose weights are only said to be there."""
    body = fake_body(root)
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    (root / "training.toml").write_bytes(render_toml(recipe))
    return body
