"""What every proposer is: it makes drafts of programs and hears what became of them. It never judges."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from upwright.evolution.blocks import Scope
from upwright.evolution.records import Candidate, Draft, Program, Result

__all__ = ["Brief", "Candidate", "Draft", "Program", "Proposer", "Result", "Scope"]


@dataclass(frozen=True, slots=True)
class Brief:
    """What a proposer may know when it is asked.

    Attributes:
        parent: the candidate to go on from; ``inspirations``: others, the best of all first, none of them ``parent``.
        failures: what failed lately and why, short, newest first.
        scope: what may change; a draft that changes anything else is refused.
        metric: name of the metric that is to get better; ``direction``: whether more or less of it is better.
        rng: the only source of chance that a proposer may use; ``n``: how many drafts are wanted (it may return fewer, not more).
    """

    parent: Candidate
    inspirations: tuple[Candidate, ...]
    failures: tuple[str, ...]
    scope: Scope
    metric: str
    direction: Literal["max", "min"]
    rng: random.Random
    n: int


@runtime_checkable
class Proposer(Protocol):
    """One way to come by a next program.

    Contract: ``propose`` is deterministic given the brief and what ``told`` has said so far, in order. A search that was killed
    makes its proposers anew and tells them every earlier draft and result again, in the same order: what a proposer knows
    it keeps nowhere else. It does not run candidates against the evaluator; it returns an empty sequence when it has
    nothing to try for this parent; whatever it cannot do is no error of the search. It is called from one thread. ``told``
    hears of its own drafts alone, of those that were refused before they were judged too (``score`` is ``None`` and
    ``why`` says so).
    """

    name: str
    cost: float
    """Rough seconds for one draft: a prior, nothing more."""

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """At most ``brief.n`` drafts that differ from their parent inside of ``brief.scope`` alone."""
        ...

    def told(self, draft: Draft, result: Result) -> None:
        """Hear what became of an own draft."""
        ...
