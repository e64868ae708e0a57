"""One round of the loop for what an agent told: build, screen, prove, promote, as for any other proposal.

The agent decides nothing: the gate does, and where the charter's oversight is ``approve`` a person agrees first.
Killed anywhere, the round goes on when the same is told again, or with the next ``upwright run``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from upwright.agents.change import Offer, changed, texts_of
from upwright.agents.fates import Fate, Standing, fate_of
from upwright.agents.lever import NAME, Told
from upwright.diagnose import Diagnosis, diagnose
from upwright.engines import make_engine
from upwright.engines.base import Engine
from upwright.errors import CharterError, ProjectError, UpwrightError, WardenError
from upwright.events import Event
from upwright.founding import found, translated
from upwright.jobs import Exam, clear_scratch, scratch_of
from upwright.levers import evidence, registry
from upwright.limits import Ends, Limits
from upwright.loop import Loop
from upwright.project import Journal, Project
from upwright.promote import Door
from upwright.records import (
    Generation,
    Proposal,
    Rung,
    Weakness,
    canonical_digest,
    canonical_json,
    derive_seed,
    from_json,
    to_json,
)
from upwright.warden.rules import MOST_PROPOSAL

PATIENT = 60.0
"""Seconds that finishing a round which a run left open may be expected to take; a longer one is not begun unasked."""


class Hearing(Loop):
    """A loop whose one proposal comes from outside. Use :func:`hearing`.

    Attributes:
        left: whether a killed run left this round open with a proposal in it.
    """

    def __init__(
        self,
        project: Project,
        journal: Journal,
        engine: Engine,
        door: Door,
        on_event: Callable[[Event], None] | None,
        samples: int = 0,
    ) -> None:
        super().__init__(_plain(project, samples), journal, engine, door, {NAME: Told()}, on_event)
        self.left = journal.read("propose", self.round) is not None
        self.pending: Proposal | None = None
        self.ends = Ends(Limits(), self.charter, self.past, self.settings.goal, self._confirmed)

    def diagnosed(self, digest: str) -> Diagnosis:
        """A generation on the practice exam, and what is weak; nothing of it is written on the journal."""
        exam = self.runner.champion_exams(digest)[self.charter.objective]
        return diagnose(exam.card, exam.samples or None, tuple(n for n in self.levers if n != NAME), exam.tasks)

    def champion(self) -> Generation:
        """The generation that a change is made to."""
        return self.store.get(self.pointers.status()["champion"])

    def proposal_of(self, offer: Offer) -> Proposal:
        """The offer as a proposal to change the champion.

        Raises:
            CharterError, ProjectError, BodyError, EditError: why it is not heard.
        """
        champion = self.champion()
        if not champion.digest.startswith(offer.parent):
            raise ProjectError(
                f"this was made for a champion that is not any more: now it is {champion.digest[:12]}",
                value=offer.parent[:12],
                todo="read the champion again, and tell a change to it",
            )
        least = self.charter.minimum_rung
        if least is not None and not evidence(self.own[NAME]).reaches(Rung(least)):
            raise CharterError(
                f"what an agent tells counts as learned from {Told.rung.value}, and the charter demands {least} or stronger",
                todo="a person may lower minimum_rung in charter.toml",
            )
        made = self._made(offer, champion)
        if len(canonical_json(to_json(made))) > MOST_PROPOSAL:
            raise ProjectError("the change is too large to stand on the ledger", todo=f"at most {MOST_PROPOSAL} bytes")
        return made

    def _made(self, offer: Offer, parent: Generation) -> Proposal:
        files = changed(offer, texts_of(self.store, parent), self.charter, self.store.checkout(parent.digest))
        reason = " ".join(offer.reason.split()) or f"{offer.author} changes {', '.join(sorted(files))}"
        seed = derive_seed(self.settings.seed, NAME, parent.digest, canonical_digest(files))
        return Proposal(NAME, {"files": files}, reason, offer.author, parent.digest, seed, offer.weakness)

    def hear(self, offer: Offer, anew: bool) -> Fate:
        """Take the offer through a round; see :func:`tell`."""
        before = self._before(offer)
        if before is not None and before[1].standing in (Standing.PROMOTED, Standing.NOT):
            return before[1]
        made = before[0] if before else self.proposal_of(offer)
        if self.left:
            self._finish(made, anew)
        if why := self.ends.why(0, 0, self.generation) if self.ends else "":
            raise CharterError(
                f"nothing more is heard: {why}", todo="a person may amend the charter, or set another goal"
            )
        self.pending = made
        round_ = self.round
        if self.one_round():
            self._open_vault_if_owed()
        known = fate_of(self.project, self.journal, round_)
        if self.ended and known.standing is Standing.OPEN:
            raise WardenError(self.ended, todo="a person decides about that; then tell the same again")
        return known

    def _before(self, offer: Offer) -> tuple[Proposal, Fate] | None:
        """The same offer when it was told before, as far as that still says something: it is open, it was promoted, or it
        was made to this champion and not promoted.
        """
        champion = self.pointers.status()["champion"]
        for round_, _, row in reversed(self.journal.rows("propose")):
            if row["lever"] != NAME or row["author"] != offer.author or not row["parent"].startswith(offer.parent):
                continue
            told = from_json(Proposal, row)
            try:
                same = self._made(offer, self.store.get(told.parent)) == told
            except UpwrightError:  # it does not fit that parent, so it was not told to it
                continue
            if same:
                known = fate_of(self.project, self.journal, round_)
                here = told.parent == champion
                if known.standing in (Standing.OPEN, Standing.WAITING):
                    counts = here or self.journal.read("prove", round_) is not None
                else:
                    counts = (known.standing is Standing.PROMOTED) != here
                if counts:
                    return told, known
        return None

    def _finish(self, made: Proposal, anew: bool) -> None:
        """Take the round that was left open to its end, unless it is this proposal's own.

        Raises:
            ProjectError: that would take long, or its child is the champion now; WardenError: it waits for a person.
        """
        row = self.journal.read("propose", self.round) or {}
        opened = from_json(Proposal, row)
        if opened == made:
            return
        built, lever = self.journal.read("build", self.round), opened.lever
        stale = opened.parent != made.parent and self.journal.read("prove", self.round) is None
        if stale or (not built and (anew or lever not in self.levers)):
            self.journal.forget(self.round)
            clear_scratch(scratch_of(self.project, opened))
            self.left = False
            return
        seconds = 0.0 if built else self.chooser.expected(self._improver(), lever)
        if seconds > PATIENT:
            raise ProjectError(
                f"a run was interrupted in the middle of round {self.round} ({lever}, about {seconds:.0f} s)",
                todo="finish it with `upwright run --rounds 1`, or give it up with `upwright tell --anew`",
            )
        self._event("propose", 0, 0, f"first the rest of round {self.round}, which was left open ({lever})")
        promoted = self.one_round()
        if self.ended:
            raise WardenError(
                f"round {self.round} was left open, and cannot end yet: {self.ended}",
                todo="a person decides about that; then tell the same again",
            )
        if promoted:
            raise ProjectError(
                f"round {self.round - 1} was left open and has ended first: its child is the champion now",
                todo="read the champion again, and tell a change to it",
            )

    # -- the loop's verbs, where they differ ---------------------------------------------------------

    def propose(
        self, champion: Generation, exam: Mapping[str, Exam], weaknesses: Sequence[Weakness]
    ) -> Proposal | None:
        """(3) What was left open, else what was told.

        The row is held back until there is a child: killed before, the round leaves nothing behind that only an agent
        could go on with.
        """
        if self._row("propose") is not None:
            return super().propose(champion, exam, weaknesses)
        self.left = False
        made, self.pending = self.pending, None
        assert made is not None, "a round is for something"
        self.began, self.lever = self.past.seconds, made.lever
        self._improver()  # asked for later it would be read from the journal, which writes what is held back
        self.journal.write("propose", self.round, to_json(made), hold=True)
        self._event("propose", 1, 1, made.reason)
        return made

    def _row(self, verb: str) -> dict[str, Any] | None:
        """What a killed run left; where it left no proposal, the journal is not asked (that would write what is held back)."""
        return super()._row(verb) if self.left or verb in ("evaluate", "diagnose") else None


def _plain(project: Project, samples: int) -> Project:
    """The project with those levers alone that are installed, and with so many samples for headroom."""
    settings, known = project.settings, registry()
    levers = tuple(name for name in settings.levers if name in known) or (("frozen",) if settings.levers else ())
    return Project(project.root, replace(settings, levers=levers, run=replace(settings.run, samples=samples)))


@contextmanager
def hearing(
    project: Project,
    *,
    engine: Engine | None = None,
    door: Door | None = None,
    on_event: Callable[[Event], None] | None = None,
    samples: int = 0,
) -> Iterator[Hearing]:
    """Hold the project for a round, founded if it was not.

    Args:
        samples: of a champion's answers for headroom; they help to choose among levers, so a round for an agent has none.
        engine: where jobs run; by default what upwright.toml says, for this round alone.
        door: the warden's; by default the project's own.
    """
    from upwright.warden.door import Door as WardenDoor

    project.prepare()
    with translated(), project.lock(), project.journal as journal, ExitStack() as stack:
        found(project)
        if engine is None:
            engine = make_engine(project.settings.engine, project.logs)
            stack.callback(engine.close)
        if door is None:
            door = stack.enter_context(WardenDoor.open(project.warden, project.charter_path.read_text()))
        loop = Hearing(project, journal, engine, door, on_event, samples)
        stack.callback(loop.past.close)
        yield loop


def tell(
    project: Project,
    offer: Offer,
    *,
    anew: bool = False,
    engine: Engine | None = None,
    door: Door | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Fate:
    """Hear what an agent proposes: one round of the loop, to the verdict. Told again, it goes on, or says what became of it.

    Args:
        anew: give up a round whose child an interrupted run has not built yet, instead of finishing it first.
        engine, door, on_event: as for :func:`upwright.loop.run`.

    Raises:
        CharterError: it is out of scope, or the charter ends the run here; ProjectError: it does not apply, or another run is
            at work; BodyError: a new text is malformed; WardenError: the warden hears nothing now.
    """
    with hearing(project, engine=engine, door=door, on_event=on_event) as loop:
        return loop.hear(offer, anew)
