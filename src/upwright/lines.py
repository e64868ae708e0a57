"""What a person may know of a project, as records: generations, candidates, evidence.

All means are scores in [0, 1] and all gains are differences of scores in [−1, 1]; higher is better.
:func:`upwright.lineage.read_lineage` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upwright.diagnose.frontier import Reach
from upwright.errors import ProjectError
from upwright.metrics import Metric
from upwright.plans import PlanLine
from upwright.records import SCHEMA, Cost, Interval, Proposal


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean with its confidence sequence over ``n`` tasks."""

    mean: float
    interval: Interval
    n: int


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill on one draw: the child's and the former champion's score."""

    suite: str
    skill: str
    child: Measure
    former: Measure


@dataclass(frozen=True, slots=True)
class Comparison:
    """One paired comparison of a test.

    Attributes:
        versus: ``champion``, or ``anchor`` (the last generation that a person approved).
        margin: how much worse it may be; ``None`` on the objective, where it has to be better.
        mean: mean paired difference.
        exactly: of a metric that repeats exactly, what was measured, in words; nothing was bet there.
    """

    suite: str
    versus: str
    n: int
    wins: int
    losses: int
    ties: int
    mean: float | None
    margin: float | None
    e_value: float
    exactly: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the warden saw in one test. The smallest e-value of all comparisons has to reach the threshold.

    ``claim`` says what is claimed instead where nothing random is: every metric of the test repeats exactly.
    """

    test: int
    decision: str | None
    reason: str
    e_value: float
    threshold: float
    objective: Comparison
    protected: tuple[Comparison, ...]
    skills: tuple[Skill, ...]
    at: str
    claim: str = ""

    @property
    def weight(self) -> str:
        """How strong it is, in words."""
        if self.claim:
            return f"measured again: {self.objective.exactly or 'no run yet'}"
        return f"e-value {self.e_value:.3g} of {self.threshold:.0f} needed"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A fresh draw that decided nothing: the honest size of the gain."""

    child: Measure
    former: Measure
    gain: Measure
    skills: tuple[Skill, ...]
    at: str


@dataclass(frozen=True, slots=True)
class GenerationLine:
    """One generation.

    Attributes:
        number: order of promotion; 0 is the first body.
        rung: what it learned from, strongest first in :class:`upwright.records.Rung`.
        changed: paths that differ from the parent.
        practice: mean score on the practice exam, or ``None`` when not evaluated.
        score: confirmed score; of generation 0, as the former champion of generation 1's confirmation.
        confirmation: ``None`` for generation 0 and until the confirmation is done.
        frontier: how far it reaches on the objective's difficulties, on practice tasks; ``None`` where there is no scale of them.
        build: what building it cost; ``cost``: everything spent since the generation before, failures included.
        rolled_back: whether a rollback left it behind.
        metrics: of a program, what its freshest sealed runs measured, a metric for each suite; the objective's first.
    """

    number: int
    digest: str
    parent: str | None
    lever: str | None
    proposal: Proposal | None
    reason: str
    rung: str | None
    changed: tuple[str, ...]
    note: Mapping[str, Any]
    practice: float | None
    score: Measure | None
    skills: tuple[Skill, ...]
    confirmation: Confirmation | None
    evidence: Evidence | None
    build: Cost
    cost: Cost
    round: int | None
    rolled_back: bool
    at: str
    frontier: Reach | None = None
    metrics: tuple[Metric, ...] = ()

    @property
    def name(self) -> str:
        """Number and short digest, as people say it."""
        return f"{self.number} ({self.digest[:10]})"


@dataclass(frozen=True, slots=True)
class CandidateLine:
    """One round: what was tried and what became of it.

    Attributes:
        gain: mean difference on practice, ``None`` when it was not screened.
        decision: the warden's word, ``None`` when it never knocked.
        why: the warden's reason for people, or why it never knocked; empty while the round is open.
        metrics: of a program that knocked, what its sealed runs measured.
    """

    round: int
    lever: str
    reason: str
    digest: str | None
    gain: float | None
    decision: str | None
    why: str
    evidence: Evidence | None
    seconds: float
    at: float
    metrics: tuple[Metric, ...] = ()

    @property
    def promoted(self) -> bool:
        """Whether the warden said PROMOTE."""
        return self.decision == "PROMOTE"


@dataclass(frozen=True, slots=True)
class VaultLine:
    """One opening of the vault: a generation against the first one."""

    digest: str
    total: Confirmation
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True, slots=True)
class RollbackLine:
    """The champion was moved back."""

    digest: str
    by: str
    why: str
    at: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Everything a person may want to know of a project.

    Attributes:
        founded: false until the first run.
        waiting: tests that the gate has passed and a person has to approve.
        spent: over all runs; ``looks``: sealed tasks drawn, by suite.
        entries: entries on the ledger.
        calibration: what the last calibration of the gate found, as it was noted on the ledger.
        plans: of successors, oldest first; empty for a run whose levers were drawn round by round.
    """

    founded: bool = False
    objective: str = ""
    champion: str = ""
    anchor: str = ""
    generations: tuple[GenerationLine, ...] = ()
    candidates: tuple[CandidateLine, ...] = ()
    vault: tuple[VaultLine, ...] = ()
    rollbacks: tuple[RollbackLine, ...] = ()
    waiting: tuple[int, ...] = ()
    stopped: str | None = None
    spent: Cost = field(default_factory=Cost)
    tests: int = 0
    looks: Mapping[str, int] = field(default_factory=dict)
    entries: int = 0
    calibration: Mapping[str, Any] | None = None
    plans: tuple[PlanLine, ...] = ()
    schema: int = SCHEMA

    def of(self, digest: str) -> GenerationLine | None:
        """The generation's line, or ``None`` when it never was champion."""
        return next((g for g in self.generations if g.digest == digest), None)

    def resolve(self, name: str) -> str:
        """The digest of a generation named by number, ``champion``, or the beginning of its digest.

        Raises:
            ProjectError: there is none, or there are several.
        """
        todo = "`upwright log` lists them"
        if not self.generations:
            raise ProjectError("this project has no generation yet", value=name, todo="start with `upwright run`")
        if name.lower() == "champion":
            return self.champion
        if name.isdecimal() and int(name) < len(self.generations):
            return self.generations[int(name)].digest
        known = {g.digest for g in self.generations} | {c.digest for c in self.candidates if c.digest}
        found = sorted(d for d in known if len(name) >= 4 and d.startswith(name.lower()))
        if len(found) > 1:
            raise ProjectError("several generations begin with this", value=name, todo="give more digits")
        if not found:
            last = len(self.generations) - 1
            raise ProjectError(f"there is no such generation; the newest is {last}", value=name, todo=todo)
        return found[0]
