"""What became of proposals, as the improver may know it: the screen on practice, and one word of the warden."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from upwright.agents.lever import NAME
from upwright.errors import ProjectError
from upwright.project import VERBS, Journal, Project
from upwright.records import Decision
from upwright.warden import ledger, rules
from upwright.warden.state import State


class Standing(StrEnum):
    """Where a proposal is."""

    PROMOTED = "promoted"
    NOT = "not promoted"
    WAITING = "waits for a person"
    OPEN = "under way"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one proposal.

    Attributes:
        round: its number; ``lever``: ``told`` for what an agent proposed.
        parent: digest of the champion that it was to change; ``child``: of what was built, if anything was.
        changed: paths that an agent told; empty for other levers.
        decision: the warden's word; ``None`` for one that never knocked.
        gain: mean difference to the champion on practice, in [−1, 1]; ``None`` where it was not screened.
        why: one sentence. It tells of practice, and of the warden its word alone.
    """

    round: int
    lever: str
    author: str
    reason: str
    parent: str
    child: str | None
    changed: tuple[str, ...]
    standing: Standing
    decision: Decision | None
    gain: float | None
    why: str
    test: int | None = None

    @property
    def words(self) -> str:
        """What became of it, in a sentence or two."""
        test = f"test {self.test}" if self.test is not None else "the test"
        said = {
            Standing.PROMOTED: "promoted: the child is the champion now",
            Standing.WAITING: f"proven, and waits for a person: `upwright approve {self.test}` or `upwright refuse {self.test}`",
            Standing.OPEN: "under way: tell the same again, or `upwright run`, to go on",
            Standing.NOT: {
                None: "not promoted, and not tested",
                Decision.REJECT: f"not promoted: in {test} the warden saw that it is not better enough on sealed tasks",
                Decision.INSUFFICIENT: f"not promoted: {test} ended without enough evidence that it is better",
                Decision.PROMOTE: f"proven in {test}, and not promoted",
            }[self.decision],
        }[self.standing]
        return f"{said}. {self.why[0].upper()}{self.why[1:]}" if self.why else f"{said}."


def fates(project: Project, *, last: int = 50) -> tuple[Fate, ...]:
    """The last proposals, whoever made them, oldest first."""
    if not (project.state / "run.db").exists():
        return ()
    waiting = _waiting(project)
    with project.journal as journal:
        return tuple(_fate(journal, round_, row, waiting) for round_, _, row in journal.rows("propose", last=last))


def fate(project: Project, round_: int | None = None) -> Fate:
    """What became of one round, by default of the last one for which an agent was heard.

    Raises:
        ProjectError: there is none.
    """
    if (project.state / "run.db").exists():
        with project.journal as journal:
            if round_ is None:
                told = [r for r, _, row in journal.rows("propose") if row["lever"] == NAME]
                round_ = told[-1] if told else None
            if round_ is not None:
                return fate_of(project, journal, round_)
    raise ProjectError("no agent was heard yet", todo="propose a change: `upwright tell FILE`")


def fate_of(project: Project, journal: Journal, round_: int) -> Fate:
    """What became of one round.

    Raises:
        ProjectError: there is no such round.
    """
    row = journal.read("propose", round_)
    if row is None:
        raise ProjectError("there is no such round", value=round_, todo="`upwright ask` lists what was proposed")
    return _fate(journal, round_, row, _waiting(project))


def _waiting(project: Project) -> frozenset[int]:
    """Tests that wait for a person."""
    book = project.warden / ledger.FILE
    if not book.exists():
        return frozenset()
    return frozenset(rules.status(State.fold(ledger.read(book)))["awaiting_approval"])


def _fate(journal: Journal, round_: int, proposal: Mapping[str, Any], waiting: Collection[int]) -> Fate:
    build, prove, promote = (journal.read(verb, round_) or {} for verb in VERBS[3:])
    test = prove.get("test")
    decision = Decision(prove["decision"]) if prove.get("decision") else None
    if promote:
        standing = Standing.PROMOTED if promote["promoted"] else Standing.NOT
    else:
        standing = Standing.WAITING if test in waiting else Standing.OPEN
    lever = str(proposal["lever"])
    return Fate(
        round=round_,
        lever=lever,
        author=str(proposal["author"]),
        reason=str(proposal["reason"]),
        parent=str(proposal["parent"]),
        child=build.get("child"),
        changed=tuple(sorted(proposal["settings"]["files"])) if lever == NAME else (),
        standing=standing,
        decision=decision,
        gain=prove.get("gain"),
        why=str(promote.get("why") or prove.get("why") or build.get("why") or ""),
        test=test,
    )
