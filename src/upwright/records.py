"""The frozen records that pass between the six verbs.

A score, a failure and "not enough evidence" are three different types: a score is a ``float`` in
[0, 1] (higher is better), a failure is a :class:`Failure`, and insufficient evidence is
``Decision.INSUFFICIENT``. Records are plain data: they go to JSON with :func:`to_json` and come
back, checked, with :func:`from_json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

SCHEMA = 1
"""Version of every record below as written to disk."""

T = TypeVar("T")


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"


class FailureKind(StrEnum):
    """Why there is no score. None of these is a zero."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    REFUSAL = "refusal"
    INFRASTRUCTURE = "infrastructure"


class ErrorKind(StrEnum):
    """What kind of wrong an answer is (diagnosis)."""

    WRONG_FORMAT = "wrong format"
    TRUNCATED = "truncated"
    WRONG_VALUE = "wrong value"
    OFF_TASK = "off task"


class Decision(StrEnum):
    """The only three words that the improver hears from the warden."""

    PROMOTE = "PROMOTE"
    REJECT = "REJECT"
    INSUFFICIENT = "INSUFFICIENT"


class Rung(StrEnum):
    """What an improvement learned from, strongest first."""

    PROOF = "proof"
    EXECUTION = "execution"
    JUDGE = "independent judge"
    CONSENSUS = "self-consistency"
    SELF = "self-judgement"

    def reaches(self, least: Rung) -> bool:
        """Whether this is as strong as ``least``, or stronger."""
        order = list(Rung)
        return order.index(self) <= order.index(least)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval ``[low, high]`` at ``level`` (0.95 means 95 %)."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Question:
    """What a body may see of a task: no answer, no grader.

    ``check`` is a public scorer spec that needs no gold answer (a format rule), or ``None``.
    """

    id: str
    input: str
    check: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task at practice distance: the answer is visible.

    ``scorer`` is a spec such as ``{"kind": "exact"}``; see :mod:`upwright.tasks.scorers`.
    ``difficulty`` counts from 1 (easy) upward.
    """

    id: str
    input: str
    answer: Any
    skill: str = "general"
    difficulty: int = 1
    scorer: Mapping[str, Any] = field(default_factory=lambda: {"kind": "exact"})
    check: Mapping[str, Any] | None = None

    @property
    def question(self) -> Question:
        """The part of the task that a body may see."""
        return Question(self.id, self.input, self.check)


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that produced no answer; not a score."""

    kind: FailureKind
    message: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a body said to one question, and what it cost.

    Attributes:
        text: the final answer; empty when ``failure`` is set.
        finish: why the final completion ended; ``None`` when ``failure`` is set.
        prompt_tokens: tokens read over all samples (a shared prefix counts once).
        completion_tokens: tokens written over all samples.
        seconds: wall seconds attributed to this question (its share of its batch).
        confidence: mean log-probability per token of the chosen completion in nats (≤ 0), or ``None``.
        vote_share: fraction of samples that agree with ``text`` in (0, 1], or ``None`` for one sample.
        money: cost in the endpoint's currency (0 for local models).
        failure: set when there is no answer.
    """

    task_id: str
    text: str
    finish: Finish | None = Finish.STOP
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    confidence: float | None = None
    vote_share: float | None = None
    samples: int = 1
    money: float = 0.0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task's result: exactly one of ``score`` (in [0, 1], higher is better) and ``failure``."""

    task_id: str
    skill: str
    difficulty: int
    answer: Answer
    score: float | None
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if (self.score is None) == (self.failure is None):
            raise ValueError(f"outcome {self.task_id!r} needs a score or a failure, and not both")


@dataclass(frozen=True, slots=True)
class Scorecard:
    """An outcome for every task, in task order."""

    generation: str
    suite: str
    seed: int
    outcomes: tuple[Outcome, ...]
    schema: int = SCHEMA

    @property
    def scores(self) -> tuple[float, ...]:
        """Scores of the outcomes that have one (failures left out)."""
        return tuple(o.score for o in self.outcomes if o.score is not None)

    @property
    def mean(self) -> float | None:
        """Mean score over scored outcomes, or ``None`` when nothing could be scored."""
        s = self.scores
        return sum(s) / len(s) if s else None

    @property
    def failures(self) -> int:
        """How many tasks have no score."""
        return sum(o.failure is not None for o in self.outcomes)

    @property
    def seconds(self) -> float:
        """Wall seconds over all tasks."""
        return sum(o.answer.seconds for o in self.outcomes)

    @property
    def tokens(self) -> int:
        """Tokens read and written over all tasks."""
        return sum(o.answer.prompt_tokens + o.answer.completion_tokens for o in self.outcomes)


@dataclass(frozen=True, slots=True)
class Weakness:
    """One thing the body is bad at, measured.

    Attributes:
        rate: pass rate of the skill in [0, 1].
        interval: Wilson interval of ``rate``.
        errors: share of each :class:`ErrorKind` among the wrong answers.
        headroom: pass@k − pass@1 in [0, 1]: what the body's own samples could reach.
        levers: levers that could reach it, most promising first.
        sentence: what is wrong, which lever could reach it, and why.
    """

    skill: str
    difficulty: int | None
    rate: float
    interval: Interval
    tasks: int
    errors: Mapping[str, float]
    headroom: float | None
    levers: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A small, replayable, human-readable spec of one change.

    ``lever`` + ``settings`` + ``seed`` + the parent rebuild the child exactly.
    """

    lever: str
    settings: Mapping[str, Any]
    reason: str
    author: str
    parent: str
    seed: int
    weakness: str | None = None
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of this proposal."""
        return canonical_digest(to_json(self))


@dataclass(frozen=True, slots=True)
class Generation:
    """An immutable body, named by the SHA-256 of its tree.

    ``files`` maps POSIX paths inside the body to the SHA-256 of their bytes.
    """

    digest: str
    files: Mapping[str, str]
    parent: str | None = None
    proposal: Proposal | None = None
    note: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the warden answers: one word about one test."""

    test: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Cost:
    """What something spent: wall seconds, tokens, tasks and money."""

    seconds: float = 0.0
    tokens: int = 0
    tasks: int = 0
    money: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            self.tasks + other.tasks,
            self.money + other.money,
        )


def to_json(record: object) -> Any:
    """Plain JSON types (dict, list, str, int, float, bool, None) of a record."""
    return msgspec.to_builtins(record)


def from_json(cls: type[T], data: Any) -> T:
    """A checked record from JSON types.

    Raises:
        msgspec.ValidationError: names the field and what was expected.
    """
    return msgspec.convert(data, type=cls)


def canonical_json(data: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for the same value."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_digest(data: Any) -> str:
    """SHA-256 (hex) of :func:`canonical_json`."""
    return hashlib.sha256(canonical_json(data)).hexdigest()


def tree_digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a tree given as path → SHA-256 of its bytes."""
    lines: Iterable[str] = (f"{path}\0{files[path]}\n" for path in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts; the same parts give the same seed."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
