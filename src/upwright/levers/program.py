"""Programs: one build is a search of many candidates, whose best becomes the child if it is better on seeds that the search did not use.

For bodies whose answer is their own program (:mod:`upwright.bodies.runtimes.program`). What is searched, by whom and for how long says ``[search]`` of
model.toml (:mod:`upwright.evolution.settings`); how, :mod:`upwright.evolution.campaign`. Everything in it is practice.

All builds of a project are one search. A proposal names its *legs*: the program to take in, and the number of candidates to go on to. What the
legs before brought is in an archive in the project's state, so that a build begins where the last one ended, and one that was
stopped goes on; where there is no archive it is made again, leg by leg, and comes to the same candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from upwright.bodies.body import Body
from upwright.bodies.program import program_changes, read_program
from upwright.errors import BuildError
from upwright.evolution import history
from upwright.evolution.archive import Archive
from upwright.evolution.campaign import Campaign, Found, Seeds, Setup
from upwright.evolution.edits import unified
from upwright.evolution.proposers import Kit, available, instances
from upwright.evolution.proposers.base import Proposer
from upwright.evolution.records import Candidate, Program, Trials, program_digest
from upwright.evolution.settings import is_program, read_search
from upwright.levers._search import fruitless, proposed, read_settings, worst
from upwright.levers.base import Built, Situation, Workshop
from upwright.records import Cost, Proposal, Rung, canonical_digest, derive_seed
from upwright.tasks.base import Practice
from upwright.warden.errors import WardenFault

ATTEMPTS = 24
"""Searches in a row that bring nothing, after which there is nothing left to try."""
CHECKED = (2, 12)
"""Runs by which the best candidate is compared with the parent: of an exact evaluator, of a noisy one."""
BLOCK = 64
"""Practice seeds drawn at once."""
WAIT = 30.0
"""Seconds to wait for another build that is at work on the same archive."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of the search.

    Attributes:
        parent: the generation whose program is taken in at its beginning.
        candidates: of all legs so far, at its end; 0 where the clock alone ends it.
    """

    parent: str
    candidates: int


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """Settings of a ``program`` proposal.

    Attributes:
        seed: of the search; the same in all of its builds.
        legs: all so far; the last one is this build's. ``build``: counts from 1.
        seconds: longest that the last leg takes; 0 sets no limit.
        proposers: by name.
    """

    seed: int
    legs: tuple[Leg, ...]
    build: int
    seconds: float
    proposers: tuple[str, ...]


class ProgramSearch:
    """The ``program`` lever.

    Args:
        proposers: name → how to make one, to be used instead of those that are installed.
    """

    name = "program"
    parts: tuple[str, ...] = ("program/",)
    needs_weights = False
    seconds = 300.0

    def __init__(self, proposers: Mapping[str, Callable[[Kit], Proposer]] | None = None) -> None:
        self._own = dict(proposers or {})

    def propose(self, situation: Situation) -> Proposal | None:
        """The next leg of the search; ``None`` for a body that is no program."""
        weakness = worst(situation)
        if weakness is None or len(fruitless(situation, self.name)) >= ATTEMPTS or not is_program(situation.body):
            return None
        search = read_search(situation.body)
        before = self._before(situation)
        legs, build = (before.legs, before.build + 1) if before else ((), 1)
        more = max(search.ahead, round(search.candidates * situation.effort))
        until = (legs[-1].candidates if legs else 0) + more if search.candidates else 0
        kept = legs[:-1] if legs and legs[-1].parent == situation.parent else legs
        settings = ProgramSettings(
            seed=before.seed if before else situation.rng.getrandbits(62),
            legs=(*kept, Leg(situation.parent, until)),
            build=build,
            seconds=round(search.seconds * situation.effort, 1),
            proposers=search.proposers or tuple(self._own) or available(search.endpoints),
        )
        made = proposed(self.name, situation, msgspec.to_builtins(settings), weakness, "")
        return replace(made, reason=_plan(settings, more))

    def _before(self, situation: Situation) -> ProgramSettings | None:
        """Settings of the last search, whatever became of it."""
        for attempt in reversed(situation.history):
            if attempt.proposal.lever == self.name:
                return read_settings(attempt.proposal, ProgramSettings)
        return None

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """Search, compare the best with the parent on other seeds, take its files.

        Raises:
            BuildError: the suite has no evaluator, the evaluator cannot be run, or nothing was better than the parent.
        """
        settings = read_settings(proposal, ProgramSettings)
        if not is_program(parent):
            raise BuildError("this body does not answer with its program", todo='model.toml: runtime = "program"')
        try:
            trials = workshop.trials
            if trials is None:
                raise BuildError("the objective's suite has no evaluator of programs", todo="see [suites]")
            try:
                return _Build(parent, proposal, settings, workshop, trials).run(self._made)
            finally:
                trials.close()
        except WardenFault as error:
            raise BuildError(f"the evaluator cannot be run: {error.what}", value=error.value, todo=error.todo) from None

    def _made(self, names: tuple[str, ...], kit: Kit) -> list[Proposer]:
        """Proposers by name, made anew."""
        if not names:
            raise BuildError("there is no proposer", todo="pip install 'upwright[evolve]', or give endpoints")
        return [self._own[name](kit) if name in self._own else instances([name], kit)[0] for name in names]


class _Build:
    """One build."""

    def __init__(
        self, parent: Body, proposal: Proposal, settings: ProgramSettings, workshop: Workshop, trials: Trials
    ) -> None:
        self.parent, self.settings, self.proposal = parent, settings, proposal
        self.workshop, self.trials = workshop, trials
        self.program, self.search = read_program(parent.root), read_search(parent)

    def run(self, proposers: Callable[[tuple[str, ...], Kit], list[Proposer]]) -> Built:
        """The search, and what came of it."""
        made = proposers(self.settings.proposers, Kit(self._bench(), self.search.endpoints))
        origin = self._program(self.settings.legs[0].parent)
        identity = self._identity(origin)
        path = self.workshop.state / f"archive-{identity[:16]}.db"
        lock = FileLock(f"{path}.lock")
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            raise BuildError(
                "another build is at work on the same archive", value=path.name, todo="wait for it"
            ) from None
        try:
            with Archive(path, identity) as archive:
                campaign = Campaign(
                    origin, made, self.trials.judge, archive, self._setup(),
                    seeds_of(self.workshop.practice, self.settings.seed), self.workshop.progress,
                )  # fmt: skip
                return self._built(archive, self._legs(campaign))
        finally:
            lock.release()

    def _legs(self, campaign: Campaign) -> Found:
        """Every leg that the archive does not hold yet."""
        found = None
        for leg in self.settings.legs:
            last = leg is self.settings.legs[-1]
            if not last and leg.candidates and campaign.archive.placed >= leg.candidates:
                continue
            campaign.adopt(self._program(leg.parent), "the champion when this began")
            found = campaign.run(leg.candidates or None, self.settings.seconds or None)
        assert found is not None
        return found

    def _built(self, archive: Archive, found: Found) -> Built:
        """The child, if it holds on other seeds.

        Raises:
            BuildError: none was better than the parent.
        """
        own = archive.by_digest(program_digest(self.program))
        before = archive.get(own) if own is not None else found.origin
        best = found.best
        if best is None or best.number == before.number:
            raise BuildError(f"none of {found.of} candidates was better than the parent ({found.ended})")
        changes = program_changes(self.program, best.program)
        runs = CHECKED[0] if self.trials.exact else CHECKED[1]
        check, seed = self.workshop.practice.draw(runs, derive_seed(self.proposal.seed, "check")), self.proposal.seed
        old = self.workshop.evaluate(self.parent, check, seed).mean or 0.0
        new = self.workshop.evaluate(self.workshop.variant(changes), check, seed).mean or 0.0
        if new <= old:
            raise BuildError(
                f"the best of {found.of} candidates was no better than the parent on {len(check)} other seeds",
                value=[round(new, 6), round(old, 6)],
            )
        note = {
            **self._told(archive, found, before, best),
            "practice score on other seeds": {"parent": old, "child": new},
        }
        return Built(changes, Rung.EXECUTION, note, Cost())

    def _told(self, archive: Archive, found: Found, before: Candidate, best: Candidate) -> dict[str, Any]:
        """What happened, in numbers that are the same whenever it happens again."""
        legs = self.settings.legs
        since = legs[-2].candidates if len(legs) > 1 else 0
        lines = unified(self.program, best.program).split("\n")
        diff = {
            "files": sum(line.startswith("+++ ") for line in lines),
            "lines added": sum(line.startswith("+") and not line.startswith("+++ ") for line in lines),
            "lines removed": sum(line.startswith("-") and not line.startswith("--- ") for line in lines),
        }
        counts = history.counts(archive, since).items()
        return {
            "candidates": {"of this leg": found.of - since, "so far": found.of},
            "by proposer": {name: int(row["candidates"]) for name, row in counts if name},
            "not judged, so far": history.refusals(archive),
            "failures": history.kinds(archive, since),
            "alarms": history.alarms(archive, since),
            "found by": f"{best.proposer}: {best.note}" if best.proposer else best.note,
            "candidate": best.number,
            "diff": diff,
            "metric": {"name": self.trials.metric, "before": before.metrics.get(self.trials.metric), "after": best.metrics.get(self.trials.metric)},
            "practice score": {"before": before.score, "after": best.score, "standard error": best.stderr},
            "ended": found.ended,
            **({"proposers that failed": dict(found.trouble)} if found.trouble else {}),
        }  # fmt: skip

    def _program(self, digest: str) -> Program:
        """The program of a generation."""
        if digest == self.proposal.parent:
            return self.program
        return read_program(self.workshop.archived(digest).root)

    def _setup(self) -> Setup:
        search, trials = self.search, self.trials
        return Setup(
            scope=search.scope, metric=trials.metric, direction=trials.direction, exact=trials.exact, seed=self.settings.seed,
            islands=search.islands, axes=search.axes, syntax=search.syntax, ahead=search.ahead, workers=trials.workers,
            checks=search.checks, measured=not self.settings.legs[-1].candidates,
        )  # fmt: skip

    def _identity(self, origin: Program) -> str:
        """Digest of all that tells one search from another."""
        plain = replace(self._setup(), workers=0, measured=False)
        return canonical_digest([1, program_digest(origin), self.trials.digest, msgspec.to_builtins(plain)])

    def _bench(self) -> Any:
        from upwright.evolution.proposers._trace import Printed

        return lambda program, seconds: Printed(*self.trials.watch(program, seconds))


def seeds_of(practice: Practice, seed: int) -> Seeds:
    """Practice seeds for measurements: a candidate's first run and its later ones each draw their own."""
    blocks: dict[tuple[str, int], list[int]] = {}

    def drawn(kind: str, block: int) -> list[int]:
        if (kind, block) not in blocks:
            if len(blocks) > BLOCK:
                blocks.clear()
            tasks = practice.draw(BLOCK, derive_seed(seed, "seeds", kind, block))
            if not tasks:
                raise BuildError("there are no practice seeds to search with", todo="see [suites]")
            blocks[kind, block] = [int(task.answer) for task in tasks]
        return blocks[kind, block]

    def chosen(number: int, run: int) -> int:
        some, at = (drawn("first", number // BLOCK), number % BLOCK) if run == 0 else (drawn("more", number), run - 1)
        return some[at % len(some)]

    return chosen


def _plan(settings: ProgramSettings, more: int) -> str:
    """What is planned, in words."""
    bounds = [f"{more} candidates"] * bool(settings.legs[-1].candidates) + [f"{settings.seconds:g} s"] * bool(
        settings.seconds
    )
    goes_on = "go on searching" if settings.build > 1 else "search"
    return (
        f"{goes_on} for a better program, up to {' or '.join(bounds)}, by {', '.join(settings.proposers) or 'nobody'}"
    )
