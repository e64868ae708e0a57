"""Scoring on the practice side: the warden's own grader, so that practice and gate agree.

A grader that cannot grade gives a :class:`~upwright.records.Failure`, never a zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from upwright.records import Failure, FailureKind, Task, to_json
from upwright.warden import grader
from upwright.warden.errors import GraderError

DATA = "data"
"""Key under which a generated task carries what its file's own ``score`` needs; never shown to a body."""

Score = Callable[[str, Mapping[str, Any]], float]
"""A task file's own ``score(text, task) -> float`` in [0, 1]; higher is better."""


def grade(text: str, task: Task, own: Score | None = None) -> float | Failure:
    """Score of ``text`` in [0, 1] (higher is better), or why there is none.

    Args:
        own: the ``score`` of the file that the task came from, for scorers of kind ``python``.
    """
    spec = {key: value for key, value in task.scorer.items() if key != DATA}
    fields = {**to_json(task), "scorer": spec, DATA: task.scorer.get(DATA)}
    try:
        return grader.grade(spec, text, task.answer, fields, own)
    except GraderError as error:
        return Failure(FailureKind.INFRASTRUCTURE, f"the grader could not grade: {error.what}")


def passes(check: Mapping[str, Any] | None, text: str) -> bool:
    """Whether ``text`` keeps the public format rule; always true where there is none.

    Raises:
        upwright.warden.errors.GraderError: the rule cannot be applied.
    """
    return check is None or bool(grader.check(dict(check), text))


def problem(spec: Mapping[str, Any], *, check: bool = False) -> str | None:
    """What is wrong with a scorer spec (or, with ``check``, with a public format rule), or ``None``."""
    try:
        grader.validate(dict(spec), check_only=check)
    except GraderError as error:
        return str(error).replace("\n", " ")
    except TypeError:
        return f"a kind is a text (got {spec.get('kind')!r})"
    return None


def gold(task: Task) -> str:
    """The gold answer as a body would write it; the first one where a list means any of them."""
    answer = task.answer
    if task.scorer.get("kind") != "json" and isinstance(answer, list | tuple) and answer:
        answer = answer[0]
    return as_text(answer)


def as_text(answer: Any) -> str:
    """A gold answer as a body would write it: text as it is, anything else as JSON."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
