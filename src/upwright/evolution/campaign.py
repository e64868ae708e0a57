"""One search: ask a proposer, leave out what is not new, judge the rest in parallel on practice seeds, archive, tell.

Candidates are placed in the order of their numbers, whichever is judged first, and a proposer is asked when fewer than ``ahead − batch``
are under way. So what is asked depends on what was placed, never on how fast anything ran, and a campaign that ends after a number of
candidates makes the same ones every time (as far as evaluator and proposers do). A campaign is stopped at any moment and goes on from
its archive: what was measured counts, what was proposed is judged, proposers hear again of all that they made.

The bound on memory is the archive's; the time of a candidate does not grow with their number.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Literal

from upwright.errors import BodyError, Stopped, StorageError
from upwright.evolution import history
from upwright.evolution.archive import Archive, Run, Waiting
from upwright.evolution.bandit import Bandit
from upwright.evolution.blocks import Scope, outside
from upwright.evolution.elites import Rule
from upwright.evolution.grid import DEFAULT, Axis
from upwright.evolution.memory import Memory
from upwright.evolution.novelty import Marks, Novelty
from upwright.evolution.parents import choose
from upwright.evolution.placing import Placing
from upwright.evolution.proposers.base import Brief, Proposer
from upwright.evolution.records import Candidate, Draft, Judged, Program, Result, checked_path, program_digest
from upwright.records import derive_seed
from upwright.warden.errors import WardenFault

JudgeOf = Callable[[Program, int], Judged]
"""``judge(program, seed)``; thread-safe. Trouble that is not the program's it raises."""
Seeds = Callable[[int, int], int]
"""``seeds(candidate, run)``: the practice seed of a measurement; the same two give the same."""
Progress = Callable[[int, int, str], None]
"""``progress(done, total, note)``; may raise to stop."""

INSPIRATIONS = 3
STALLED = 40
"""Asks in a row, for each proposer, that bring nothing new, after which a search has come to its end."""
ALARMS = 20
REMEMBERED = 200
_BEAT = 0.2


@dataclass(frozen=True, slots=True)
class Setup:
    """What a campaign is about.

    Attributes:
        metric, direction: what is to get better; for proposers to read, scores are what counts.
        exact: the same program always gets the same score.
        judge_seconds: rough seconds of one evaluation, for choosing between proposers where time is not measured.
        measured: time is measured: who gains more in the same seconds is asked more; such a campaign cannot be repeated exactly.
        syntax: two texts that mean the same are the same.
        batch: drafts asked for at once; ``ahead``: candidates under way at most; ``workers``: evaluations at once.
        checks: see :class:`~upwright.evolution.elites.Rule`.
    """

    scope: Scope = field(default_factory=Scope)
    metric: str = "combined_score"
    direction: Literal["max", "min"] = "max"
    exact: bool = False
    seed: int = 0
    islands: int = 4
    axes: tuple[Axis, ...] = DEFAULT
    syntax: bool = True
    batch: int = 4
    ahead: int = 6
    workers: int = 2
    checks: int = 8
    judge_seconds: float = 1.0
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """How a campaign stands at its end.

    Attributes:
        best: the best candidate, ``None`` where none has a score; ``origin``: the one that the search began with.
        tried: candidates of this call; ``of``: of all time.
        by_proposer: name → candidates, failed, seconds of judging, of this call; ``failures``: kind → candidates.
        refused: kind (``duplicate``, ``near``, ``scope``) → drafts that were not judged, of this call.
        ended: why, in words. ``alarms``: what looked like an attack, of this call, the first ones.
        trouble: proposer → how it failed, the last time that it did.
    """

    best: Candidate | None
    origin: Candidate
    tried: int
    of: int
    by_proposer: Mapping[str, Mapping[str, float]]
    failures: Mapping[str, int]
    refused: Mapping[str, int]
    ended: str
    alarms: tuple[str, ...] = ()
    trouble: Mapping[str, str] = field(default_factory=dict)


class Campaign:
    """A search over programs. Use :meth:`run`.

    Args:
        origin: the program that the search begins with.
        archive: where it goes on from, or an empty one; it must be this search's own.
        seeds: ``None`` derives them from the setup's seed.
    """

    def __init__(
        self,
        origin: Program,
        proposers: Sequence[Proposer],
        judge: JudgeOf,
        archive: Archive,
        setup: Setup,
        seeds: Seeds | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.archive, self.setup = archive, setup
        self._judge, self._progress = judge, progress or (lambda done, total, note: None)
        self._seeds = seeds or (lambda number, run: derive_seed(setup.seed, "practice", number, run))
        self._proposers = {proposer.name: proposer for proposer in proposers}
        costs = {name: proposer.cost + setup.judge_seconds for name, proposer in self._proposers.items()}
        self._bandit = Bandit(costs, setup.measured)
        self._novelty = Novelty(origin, setup.syntax)
        self._memory = Memory()
        self._placing = Placing(
            archive, setup.axes, self._novelty.marks(origin), Rule(setup.exact, setup.checks), setup.islands
        )
        self._alarms: list[str] = []
        self._trouble: dict[str, str] = {}
        self._best_told = (-1, "")
        self._runs: dict[int, dict[int, Run]] = {}
        self._futures: dict[Future[Judged], tuple[int, int, int]] = {}
        self._under_way: deque[Waiting] = deque()
        self._seconds: dict[int, float] = {}
        self._steps = self._fruitless = 0
        self._executor: ThreadPoolExecutor | None = None
        self._go_on()
        self.adopt(origin, "where it begins")

    def adopt(self, program: Program, note: str) -> int:
        """Take in a program from outside as a candidate, unless it is one; its number."""
        known = self.archive.by_digest(program_digest(program))
        if known is not None:
            return known
        draft = Draft(program, "", note)
        with self.archive.together():
            one = self.archive.add(draft, self._novelty.marks(program), self._steps % self.setup.islands, ())
        self._under_way.append(one)
        return one.number

    def run(self, candidates: int | None = None, seconds: float | None = None) -> Found:
        """Search until there are so many candidates of all time, or for so long, whichever ends first.

        Raises:
            ValueError: neither bound is given.
            WardenFault: the judge had trouble of its own; the campaign can go on later.
        """
        if candidates is None and seconds is None:
            raise ValueError("a campaign needs a bound: candidates or seconds")
        since, event = self.archive.placed, self.archive.events
        ends = time.monotonic() + seconds if seconds is not None else None
        self._executor = ThreadPoolExecutor(self.setup.workers, "campaign")
        try:
            ended = self._search(candidates, ends)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._futures.clear()
        return self._found(since, event, ended)

    # ---- the loop ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Take up what the archive knows."""
        self._steps = int(self.archive.fact("steps") or 0)
        self._bandit.load(self.archive.fact("bandit"))
        for kind, why, note, parent in history.failures(self.archive, REMEMBERED):
            self._remember(kind, why, note, parent)
        for past in history.past(self.archive):
            if past.draft.proposer in self._proposers:
                self._proposers[past.draft.proposer].told(past.draft, past.result)
        for one in self.archive.open():
            self._under_way.append(one)
            self._runs[one.number] = self.archive.runs(one.number)

    def _search(self, most: int | None, ends: float | None) -> str:
        for one in self._under_way:
            self._measure(one, 1)
        while True:
            if ends is not None and time.monotonic() >= ends:
                return "the time is over"
            while self._wants_more(most):
                self._ask(most)
            if not self._under_way:
                full = most is not None and self.archive.count >= most
                return "all candidates were tried" if full else "no proposer has anything new"
            if not self._settle(self._under_way[0]):
                self._await(ends)
            self._progress(self.archive.placed, most or self.archive.count, self._told())

    def _wants_more(self, most: int | None) -> bool:
        if not self._proposers or (most is not None and self.archive.count >= most):
            return False
        if self._fruitless >= STALLED * len(self._proposers) or self.archive.placed == 0:
            return False
        return len(self._under_way) <= self.setup.ahead - self.setup.batch

    def _told(self) -> str:
        number = self._placing.number
        if number is None:
            return f"{self.archive.placed} candidates, no score yet"
        if self._best_told[0] != number:
            found = self.archive.get(number).metrics.get(self.setup.metric)
            said = "a score" if found is None else f"{self.setup.metric} {found:.6g}"
            self._best_told = number, f"best {said} on practice (candidate {number})"
        return f"{self.archive.placed} candidates, {self._best_told[1]}"

    def _measure(self, one: Waiting, runs: int) -> None:
        """See to it that the candidate's first so many runs are measured or under way."""
        assert self._executor is not None
        have = self._runs.setdefault(one.number, {})
        under_way = {run for number, run, _ in self._futures.values() if number == one.number}
        for run in range(runs):
            if run not in have and run not in under_way:
                seed = self._seeds(one.number, run)
                future = self._executor.submit(self._judge, one.draft.program, seed)
                self._futures[future] = one.number, run, seed

    def _await(self, ends: float | None) -> None:
        """Wait for measurements, and write down those that have come in."""
        left = _BEAT if ends is None else max(0.0, min(_BEAT, ends - time.monotonic()))
        done, _ = wait(self._futures, timeout=left, return_when=FIRST_COMPLETED)
        trouble: BaseException | None = None
        for (number, run, seed), future in sorted(((self._futures.pop(f), f) for f in done), key=lambda one: one[0]):
            if (error := future.exception()) is not None:
                trouble = error
                continue
            self._runs[number][run] = self.archive.measured(number, run, seed, future.result())
        if trouble is not None:
            raise trouble

    # ---- asking ------------------------------------------------------------------------------

    def _ask(self, most: int | None) -> None:
        """Ask one proposer, and take in what is new of what it says."""
        step, setup = self._steps, self.setup
        name = self._bandit.choose(random.Random(derive_seed(setup.seed, "bandit", step)))
        island = step % setup.islands
        brief = self._brief(step, island, setup.batch if most is None else min(setup.batch, most - self.archive.count))
        clock = time.monotonic()
        drafts = self._drafts(name, brief)
        each = (time.monotonic() - clock) / max(1, len(drafts))
        taken: list[Waiting] = []
        refused: list[tuple[Draft, str, str]] = []
        with self.archive.together():
            for draft in drafts:
                marks, kind, why = self._looked_at(draft, brief)
                if marks is None:
                    self.archive.refuse(draft, kind, why)
                    refused.append((draft, kind, why))
                else:
                    taken.append(self.archive.add(draft, marks, island, self._parents(draft, brief)))
            for _ in range(len(refused) if drafts else 1):
                self._bandit.learn(name, 0.0, each)
            self._steps += 1
            self.archive.write(steps=self._steps, bandit=self._bandit.dump())
        self._fruitless = 0 if taken else self._fruitless + 1
        for draft, kind, why in refused:
            self._remember(kind, why, draft.note, brief.parent.digest)
            self._proposers[name].told(draft, Result(None, {}, why))
        for one in taken:
            self._seconds[one.number] = each
            self._under_way.append(one)
            self._measure(one, 1)

    def _drafts(self, name: str, brief: Brief) -> list[Draft]:
        """What a proposer says; one that fails says nothing, is told of at the end, and the others go on."""
        try:
            return list(self._proposers[name].propose(brief))[: brief.n]
        except (Stopped, StorageError, WardenFault):
            raise
        except Exception as error:
            self._trouble[name] = f"{type(error).__name__}: {error}"
            return []

    def _brief(self, step: int, island: int, n: int) -> Brief:
        archive, setup = self.archive, self.setup
        rng = random.Random(derive_seed(setup.seed, "ask", step))
        best = self._placing.number
        parent = archive.get(choose(archive.elites(island), archive.tally, best or 0, rng))
        elites = {number for i in range(setup.islands) for _, number in archive.elites(i)}
        others = sorted(elites - {parent.number, best})
        picked = rng.sample(others, min(len(others), INSPIRATIONS - 1))
        first = [best] if best is not None and best != parent.number else []
        inspirations = tuple(archive.get(number) for number in [*first, *picked])
        failures = self._memory.told(parent.digest)
        return Brief(parent, inspirations, failures, setup.scope, setup.metric, setup.direction, rng, n)

    def _looked_at(self, draft: Draft, brief: Brief) -> tuple[Marks | None, str, str]:
        """What a draft is recognised by; or ``None``, and kind and reason why it is not to be judged."""
        try:
            for path in draft.program.keys() - brief.parent.program.keys():
                checked_path(path)
            wrong = outside(brief.parent.program, draft.program, self.setup.scope)
        except BodyError as error:
            wrong = [error.what]
        if wrong:
            return None, "scope", "; ".join(wrong)
        marks = self._novelty.marks(draft.program)
        if (same := self.archive.same(marks)) is not None:
            return None, "duplicate", f"the same as candidate {same}"
        if (near := self.archive.near(marks)) is not None:
            return None, "near", f"hardly differs from candidate {near}"
        return marks, "", ""

    def _parents(self, draft: Draft, brief: Brief) -> list[int]:
        known = (self.archive.by_digest(digest) for digest in draft.parents)
        return [number for number in known if number is not None] or [brief.parent.number]

    def _remember(self, kind: str, why: str, note: str, parent: str) -> None:
        """Keep a failure in mind; that something is not new is none."""
        if kind not in ("duplicate", "near"):
            self._memory.add(kind, why, note, parent)

    # ---- placing -----------------------------------------------------------------------------

    def _settle(self, one: Waiting) -> bool:
        """Place a candidate, or see to the measurements that it needs first; whether it was placed."""
        number, draft = one.number, one.draft
        have = self._runs[number]
        runs = [have[run] for run in takewhile(have.__contains__, count())]
        if not runs:
            return False
        decision = self._placing.decide(one, runs)
        if decision.wants > len(runs):
            self._measure(one, decision.wants)
            return False
        with self.archive.together():
            placed = self._placing.place(one, decision)
            spent = self._seconds.pop(number, 0.0) + placed.seconds
            if draft.proposer:
                self._bandit.learn(draft.proposer, decision.gain, spent)
            self.archive.write(bandit=self._bandit.dump())
        self._under_way.popleft()
        del self._runs[number]
        self._alarms += placed.alarms[: max(0, ALARMS - len(self._alarms))]
        if placed.kind:
            self._remember(placed.kind, placed.why, draft.note, draft.parents[0] if draft.parents else "")
        if draft.proposer in self._proposers:
            result = Result(placed.score, placed.metrics, placed.why, placed.alarms)
            self._proposers[draft.proposer].told(draft, result)
        return True

    def _found(self, since: int, event: int, ended: str) -> Found:
        archive = self.archive
        return Found(
            best=None if archive.best is None else archive.get(archive.best),
            origin=archive.get(0),
            tried=archive.placed - since,
            of=archive.placed,
            by_proposer=history.counts(archive, since),
            failures=history.kinds(archive, since),
            refused=history.refusals(archive, event),
            ended=ended,
            alarms=tuple(self._alarms),
            trouble=dict(self._trouble),
        )
