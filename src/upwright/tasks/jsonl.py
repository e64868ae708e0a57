"""Tasks from a JSON Lines file: one object per line, fields as in :class:`upwright.records.Task`.

Only ``input`` and ``answer`` are required. ``scorer`` and ``check`` may be a kind's name alone. A line with the keys
``id`` and ``passage`` is a text to learn from; tasks whose id begins with that id and a slash ask about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from upwright.errors import TaskError
from upwright.records import Task, to_json
from upwright.tasks.base import Passage, Pool
from upwright.tasks.fields import distinct, task_from


class JsonLines:
    """``jsonl:PATH``: a finite pool."""

    kind = "jsonl"

    def load(self, spec: str, root: Path) -> Pool:
        """Everything in the file, or an error that names the file, the line and the field.

        Raises:
            TaskError: the first thing that is wrong.
        """
        return Pool(distinct(read(root / spec, spec)), read_passages(root / spec, spec))


def read(path: Path, name: str) -> list[tuple[str, Task]]:
    """Every task of the file with the place where it stands; ``name`` is how errors call the file.

    Raises:
        TaskError: the file cannot be read, holds no task, or a line of it is wrong.
    """
    found = [(where, task_from(data, where)) for where, data in _lines(path, name) if not _is_passage(data)]
    if not found:
        raise TaskError(f"{name}: holds no task", value=str(path), todo="write one JSON object per line")
    return found


def read_passages(path: Path, name: str) -> tuple[Passage, ...]:
    """Every passage of the file, in order.

    Raises:
        TaskError: the file cannot be read, a passage has no text, or two have the same id.
    """
    found: dict[str, Passage] = {}
    for where, data in _lines(path, name):
        if not _is_passage(data):
            continue
        if set(data) != {"id", "passage"}:
            raise TaskError(f"{where}: a passage has the fields id and passage", value=sorted(data))
        for field in ("id", "passage"):
            if not isinstance(data[field], str) or not data[field].strip():
                raise TaskError(f"{where}, field {field!r}: needs a text that is not empty", value=data[field])
        if data["id"] in found:
            raise TaskError(f"{where}, field 'id': another passage has it", value=data["id"], todo="change one of them")
        found[data["id"]] = Passage(data["id"], data["passage"])
    return tuple(found.values())


def _is_passage(data: Any) -> bool:
    return isinstance(data, dict) and "passage" in data


def _lines(path: Path, name: str) -> list[tuple[str, Any]]:
    """Every line's value with the place where it stands."""
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
            found.append((where, _object(line_text, where)))
    return found


def render(tasks: Iterable[Task], passages: Iterable[Passage] = ()) -> bytes:
    """JSON Lines of passages and tasks, every field written out; :class:`JsonLines` reads them back equal."""
    lines = [{"id": p.id, "passage": p.text} for p in passages] + [to_json(t) for t in tasks]
    return "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines).encode()


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
