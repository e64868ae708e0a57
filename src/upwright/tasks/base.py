"""What every source of tasks is, and the three distances.

The split is by construction: a task's *bucket* is a salted hash of its input (and only of its
input), so the same problem always lands at the same distance, whoever draws it, and practice, sealed and vault cannot
overlap. A finite source is a :class:`Pool`; an endless one is a :class:`Generator`, whose code the
warden freezes and runs with seeds that nobody else can know, or an :class:`Evaluator`, which runs programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from upwright.records import Question, Task


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to learn from. Tasks whose id begins with the passage's id and a slash ask about it."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Pool:
    """A finite list of tasks; the warden takes the sealed and vault buckets away at ``init``.

    ``passages`` stay visible: they hold the facts that sealed tasks ask for, which is what learning them is for.
    """

    tasks: tuple[Task, ...]
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """A difficulty axis without an end: problems can be asked for at any difficulty from 1 upward.

    Attributes:
        labelled: the hardest difficulty whose answers levers may learn from; beyond it answers are for measuring alone, and
            a body has no labels but its own. ``None``: they may see all.
    """

    labelled: int | None = None


@dataclass(frozen=True, slots=True)
class Generator:
    """An endless source: a Python file with ``generate(seed: int) -> dict`` (fields of ``Task`` but ``id``).

    A file with a difficulty axis takes ``generate(seed, difficulty=None)``, and has ``problem(seed, difficulty) -> dict``
    that gives ``input`` (and perhaps ``check``) and no answer. ``LABELLED = d`` in it says up to which difficulty answers come from outside; see :class:`Axis`.
    It may define ``score(text: str, task: dict) -> float`` for tasks whose scorer is
    ``{"kind": "python"}``. The file may import only the standard library and packages that the
    warden's process may load (no torch, no upwright).
    """

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Evaluator:
    """An endless source: a folder with an evaluator that runs a body's program; a task is one run of it with a seed of its own.

    Attributes:
        folder: absolute; ``sha256`` is of all that it holds.
        metric: the one that tasks are scored by.
        program: where the first body's program is, to try the evaluator with at founding.
    """

    folder: Path
    metric: str
    sha256: str
    program: Path | None = None


class Source(Protocol):
    """One way to get tasks; a file under ``tasks/`` per kind.

    Contract (held by :mod:`upwright.testing.sources`): ``load`` either returns everything or raises
    :class:`~upwright.errors.TaskError` naming the file, the line and the field; nothing is
    half-loaded; the same spec gives the same tasks.
    """

    kind: str

    def load(self, spec: str, root: Path) -> Pool | Generator | Evaluator:
        """Load ``spec`` (what follows ``kind:`` in upwright.toml), relative to project ``root``."""
        ...


class Practice(Protocol):
    """The practice side of a suite: inputs and answers visible, drawn by seed."""

    name: str

    @property
    def axis(self) -> Axis | None:
        """The difficulty axis, ``None`` where problems cannot be asked for by difficulty."""
        ...

    def problems(self, difficulty: int, n: int, seed: int) -> tuple[Question, ...]:
        """``n`` distinct practice problems of one difficulty, without answers; fewer if there are no more.

        Raises:
            TaskError: there is no axis.
        """
        ...

    def draw(self, n: int, seed: int) -> tuple[Task, ...]:
        """``n`` distinct practice tasks (fewer if the pool is smaller); the same seed gives the same tasks."""
        ...

    def score(self, text: str, task: Task) -> float:
        """Score of an answer text in [0, 1]; higher is better."""
        ...

    def passages(self) -> tuple[Passage, ...]:
        """Texts that the tasks ask about without showing them; none where the suite has none."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Kind, size (``None`` when endless), digest."""
        ...
