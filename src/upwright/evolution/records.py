"""The records of a search over programs: a program is its files, a candidate a program that was judged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from upwright.bodies.program import program_text
from upwright.errors import BodyError

Program = Mapping[str, str]
"""Path inside ``program/`` → text, line ends as they are in the file; bytes that are no UTF-8 stand in it as lone surrogates."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A program in the archive, and how it was judged.

    Attributes:
        digest: :func:`program_digest` of ``program``.
        metrics: what the evaluator measured; empty when it failed.
        score: in [0, 1], higher is better; the mean of its measurements on seeds that did not choose it, where there are any;
            ``None`` when it failed or has not been judged yet.
        parents: digests of the candidates that it was made from; none for the one that a search starts from.
        island: where it was born; ``proposer``: by whom; ``note``: what was tried, one line.
        number: counts from 0 in the order in which candidates were taken in.
        stderr: standard error of ``score``, 0.0 where it was measured once or repeats exactly; ``runs``: measurements.
        why: one sentence about the failure, else empty; ``artifacts``: what the evaluator said besides, name → text, short.
    """

    digest: str
    program: Program
    metrics: Mapping[str, float]
    score: float | None
    parents: tuple[str, ...] = ()
    island: int = 0
    proposer: str = ""
    note: str = ""
    number: int = 0
    stderr: float = 0.0
    runs: int = 0
    why: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """A program that a proposer made and nobody has judged.

    Attributes:
        parents: digests of the candidates that it was made from, the one that was changed first.
        note: what was tried, one line; ``changes``: the difference in words or as a diff, for people and for memory.
    """

    program: Program
    proposer: str
    note: str = ""
    parents: tuple[str, ...] = ()
    changes: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a draft.

    Attributes:
        score: in [0, 1], higher is better; ``None`` when it failed, or was refused before it was judged.
        why: one sentence when there is no score (failure, duplicate, out of scope), else empty.
        alarms: what looked like an attack on the grader.
    """

    score: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    alarms: tuple[str, ...] = ()


class Judged(Protocol):
    """What a judge says of one run; :class:`upwright.warden.evaluator.Judged` is one.

    ``score`` is ``None`` when the run failed, and then ``failure`` names the kind (``timeout``, ``crash``, …).
    """

    @property
    def metrics(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def score(self) -> float | None: ...  # noqa: D102
    @property
    def failure(self) -> str: ...  # noqa: D102
    @property
    def artifacts(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def alarms(self) -> tuple[str, ...]: ...  # noqa: D102


class Trials(Protocol):
    """The evaluator of a search: runs programs in isolation, on practice seeds.

    Attributes:
        digest: of all that decides a score: the evaluator's files, and which metric counts.
        metric, direction: what is to get better; ``exact``: the same program always gets the same score.
        workers: evaluations that run at once.
    """

    digest: str
    metric: str
    direction: Literal["max", "min"]
    exact: bool
    workers: int

    def judge(self, program: Program, seed: int) -> Judged:
        """Run a program once; thread-safe.

        Raises:
            WardenFault: trouble that is not the program's.
        """
        ...

    def watch(self, program: Program, seconds: float) -> tuple[str, str]:
        """What a program prints when it is run, and why it did not end well, if so; its score is not kept."""
        ...

    def close(self) -> None:
        """End what is held; may be called twice."""
        ...


def program_digest(program: Program) -> str:
    """SHA-256 of :func:`~upwright.bodies.program.program_text`; equal exactly for equal files."""
    return hashlib.sha256(program_text(program).encode()).hexdigest()


def checked_path(path: str) -> str:
    """The path, if it names a file inside of ``program/``.

    Raises:
        BodyError: it is absolute, leaves the folder, or is not in its plain form.
    """
    parts = path.split("/")
    if not path or "\\" in path or any(ord(c) < 32 for c in path) or any(p in ("", ".", "..") for p in parts):
        raise BodyError(
            "this is no path of a file in program/",
            value=path,
            todo="a relative path with / between folders, without . or ..",
        )
    return path
