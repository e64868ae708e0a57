"""What can be measured: one file for each kind of task source.

To add a kind, write a class with ``kind`` and ``load`` (see :class:`upwright.tasks.base.Source`),
register it with :func:`register`, and inherit :class:`upwright.testing.sources.SourceContract`.
"""

from __future__ import annotations

from pathlib import Path

from upwright.errors import TaskError
from upwright.tasks.base import Evaluator, Generator, Pool, Practice, Source
from upwright.tasks.evaluator import EvaluatorFolder
from upwright.tasks.jsonl import JsonLines
from upwright.tasks.python import PythonFile
from upwright.tasks.reasoning_gym import ReasoningGym
from upwright.tasks.suite import Suite

__all__ = ["Evaluator", "Generator", "Pool", "Practice", "Source", "Suite", "load_source", "register", "sources"]

_SOURCES: dict[str, Source] = {}
_SUFFIXES = {".jsonl": "jsonl", ".py": "python"}


def register(source: Source) -> None:
    """Make a kind of source known; a later one of the same kind takes its place."""
    _SOURCES[source.kind] = source


def sources() -> tuple[str, ...]:
    """The known kinds, sorted."""
    return tuple(sorted(_SOURCES))


def load_source(spec: str, root: Path) -> Pool | Generator | Evaluator:
    """Load ``kind:rest``, or a path that ends in ``.jsonl`` or ``.py``, relative to ``root``.

    Raises:
        TaskError: the kind is unknown, or the source is wrong.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or (kind not in _SOURCES and Path(spec).suffix in _SUFFIXES and (root / spec).exists()):
        kind, rest = _SUFFIXES.get(Path(spec).suffix, ""), spec
    if kind not in _SOURCES:
        raise TaskError(
            "there is no such kind of task source",
            value=spec,
            todo=f"name a .jsonl or .py file, or write KIND:REST with one of {', '.join(sources())}",
        )
    return _SOURCES[kind].load(rest.strip(), root)


for _source in (JsonLines(), PythonFile(), ReasoningGym(), EvaluatorFolder()):
    register(_source)
