"""Tasks from a JSON Lines file: one object per line, fields as in :class:`upwright.records.Task`.

Only ``input`` and ``answer`` are required. ``scorer`` and ``check`` may be a kind's name alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from upwright.errors import TaskError
from upwright.records import Task, to_json
from upwright.tasks.base import Pool
from upwright.tasks.fields import distinct, task_from


class JsonLines:
    """``jsonl:PATH``: a finite pool."""

    kind = "jsonl"

    def load(self, spec: str, root: Path) -> Pool:
        """Everything in the file, or an error that names the file, the line and the field.

        Raises:
            TaskError: the first thing that is wrong.
        """
        return Pool(distinct(read(root / spec, spec)))


def read(path: Path, name: str) -> list[tuple[str, Task]]:
    """Every task of the file with the place where it stands; ``name`` is how errors call the file.

    Raises:
        TaskError: the file cannot be read, holds no task, or a line of it is wrong.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TaskError(
            f"{name}: cannot be read: {error.strerror}", value=str(path), todo="check the path in upwright.toml"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TaskError(f"{name}, line {line}: is not UTF-8", todo="save the file as UTF-8") from None
    found = []
    for number, line_text in enumerate(text.split("\n"), 1):
        if line_text.strip():
            where = f"{name}, line {number}"
            found.append((where, task_from(_object(line_text, where), where)))
    if not found:
        raise TaskError(f"{name}: holds no task", value=str(path), todo="write one JSON object per line")
    return found


def render(tasks: Iterable[Task]) -> bytes:
    """JSON Lines of tasks, every field written out; :class:`JsonLines` reads them back equal."""
    return "".join(json.dumps(to_json(t), ensure_ascii=False, sort_keys=True) + "\n" for t in tasks).encode()


def _object(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, where), parse_constant=_no_constant)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise TaskError(f"{where}{column}: is not JSON: {reason}", value=_shown(text), todo="mend the line") from None


def _once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise TaskError(f"{where}, field {key!r}: is given twice", value=value, todo="delete one of the two")
        data[key] = value
    return data


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _shown(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "..."
