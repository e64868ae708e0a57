"""One task from plain data, checked field by field; every error names the place and the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from upwright.errors import TaskError
from upwright.records import Task, canonical_digest, to_json
from upwright.tasks import scorers
from upwright.warden.buckets import normalise_input

FIELDS = ("id", "input", "answer", "skill", "difficulty", "scorer", "check")
REQUIRED = ("input", "answer")
_GOLD_MUST_PASS = ("exact", "text", "number", "json", "choice")


def task_from(data: object, where: str, own_data: Any = None) -> Task:
    """A checked task.

    Args:
        data: a mapping with ``input`` and ``answer``, and optionally the other :data:`FIELDS`. Without an
            ``id`` the task is named by a digest of its content.
        where: where it stands, for errors (``tasks.jsonl, line 3``).
        own_data: what a generator's own ``score`` gets as ``task["data"]``.

    Raises:
        TaskError: names ``where``, the field and the value.
    """
    if not isinstance(data, Mapping):
        raise TaskError(f"{where}: a task is an object", value=data, todo=f"write one with the fields {_listed()}")
    for key in data:
        if key not in FIELDS:
            raise TaskError(f"{where}: unknown field {key!r}", value=data[key], todo=f"known fields: {_listed()}")
    for key in REQUIRED:
        if key not in data:
            raise TaskError(f"{where}, field {key!r}: is missing", todo=f"every task needs {' and '.join(REQUIRED)}")
    text = _string(data, "input", where)
    skill = _string(data, "skill", where) if "skill" in data else "general"
    difficulty = data.get("difficulty", 1)
    if isinstance(difficulty, bool) or not isinstance(difficulty, int) or difficulty < 1:
        raise TaskError(f"{where}, field 'difficulty': needs a whole number from 1 upward", value=difficulty)
    scorer = _spec(data, "scorer", where, {"kind": "exact"}) or {}
    check = _spec(data, "check", where, None)
    if own_data is not None:
        scorer = {**scorer, scorers.DATA: own_data}
    if scorer.get("kind") == "program":
        raise TaskError(
            f"{where}, field 'scorer': only the tasks of an evaluator are programs",
            value=dict(scorer),
            todo='write source = "evaluator:FOLDER", or name another kind of scorer',
        )
    name = _string(data, "id", where) if "id" in data else ""
    task = Task(name, text, data["answer"], skill, difficulty, scorer, check)
    _gold_passes(task, where)
    return task if name else _named(task)


def distinct(tasks: Iterable[tuple[str, Task]]) -> tuple[Task, ...]:
    """The tasks, once it is certain that no id and no input is there twice.

    Inputs that differ only in case, white space or Unicode form are one problem.

    Args:
        tasks: pairs of where a task stands and the task.

    Raises:
        TaskError: names both places.
    """
    ids: dict[str, str] = {}
    inputs: dict[str, str] = {}
    kept = []
    for where, task in tasks:
        if task.scorer.get("kind") == "python":
            raise TaskError(
                f"{where}, field 'scorer': only a file with generate(seed) and score(text, task) can score by python",
                value=dict(task.scorer),
                todo="name another kind of scorer",
            )
        for field, value, seen in (("input", normalise_input(task.input), inputs), ("id", task.id, ids)):
            if value in seen:
                shown = task.input if field == "input" else task.id
                raise TaskError(
                    f"{where}, field {field!r}: the same {field} stands at {seen[value]}",
                    value=shown,
                    todo="delete one of the two, or change it",
                )
            seen[value] = where
        kept.append(task)
    return tuple(kept)


def _named(task: Task) -> Task:
    content = {k: v for k, v in to_json(task).items() if k != "id"}
    name = "t" + canonical_digest(content)[:16]
    return Task(name, task.input, task.answer, task.skill, task.difficulty, task.scorer, task.check)


def _string(data: Mapping[str, Any], key: str, where: str) -> str:
    value = data[key]
    if not isinstance(value, str) or not value.strip():
        raise TaskError(f"{where}, field {key!r}: needs a text that is not empty", value=value)
    return value


def _spec(data: Mapping[str, Any], key: str, where: str, default: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    spec = data.get(key, default)
    if spec is None and key == "check":
        return None
    if isinstance(spec, str):
        spec = {"kind": spec}
    if not isinstance(spec, Mapping):
        raise TaskError(f"{where}, field {key!r}: needs an object with a 'kind'", value=spec)
    problem = scorers.problem(spec, check=key == "check")
    if problem:
        raise TaskError(f"{where}, field {key!r}: {problem}")
    return dict(spec)


def _gold_passes(task: Task, where: str) -> None:
    """The gold answer must get the full score from its own scorer, else no answer can."""
    if task.scorer.get("kind") not in _GOLD_MUST_PASS:
        return
    result = scorers.grade(scorers.gold(task), task)
    if result != 1.0:
        why = result.message if not isinstance(result, float) else f"it gets {result:g}"
        raise TaskError(
            f"{where}, field 'answer': does not get the full score from its own scorer {task.scorer['kind']!r} ({why})",
            value=task.answer,
            todo="mend the answer or name another scorer",
        )


def _listed() -> str:
    return ", ".join(FIELDS)
