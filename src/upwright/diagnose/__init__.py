"""Diagnose (2): from a scorecard to named weaknesses, each with the lever that could reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from upwright.diagnose import errors, headroom, remedies, self_knowledge, skills
from upwright.diagnose.self_knowledge import Signal
from upwright.diagnose.skills import SkillRow
from upwright.records import ErrorKind, Outcome, Scorecard, Task, Weakness

__all__ = ["Diagnosis", "Signal", "SkillRow", "diagnose"]

_SAID = {
    ErrorKind.WRONG_FORMAT: "have the wrong format",
    ErrorKind.TRUNCATED: "are cut off by the token limit",
    ErrorKind.WRONG_VALUE: "have the right form and the wrong value",
    ErrorKind.OFF_TASK: "miss what was asked",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong, in numbers and in sentences.

    Attributes:
        weaknesses: most lost score first; whole skills, and single difficulties that stand out.
        skills: every skill and each of its difficulties.
        self_knowledge: how well confidence and votes tell right answers from wrong ones.
        failures: tasks without a score; they are in no rate.
    """

    weaknesses: tuple[Weakness, ...]
    skills: tuple[SkillRow, ...]
    self_knowledge: tuple[Signal, ...]
    failures: int


def diagnose(
    scorecard: Scorecard,
    samples: Mapping[str, Sequence[float]] | None = None,
    levers: Sequence[str] = (),
    tasks: Sequence[Task] | None = None,
) -> Diagnosis:
    """Find what the body is bad at, and what could reach it. Runs no model; deterministic.

    Args:
        samples: task id → scores of its sampled answers in [0, 1], for headroom.
        levers: names of the levers that may be used.
        tasks: the scorecard's tasks; without them only cut-off answers can be told from other errors.
    """
    by_id = {task.id: task for task in tasks or ()}
    rows = skills.table(scorecard.outcomes)
    whole = {row.skill: row for row in rows if row.difficulty is None}
    found: list[tuple[float, Weakness]] = []
    for row in rows:
        if row.tasks and row.lost > 1e-9 and (row.difficulty is None or _stands_out(row, rows)):
            own = [o for o in scorecard.outcomes if o.skill == row.skill and row.difficulty in (None, o.difficulty)]
            found.append((row.lost, _weakness(row, own, samples or {}, levers, by_id)))
    found.sort(key=lambda pair: (-pair[0], pair[1].skill, pair[1].difficulty or 0))
    return Diagnosis(
        weaknesses=tuple(weakness for _, weakness in found),
        skills=rows,
        self_knowledge=self_knowledge.self_knowledge(scorecard.outcomes),
        failures=sum(row.failures for row in whole.values()),
    )


def _stands_out(row: SkillRow, rows: Sequence[SkillRow]) -> bool:
    """Whether a difficulty is surely worse than the others of its skill together (intervals apart)."""
    others = [r for r in rows if r.skill == row.skill and r.difficulty not in (None, row.difficulty)]
    n = sum(r.tasks for r in others)
    return n > 0 and row.interval.high < skills.wilson(n - sum(r.lost for r in others), n).low


def _weakness(
    row: SkillRow,
    own: list[Outcome],
    samples: Mapping[str, Sequence[float]],
    levers: Sequence[str],
    tasks: Mapping[str, Task],
) -> Weakness:
    program = bool(own) and all(_is_run(tasks.get(o.task_id)) for o in own)
    kinds = {} if program else errors.shares(tasks, own) if tasks else errors.cut_off(own)
    room = headroom.headroom([samples[o.task_id] for o in own if o.task_id in samples])
    found = remedies.causes(kinds, row.rate, room)
    order = remedies.ranked(found, levers)
    return Weakness(
        skill=row.skill,
        difficulty=row.difficulty,
        rate=row.rate,
        interval=row.interval,
        tasks=row.tasks,
        errors=kinds,
        headroom=room,
        levers=order,
        sentence=_sentence_of_runs(row) if program else _sentence(row, kinds, room, found, order),
    )


def _is_run(task: Task | None) -> bool:
    """Whether a task is a run of a program: its answer is no text that could be wrong in kind."""
    return task is not None and task.scorer.get("kind") == "program"


def _sentence_of_runs(row: SkillRow) -> str:
    return f"{row.skill}: the program scores {row.rate:.3f} on practice ({row.tasks} run{'s' * (row.tasks != 1)})."


def _sentence(
    row: SkillRow,
    kinds: Mapping[str, float],
    room: float | None,
    found: Mapping[str, float],
    levers: Sequence[str],
) -> str:
    name = row.skill if row.difficulty is None else f"{row.skill} (difficulty {row.difficulty})"
    low, high = row.interval.low, row.interval.high
    said = [
        f"{name}: {row.rate:.0%} right ({row.interval.level:.0%} interval {low:.0%} to {high:.0%}, {row.tasks} tasks)."
    ]
    if kinds:
        kind = max(kinds, key=lambda k: kinds[k])
        said.append(f"Of the wrong answers {kinds[kind]:.0%} {_SAID[ErrorKind(kind)]}.")
    if room is not None:
        said.append(f"More samples of its own could reach {room:.0%} more of the tasks.")
    why = remedies.reason(found, levers[0] if levers else None)
    said.append(f"Try {levers[0]} first: {why}." if levers else f"No lever is available; {why}.")
    return " ".join(said)
