"""What every lever is: it proposes specs and builds children from them. It never judges."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from upwright.bodies.body import Body
from upwright.evolution.records import Trials
from upwright.principles import Breach, Constitution
from upwright.records import Cost, Decision, Proposal, Question, Rung, Scorecard, Task, Weakness
from upwright.tasks.base import Practice

Changes = Mapping[str, bytes | Path | None]
"""What a child changes: path inside the body → new bytes, a file to take them from, or ``None`` to delete."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier proposal of this run and what became of it."""

    proposal: Proposal
    decision: Decision | None
    screened_gain: float | None
    cost: Cost
    why: str


@dataclass(frozen=True, slots=True)
class Relative:
    """A child that this run built and screened, whatever became of it.

    Attributes:
        digest: its own; ``parents``: the body that it was built from, or those whose parts it took (:attr:`Built.parents`).
        round: in which it was built; ``lever``: by which; ``rung``: what it learned from.
        scores: task id → its score in [0, 1] on the practice exam. All relatives of a run sat the same exam, unless a
            person changed it.
        adapter: digest of its adapter's weights where the store has them, they fit the champion's base weights, are not
            the champion's own, and learned from evidence that the charter admits; else empty.
        decision: the warden's word; ``None`` for one that never knocked.
    """

    digest: str
    parents: tuple[str, ...]
    round: int
    lever: str
    rung: Rung
    scores: Mapping[str, float]
    adapter: str = ""
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a lever may know when it proposes.

    ``effort`` scales the work of one build: 1.0 is the project's normal (a few CPU minutes).
    ``trust`` is how much the body's own judgement counts, in [0, 1]: less than 1 once it got worse at knowing when it is wrong.
    ``archive`` are the children of this run so far, oldest first, facts only; they are read when first looked at.
    ``domain`` are the skills that the charter lets a body teach itself; empty means all. ``minimum_rung`` is the weakest
    evidence that the charter lets it learn from. ``breaches``: how often the champion's answers on practice break the
    rules of the ``constitution`` that the charter names.
    """

    parent: str
    body: Body
    weaknesses: Sequence[Weakness]
    history: Sequence[Attempt]
    trainable: bool
    effort: float
    rng: random.Random
    domain: tuple[str, ...] = ()
    trust: float = 1.0
    archive: Sequence[Relative] = ()
    minimum_rung: str | None = None
    constitution: Constitution | None = None
    breaches: tuple[Breach, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """What ``build`` made, and what it learned from.

    Attributes:
        changes: the child's difference from its parent.
        rung: the strongest evidence the child learned from in this build; what earlier builds had learned from does not
            lend it theirs.
        note: readable facts for the report (numbers, settings found, data traced). JSON types.
        parents: bodies whose parts the child took, where that is not the proposal's parent alone; then without the latter,
            unless it is one of them.
    """

    changes: Changes
    rung: Rung
    note: Mapping[str, Any]
    cost: Cost
    parents: tuple[str, ...] = ()


class Workshop(Protocol):
    """The tools a lever builds with. Everything in it is practice; nothing here is sealed."""

    @property
    def scratch(self) -> Path:
        """A directory of this proposal's own; kept until the child is stored, so a build can resume."""
        ...

    @property
    def state(self) -> Path:
        """A directory of the project's, kept from build to build. It saves time; what a build makes must not depend on it."""
        ...

    @property
    def trials(self) -> Trials | None:
        """The objective's evaluator, to run programs that no body holds yet; ``None`` for a suite that has none."""
        ...

    practice: Practice
    rehearsal: Sequence[Practice]
    """Practice sides of the protected suites, to guard against forgetting."""

    @property
    def constitution(self) -> Constitution | None:
        """The constitution that the charter names, or ``None``."""
        ...

    @property
    def judge(self) -> Body | None:
        """The body that upwright.toml names to judge others, or ``None``."""
        ...

    def evaluate(self, body: Body, tasks: Sequence[Task], seed: int) -> Scorecard:
        """Answer and score tasks with any body directory (cached where it is a stored generation)."""
        ...

    def ahead(self, bodies: Sequence[Body], tasks: Sequence[Task], seed: int) -> None:
        """Begin the answers of several bodies in one batch, so that ``evaluate`` with the same tasks and seed is cheap.

        It changes no result. Bodies that do not share their weights with the parent are left for ``evaluate``.
        """
        ...

    def sample(
        self, body: Body, tasks: Sequence[Task], k: int, seed: int, temperature: float
    ) -> list[list[tuple[str, float]]]:
        """``k`` sampled answers per task as ``(text, score)``, one list per task.

        Of a body that thinks, the text holds the thought too; the score is its final answer's.
        """
        ...

    def ask(self, body: Body, questions: Sequence[Question], k: int, seed: int, temperature: float) -> list[list[str]]:
        """``k`` sampled final answers per question, which nobody scores; a failed one is empty."""
        ...

    def variant(self, changes: Changes) -> Body:
        """The parent with changes applied, as a scratch body."""
        ...

    def archived(self, digest: str) -> Body:
        """A stored child of this run, read-only; see :class:`Relative`.

        Raises:
            BuildError: it is not in the store (any more), or its base weights are not the parent's.
        """
        ...

    def progress(self, done: int, total: int, note: str) -> None:
        """Report progress; also the place where a stop request takes effect (raises ``Stopped``)."""
        ...


class Lever(Protocol):
    """One way to change a body.

    Contract (held by :mod:`upwright.testing.levers`): ``propose`` is deterministic given the
    situation, returns ``None`` when it has nothing to try (or cannot, for this body) and never runs a
    model; ``build`` is a pure function of parent, proposal and practice: the same three give the same
    bytes; it changes only ``parts``; it raises :class:`~upwright.errors.BuildError` when it cannot.

    A lever that learns from anything but execution says so in a class attribute ``rung`` (see
    :func:`upwright.levers.evidence`), so that a charter that demands more leaves it out before it costs anything.
    """

    name: str
    parts: tuple[str, ...]
    """Paths (files, or folders ending in ``/``) that this lever changes."""
    needs_weights: bool
    seconds: float
    """Rough wall seconds of one round at effort 1.0 on two CPU cores: the allocator's prior, nothing more."""

    def propose(self, situation: Situation) -> Proposal | None:
        """The next thing to try, or ``None``."""
        ...

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """Make the child."""
        ...


Factory = Callable[[], Lever]
