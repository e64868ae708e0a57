"""What a round of self-edits is about: passages, new ones first, or failures where a suite has no passages."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from upwright.bodies.body import Body, Training
from upwright.levers._edits import Edit, Unit, sentences
from upwright.levers.base import Workshop
from upwright.levers.rejection import draw_weighted
from upwright.records import Task, derive_seed
from upwright.tasks.scorers import gold

EVERY = 10_000
"""More practice tasks than a suite with passages has."""


@dataclass(frozen=True, slots=True)
class SelfEditSettings:
    """Settings of a ``self_edit`` proposal.

    Attributes:
        writes: ``edits``, or ``passage`` for the control that trains on the passages as they are.
        units: passages (or failures) of this round; ``drafts``: edits written for each.
        asks: practice questions that measure one passage; ``earlier``: questions about earlier passages asked again.
        tokens: rough tokens that the child is trained on; a draft's inner update gets half of what a passage gets there.
        forget: loss on earlier passages, in score, at which a child is dropped.
        weights: skill → emphasis when failures are drawn (1 − pass rate).
    """

    writes: Literal["edits", "passage"]
    units: int
    drafts: int
    temperature: float
    asks: int
    earlier: int
    tokens: int
    forget: float
    weights: Mapping[str, float]
    recipe: Training


def choose_units(
    parent: Body, settings: SelfEditSettings, seed: int, workshop: Workshop, past: Sequence[Edit]
) -> tuple[tuple[Unit, ...], tuple[Task, ...]]:
    """What to learn this round, new passages first, and practice questions about earlier ones."""
    passages = list(workshop.practice.passages())
    if not passages:
        return _failures(parent, settings, seed, workshop, past)
    about: dict[str, list[Task]] = {passage.id: [] for passage in passages}
    for task in workshop.practice.draw(EVERY, derive_seed(seed, "asks")):
        about.get(task.id.rpartition("/")[0], []).append(task)
    learned = {e.unit: e.confirmed or 0.0 for e in past if e.kept}
    random.Random(derive_seed(seed, "passages")).shuffle(passages)
    passages.sort(key=lambda p: (p.id in learned, learned.get(p.id, 0.0)))
    units = tuple(
        Unit(p.id, p.id, p.text, sentences(p.text), tuple(about[p.id][: settings.asks]))
        for p in passages[: settings.units]
    )
    taken = {unit.id for unit in units}
    earlier = [task for p in passages[settings.units :] if p.id in learned for task in about[p.id][: settings.asks]]
    earlier += [t for p in passages if p.id in learned and p.id in taken for t in about[p.id][settings.asks :]]
    return units, tuple(earlier[: settings.earlier])


def _failures(
    parent: Body, settings: SelfEditSettings, seed: int, workshop: Workshop, past: Sequence[Edit]
) -> tuple[tuple[Unit, ...], tuple[Task, ...]]:
    """Failed practice tasks whose own answer the checker confirms; other tasks of the skill tell what it was worth."""
    seen = {edit.unit for edit in past}
    drawn = draw_weighted(workshop.practice, 5 * settings.units, settings.weights, seed)
    tasks, rest = drawn[: 3 * settings.units], drawn[3 * settings.units :]
    card = workshop.evaluate(parent, tasks, derive_seed(seed, "failures"))
    failed = [
        task
        for task, outcome in zip(tasks, card.outcomes, strict=True)
        if outcome.score is not None and outcome.score < 1.0 and task.id not in seen
        and gold(task).strip() and workshop.practice.score(gold(task), task) >= 1.0
    ][: settings.units]  # fmt: skip
    asks: dict[str, list[Task]] = {}
    for task in rest:
        asks.setdefault(task.skill, []).append(task)
    units = []
    for task in failed:
        text = f"{task.input} The answer is {gold(task)}."
        own = tuple(asks.get(task.skill, [])[: settings.asks])
        units.append(Unit(task.id, task.skill, text, (text,), own, gold(task), task.input))
    return tuple(units), ()
