"""Collecting thoughts to train on: sample, check, rationalise, filter (STaR, Zelikman et al. 2022).

Every answer is confirmed by the task's own scorer, and every thought is read (:mod:`upwright.diagnose.rationales`): one that does
not derive its answer, or cannot be read, is dropped however right the answer is. Where no sample is right the body is
told the answer and asked how to get there; the hint is not in what is trained on. As in STaR the first thoughts are
asked for with a few hand-written examples; they are of no suite and show the form. Departures: the body's own best thoughts take
their place in the second asking; the filter; the trained body answers without examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from upwright.bodies._think import marked, split
from upwright.bodies.body import Body, Example, Prompt, render_prompt, render_toml
from upwright.diagnose.rationales import ILLEGIBLE, Reading, read
from upwright.levers.base import Workshop
from upwright.levers.rejection import REAL, Datum
from upwright.records import Rung, Task, derive_seed
from upwright.tasks.scorers import gold

HINT = "{question}\n\n(The answer is {answer}. Show in a few short steps how to get there, then write it.)"
HINTED = "+hint"
"""Added to ``check`` in a datum whose thought was written with the answer given."""
SEEDS = (
    Example("How many eggs are in 4 boxes of 6?", "One box holds 6 eggs, so it is 4 * 6 = 24 eggs.\nAnswer: 24"),
    Example("Is a whale a fish? Say yes or no.", "A whale breathes air and is a mammal, so no.\nAnswer: no"),
    Example(
        "Sort these words by the alphabet: pear, apple, fig.",
        "In the alphabet a is before f, and f before p: apple, fig, pear.\nAnswer: apple, fig, pear",
    ),
)
"""Hand-written thoughts that are shown until the body has better ones of its own."""
LEAST_THOUGHTS = 2
"""Usable thoughts without which a skill is not taught to think."""

MARGIN = 0.05
"""How much more a skill must pass with a thought than without: a thought costs tokens, and few tasks tell."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought with a confirmed answer.

    Attributes:
        text: thought and answer as they are to be written; ``reading``: what the thought shows.
        hinted: whether the answer was given; ``agree``: share of the task's samples that were right.
    """

    task: Task
    text: str
    reading: Reading
    hinted: bool
    agree: float

    @property
    def usable(self) -> bool:
        """Whether it may be trained on."""
        return self.reading.derives and self.reading.illegible < ILLEGIBLE


@dataclass(frozen=True, slots=True)
class Pay:
    """Whether thinking pays for a skill: pass rates on the same practice tasks, in [0, 1]."""

    plain: float
    thinking: float
    tasks: int
    usable: int
    thinks: bool


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was sampled for one build."""

    plain: tuple[Datum, ...]
    thoughts: tuple[Thought, ...]
    pays: Mapping[str, Pay]


def thinking(parent: Body, think: int, workshop: Workshop, shown: Sequence[Example] = ()) -> Body:
    """The parent, asked to think; without memory, whose cases show none, and with ``shown`` as its only examples."""
    inference = replace(parent.inference, think=think, memory=0)
    prompt = Prompt(parent.prompt.instructions, tuple(shown))
    return workshop.variant({"inference.toml": render_toml(inference), "prompt.md": render_prompt(prompt)})


def gather(
    parent: Body, tasks: Sequence[Task], plan: tuple[int, int, float, float], seed: int, workshop: Workshop
) -> Gathered:
    """Plain answers to all tasks, thoughts on a few of each skill, more thoughts where they pay; kept in scratch.

    Args:
        plan: samples per task, tokens per thought, temperature, share of gold answers among the plain ones.
    """
    samples, think, heat, real = plan
    plain, rate = _plain(parent, tasks, (samples, heat, real), seed, workshop)
    trial = _trial(tasks)
    kept = workshop.scratch
    first = _once(kept / "thoughts-1.json", list[Thought], lambda: _sampled(
        thinking(parent, think, workshop, SEEDS), trial, (samples, heat), derive_seed(seed, "first"), workshop))  # fmt: skip
    hinted = _once(kept / "thoughts-2.json", list[Thought], lambda: _rationalised(
        thinking(parent, think, workshop, _examples(first)), _unsolved(trial, first), heat, seed, workshop))  # fmt: skip
    pays = pay(trial, rate, [*first, *hinted])
    seen = {task.id for task in trial}
    more_tasks = [t for t in tasks if t.id not in seen and (p := pays.get(t.skill)) is not None and p.thinks]
    helped = thinking(parent, think, workshop, _examples([*first, *hinted]))
    more = _once(kept / "thoughts-3.json", list[Thought], lambda: _sampled(
        helped, more_tasks, (max(1, samples // 2), heat), derive_seed(seed, "more"), workshop))  # fmt: skip
    late = _once(kept / "thoughts-4.json", list[Thought], lambda: _rationalised(
        helped, _unsolved(more_tasks, more), heat, seed, workshop))  # fmt: skip
    return Gathered(tuple(plain), (*first, *hinted, *more, *late), pays)


def pay(tasks: Sequence[Task], rate: Mapping[str, float], thoughts: Sequence[Thought]) -> dict[str, Pay]:
    """Skill → whether thinking pays: its pass rate without hint is :data:`MARGIN` above that of plain answers, or neither
    passes at all and there is nothing to lose; and at least :data:`LEAST_THOUGHTS` can be used.

    Args:
        rate: task id → share of its plain samples that were right.
    """
    found: dict[str, Pay] = {}
    for skill in sorted({task.skill for task in tasks}):
        own = [task for task in tasks if task.skill == skill]
        mine = [t for t in thoughts if t.task.skill == skill]
        plain = sum(rate.get(task.id, 0.0) for task in own) / len(own)
        thought = sum(t.agree for t in mine if not t.hinted) / len(own)
        usable = sum(t.usable for t in mine)
        better = thought >= plain + MARGIN or (plain == 0 and thought == 0)
        found[skill] = Pay(round(plain, 3), round(thought, 3), len(own), usable, better and usable >= LEAST_THOUGHTS)
    return found


def data_of(found: Gathered, by: str) -> tuple[list[Datum], list[Datum]]:
    """Lines to train on: thoughts of the skills that think, plain answers of the others (and of tasks without a thought)."""
    chosen: dict[str, Thought] = {}
    for thought in found.thoughts:
        pays = found.pays.get(thought.task.skill)
        if thought.usable and pays is not None and pays.thinks:
            chosen.setdefault(thought.task.input, thought)
    thoughts = [
        Datum(
            t.task.input, t.text, t.task.skill, by, _kind(t.task) + (HINTED if t.hinted else ""),
            Rung.EXECUTION.value, round(t.agree, 3),
        )
        for t in chosen.values()
    ]  # fmt: skip
    quiet = [d for d in found.plain if not ((p := found.pays.get(d.skill)) is not None and p.thinks)]
    return thoughts, quiet


def _kind(task: Task) -> str:
    return str(task.scorer.get("kind", "exact"))


def _trial(tasks: Sequence[Task], most: int = 6) -> list[Task]:
    """Up to ``most`` tasks of each skill, in order."""
    seen: Counter[str] = Counter()
    chosen = []
    for task in tasks:
        seen[task.skill] += 1
        if seen[task.skill] <= most:
            chosen.append(task)
    return chosen


def _plain(
    parent: Body, tasks: Sequence[Task], plan: tuple[int, float, float], seed: int, workshop: Workshop
) -> tuple[list[Datum], dict[str, float]]:
    """Confirmed plain answers (and some gold ones where there are none), and each task's share of right samples.

    A parent that thinks is asked not to: what is compared is the answer with a thought and without.
    """
    samples, heat, real = plan

    def sample() -> list[list[tuple[str, float]]]:
        body = parent
        if parent.inference.think:
            body = workshop.variant({"inference.toml": render_toml(replace(parent.inference, think=0))})
        return workshop.sample(body, tasks, samples, derive_seed(seed, "plain"), heat)

    sampled = _once(workshop.scratch / "plain.json", list[list[tuple[str, float]]], sample)
    found: list[Datum] = []
    unsolved: list[Task] = []
    rate: dict[str, float] = {}
    for task, answers in zip(tasks, sampled, strict=True):
        right = Counter(text.strip() for text, score in answers if score >= 1.0)
        rate[task.id] = sum(right.values()) / max(1, len(answers))
        if right:
            text, votes = min(right.items(), key=lambda pair: (-pair[1], len(pair[0]), pair[0]))
            share = round(votes / len(answers), 3)
            found.append(
                Datum(task.input, text, task.skill, parent.digest or "", _kind(task), Rung.EXECUTION.value, share)
            )
        else:
            unsolved.append(task)
    for task in unsolved[: round(len(found) * real / (1 - real))]:
        found.append(Datum(task.input, gold(task), task.skill, REAL, _kind(task), Rung.EXECUTION.value, 0.0))
    return found, rate


def _sampled(
    body: Body, tasks: Sequence[Task], plan: tuple[int, float], seed: int, workshop: Workshop
) -> list[Thought]:
    """For each task with a right answer, its best thought: one that can be used, then the shortest."""
    samples, heat = plan
    if not tasks:
        return []
    found = []
    for task, texts in zip(tasks, workshop.sample(body, tasks, samples, seed, heat), strict=True):
        if best := _best(task, task.input, texts):
            text, reading = best
            found.append(Thought(task, text, reading, False, sum(s >= 1.0 for _, s in texts) / max(1, len(texts))))
    return found


def _rationalised(body: Body, tasks: Sequence[Task], heat: float, seed: int, workshop: Workshop) -> list[Thought]:
    """The same, with the gold answer in the question; what is kept has the question without it."""
    if not tasks:
        return []
    asked = [replace(t, id=f"{t.id}/hint", input=HINT.format(question=t.input, answer=gold(t))) for t in tasks]
    sampled = workshop.sample(body, asked, 1, derive_seed(seed, "hint"), heat)
    found = []
    for task, texts in zip(tasks, sampled, strict=True):
        if best := _best(task, task.input, texts):
            found.append(Thought(task, best[0], best[1], True, 0.0))
    return found


def _best(task: Task, question: str, texts: Sequence[tuple[str, float]]) -> tuple[str, Reading] | None:
    """The right completion with the best thought, rewritten in the form that is trained on; ``None`` without one."""
    found = []
    for text, score in texts:
        thought, answer = split(text)
        if score >= 1.0 and answer is not None and thought:
            reading = read(question, thought, answer)
            found.append(
                (not reading.derives, reading.illegible >= ILLEGIBLE, reading.words, marked(thought, answer), reading)
            )
    if not found:
        return None
    best = min(found, key=lambda one: one[:4])
    return best[3], best[4]


def _unsolved(tasks: Sequence[Task], thoughts: Sequence[Thought]) -> list[Task]:
    """Tasks without a thought that can be used."""
    solved = {t.task.id for t in thoughts if t.usable}
    return [task for task in tasks if task.id not in solved]


def _examples(thoughts: Sequence[Thought]) -> list[Example]:
    """The shortest usable thoughts, of different skills as far as there are; hand-written ones fill up."""
    usable = sorted((t for t in thoughts if t.usable), key=lambda t: (t.hinted, t.reading.words, t.task.id))
    first = list({t.task.skill: t for t in reversed(usable)}.values())[::-1]
    best = [*first, *(t for t in usable if t not in first)]
    return [*(Example(t.task.input, t.text) for t in best), *SEEDS][: len(SEEDS)]


def _once(path: Path, kind: type[T], make: Callable[[], T]) -> T:
    """What ``make`` gives, made once: a resumed build reads it."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=kind)
    made = make()
    partial = path.with_suffix(".tmp")
    partial.write_bytes(msgspec.json.encode(made))
    partial.replace(path)
    return made
