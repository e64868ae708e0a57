"""The rounds of one curriculum build: label the next difficulties, train, look whether all is well, keep or undo.

Everything a round makes stands in a folder of its own, and ``round.json`` is written last: a build that was killed goes on
at the first round without one, where what was labelled is not labelled again and a training goes on from its checkpoint. A round
that is undone leaves its ``round.json`` and nothing else; networks and data are then those of the round before, untouched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from upwright.bodies.answer import normalise
from upwright.bodies.body import Body, Training
from upwright.bodies.curriculum import Curriculum
from upwright.levers._avalanche import Health, Rate, avalanche
from upwright.levers._labels import keep
from upwright.levers._selflabels import Ballot, Lengths, agreement, data, polled, refused
from upwright.levers.base import Workshop
from upwright.levers.rejection import Datum
from upwright.levers.rejection import lesson as bare_lesson
from upwright.records import Question, Task, derive_seed
from upwright.training.beside import Work, train_all
from upwright.training.loop import train
from upwright.training.records import TrainedWeights
from upwright.training.rows import Lesson, Row, rows_of

NEWEST, EARLIER = "newest", "earlier"
"""Sources of rows: this round's labels, and all others."""
DONE = "round.json"


@dataclass(frozen=True, slots=True)
class Round:
    """One line of ``model/rounds.jsonl``.

    Attributes:
        first, last: the difficulties that it added; 0 and 0 where it only trained on what there was, or had no more than a toehold.
        agree: mean vote share on each of them before it, easiest first, then on the one that was not added, if one was looked at.
        labels: trained on; ``anchors``: held back; ``refused``: labels that were not taken, by reason.
        before, after: how the networks did before and after its training.
        losses: mean loss in nats per learned token, of each twelfth of the child's training.
        undone: why the round was undone; empty when it was kept.
    """

    number: int
    first: int
    last: int
    agree: tuple[float, ...]
    labels: int
    anchors: int
    refused: dict[str, int]
    before: Health
    after: Health
    steps: int
    tokens: int
    losses: tuple[float, ...]
    undone: str = ""


@dataclass(slots=True)
class School:
    """What the rounds of a build have come to.

    Attributes:
        voters: model directories; the first one is the child's.
        top: the hardest difficulty learned.
        data: all that was trained on, in order; ``anchors``: agreed answers that were not.
        rounds: of earlier builds and of this one.
        gold: the gold probe's result of the child now, and ``kept`` that of the anchors.
    """

    voters: list[Path]
    top: int
    data: list[Datum]
    anchors: list[Datum]
    rounds: list[Round]
    gold: Rate = (0.0, 0)
    kept: Rate = (0.0, 0)
    tokens: int = 0
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)


class _Labelled(msgspec.Struct, frozen=True):
    """``labels.json``: what a round was given. ``added`` is false where its one difficulty has no more than a toehold."""

    levels: tuple[int, ...]
    added: bool
    agree: tuple[float, ...]
    labels: list[Datum]
    anchors: list[Datum]
    refused: dict[str, int]


class Rounds:
    """Runs them.

    Args:
        parent: the body whose texts the networks answer with.
        by: digest of the parent, the writer of the labels.
        plan: ``curriculum.toml``; ``recipe``: ``training.toml``, for full weights.
        lengths: see :class:`~upwright.levers._selflabels.Lengths`.
        probe: labelled problems that nothing trains on.
        skill: of the labels.
    """

    def __init__(
        self, parent: Body, by: str, plan: Curriculum, recipe: Training, seed: int, workshop: Workshop
    ) -> None:
        self.parent, self.by, self.plan, self.seed, self.workshop = parent, by, plan, seed, workshop
        self.recipe = replace(recipe, weights="full", start="base", epochs=0.0, seconds=0.0, curriculum="none", mix={})
        self.lengths: Lengths | None = None
        self.probe: Sequence[Task] = ()
        self.skill = "general"
        self._bodies: dict[Path, Body] = {}

    def go(self, school: School) -> str:
        """Rounds until nothing more can be added; says why they ended."""
        self.measure(school)
        start, idle = len(school.rounds), 0
        while len(school.rounds) - start < self.plan.rounds:
            done = self._round(school, len(school.rounds) + 1)
            school.rounds.append(done)
            if done.undone:
                return f"round {done.number} was undone: {done.undone}"
            idle = 0 if done.last or _rises(done) else idle + 1
            if idle > self.plan.patience:
                return (
                    f"agreement on difficulty {school.top + 1} is {done.agree[-1]:.0%}, below {self.plan.reach:.0%}, "
                    f"also after {idle} round{'s' * (idle > 1)} of more training"
                )
        return f"all {self.plan.rounds} rounds of this build are done"

    def train(
        self, school: School, folder: Path, steps: int, newest: Sequence[Datum], rate: float
    ) -> list[TrainedWeights]:
        """Train every voter on all data so far, with ``newest`` as its share of the rows; side by side where there are cores for it."""
        works = []
        for number, model in enumerate(school.voters):
            new = [replace(row, source=NEWEST) for row in self._rows(school, model, newest)]
            old = [replace(row, source=EARLIER) for row in self._rows(school, model, school.data)]
            mix = {NEWEST: self.plan.newest, EARLIER: 1 - self.plan.newest} if new and old else {}
            recipe = replace(self.recipe, steps=steps, learning_rate=self.recipe.learning_rate * rate, mix=mix)
            seed = derive_seed(self.seed, "train", folder.name, number)
            works.append(Work(model, [*new, *old], recipe, folder / f"voter-{number}", seed))

        def tell(number: int, done: int, total: int, note: str) -> None:
            self.workshop.progress(done, total, f"{folder.name}, network {number + 1} of {len(works)}: {note}")

        return train_all(works, tell, train)

    def measure(self, school: School) -> None:
        """How the child does on the anchors and the gold probe, now."""
        child = self.body(school.voters[0])
        said = self._said(child, [Question(t.id, t.input, t.check) for t in self.probe])
        right = sum(self.workshop.practice.score(text, task) for text, task in zip(said, self.probe, strict=True))
        school.gold = (right, len(self.probe))
        school.kept = self._kept(child, school.anchors)

    def body(self, model: Path) -> Body:
        """The parent with another network."""
        if model not in self._bodies:
            paths = [p for p in sorted(model.rglob("*")) if p.is_file()]
            changes = {f"model/{p.relative_to(model).as_posix()}": p for p in paths}
            self._bodies[model] = self.workshop.variant(changes)
        return self._bodies[model]

    # -- one round ----------------------------------------------------------------------------

    def _round(self, school: School, number: int) -> Round:
        folder = self.workshop.scratch / f"round-{number:03}"
        finished = folder / DONE
        folder.mkdir(parents=True, exist_ok=True)
        done = msgspec.json.decode(finished.read_bytes(), type=Round) if finished.exists() else None
        if done is not None and done.undone:
            self._clear(folder)
            return done
        given = self._labelled(school, number, folder)
        trained = self._models(folder)
        if done is None:
            done, trained = self._trained(school, number, folder, given)
            keep(finished, done)
            if done.undone:
                self._clear(folder)
                return done
        self._forget_former(number)
        school.voters = trained
        school.top = done.last or school.top
        school.data = [*school.data, *given.labels]
        school.anchors = [*school.anchors, *given.anchors]
        school.gold, school.kept = done.after.gold, done.after.kept
        school.tokens += done.tokens
        return done

    def _trained(self, school: School, number: int, folder: Path, given: _Labelled) -> tuple[Round, list[Path]]:
        """Train on what was labelled, and measure the networks before and after."""
        plan, new = self.plan, len(given.anchors)
        looks = [q for level in given.levels for q in self._problems(level, plan.look, number, "after")]
        before = Health(
            agreement(self._polled(school.voters, looks, number)),
            (school.kept[0] + new, school.kept[1] + new),
            school.gold,
        )
        steps = plan.steps
        trained = self.train(school, folder, steps, given.labels, plan.rate)
        after = replace(school, voters=[t.model for t in trained], anchors=[*school.anchors, *given.anchors])
        self.measure(after)
        now = Health(agreement(self._polled(after.voters, looks, number)), after.kept, after.gold)
        ends = (given.levels[0], given.levels[-1]) if given.added else (0, 0)
        done = Round(
            number, *ends, given.agree, len(given.labels), new, given.refused, before, now,
            sum(t.steps for t in trained), sum(t.tokens for t in trained), trained[0].losses, avalanche(before, now),
        )  # fmt: skip
        return done, after.voters

    def _labelled(self, school: School, number: int, folder: Path) -> _Labelled:
        """Which difficulties to add, by agreement alone, and the labels of their problems; kept in the round's folder."""
        path = folder / "labels.json"
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=_Labelled)
        plan, levels, shares = self.plan, [], []
        for level in range(school.top + 1, school.top + plan.stride + 1):
            self.workshop.progress(0, 0, f"round {number}: how far do its answers agree at difficulty {level}?")
            ballots = self._polled(school.voters, self._problems(level, plan.look, number, "look"), number)
            total, n = agreement(ballots)
            shares.append(round(total / n, 4) if n else 0.0)
            if shares[-1] < plan.reach:
                break
            levels.append(level)
        added = bool(levels)
        if not added and plan.toehold <= shares[-1] < 1:
            levels = [school.top + 1]
        each = -(-plan.problems // max(1, len(levels)))
        problems = [p for level in levels for p in self._problems(level, each, number, "label")]
        ballots = self._polled(school.voters, problems, number)
        taken = data(ballots, self.by, self.skill, number, plan)
        spread = taken[:: max(1, len(taken) // plan.anchors)][: plan.anchors] if added else []
        held = {datum.input for datum in spread}
        rest = [datum for datum in taken if datum.input not in held]
        found = _Labelled(tuple(levels), added, tuple(shares), rest, spread, dict(refused(ballots)))
        keep(path, found)
        return found

    def _clear(self, folder: Path) -> None:
        """Leave nothing of an undone round but its record."""
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != DONE:
                path.unlink()

    def _forget_former(self, number: int) -> None:
        """Weights of the round before are of no use once this one is kept; what began the build stays."""
        former = self.workshop.scratch / f"round-{number - 1:03}"
        for path in former.glob("voter-*") if former.exists() else ():
            shutil.rmtree(path)

    def _models(self, folder: Path) -> list[Path]:
        return [folder / f"voter-{k}" / "model" for k in range(self.plan.voters)]

    # -- what they use ------------------------------------------------------------------------

    def _problems(self, level: int, n: int, number: int, what: str) -> list[tuple[int, Question]]:
        """Problems of one difficulty without answers; those of another purpose or round are others."""
        seed = derive_seed(self.seed, what, number)
        return [(level, question) for question in self.workshop.practice.problems(level, n, seed)]

    def _polled(self, voters: Sequence[Path], problems: Sequence[tuple[int, Question]], number: int) -> list[Ballot]:
        bodies = [self.body(model) for model in voters] if problems else []
        return polled(bodies, problems, self.plan, self.lengths, derive_seed(self.seed, "poll", number), self.workshop)

    def _said(self, body: Body, questions: Sequence[Question]) -> list[str]:
        """Likeliest answers."""
        return [texts[0] for texts in self.workshop.ask(body, questions, 1, self.seed, 0.0)] if questions else []

    def _kept(self, child: Body, anchors: Sequence[Datum]) -> Rate:
        said = self._said(child, [Question(f"anchor-{i}", datum.input) for i, datum in enumerate(anchors)])
        same = sum(normalise(text) == normalise(datum.answer) for text, datum in zip(said, anchors, strict=True))
        return (float(same), len(anchors))

    def _rows(self, school: School, model: Path, found: Sequence[Datum]) -> list[Row]:
        """Rows of data; each is made once, as all networks have the same tokenizer."""
        missing = [d for d in found if (d.input, d.answer) not in school.rows]
        if missing:
            lessons = [_lesson(self.parent, datum) for datum in missing]
            made = rows_of(model, lessons)
            school.rows.update(((d.input, d.answer), row) for d, row in zip(missing, made, strict=True))
        return [school.rows[d.input, d.answer] for d in found]


def _rises(done: Round) -> bool:
    """Whether a round with a toehold at the next difficulty brought agreement there up."""
    (was, n), (now, m) = done.before.agree, done.after.agree
    return bool(done.labels and n and m) and now / m > was / n


def _lesson(parent: Body, datum: Datum) -> Lesson:
    return bare_lesson(parent, datum.input, datum.answer)


def render_rounds(rounds: Sequence[Round]) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(msgspec.to_builtins(one)).encode() + b"\n" for one in rounds)


def read_rounds(path: Path) -> list[Round]:
    """The rounds that a file tells of; none where there is no file."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Round) for line in path.read_bytes().split(b"\n") if line.strip()]


def told(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Rounds for a build's note."""
    return [
        {
            "round": r.number,
            "difficulties": f"{r.first} to {r.last}"
            if r.last
            else "a toehold at the next"
            if r.labels
            else "none added",
            "agreement before": list(r.agree),
            "labels": r.labels,
            "refused": r.refused,
            "agreement after": _share(r.after.agree),
            "anchors kept": _share(r.after.kept),
            "gold probe": _share(r.after.gold),
            "loss": r.losses[-1] if r.losses else None,
            **({"undone": r.undone} if r.undone else {}),
        }
        for r in rounds
    ]


def _share(rate: Rate) -> float | None:
    return round(rate[0] / rate[1], 4) if rate[1] else None
