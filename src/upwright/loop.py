"""The loop: six calls, in order, round after round.

A *round* takes one candidate through evaluate, diagnose, propose, build, prove and promote; a
*generation* is a candidate that was let in. Each verb writes its row of the journal when it is done,
so that a run killed anywhere goes on at the first verb without a row.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from upwright.allocate import Improver, choose, expected_seconds, learn
from upwright.allocate import load as load_improver
from upwright.allocate import render as render_improver
from upwright.bodies.body import Body
from upwright.bodies.store import Store
from upwright.diagnose import diagnose
from upwright.engines import make_engine
from upwright.engines.base import Engine
from upwright.errors import BuildError, RuntimeFailure
from upwright.founding import found
from upwright.jobs import Child, Exam, answer_job, build_job, evaluate_job
from upwright.levers import registry
from upwright.levers.base import Attempt, Lever, Situation
from upwright.lineage import Lineage, read_lineage
from upwright.project import Journal, Project
from upwright.promote import Door, settle, show_champion, total_gain
from upwright.prove import Screen, failed_answers, knock, screen
from upwright.records import (
    Answer,
    Cost,
    Decision,
    FailureKind,
    Generation,
    Proposal,
    Question,
    Scorecard,
    Verdict,
    Weakness,
    derive_seed,
    from_json,
    to_json,
)
from upwright.warden.charter import Charter
from upwright.warden.errors import Refusal

HISTORY = 200
"""How many earlier attempts a lever is told about."""


@dataclass(frozen=True, slots=True)
class Event:
    """What the loop is doing now, for whoever watches.

    Attributes:
        generation: number of the current champion (0 is the first body).
        done, total: tasks, samples or steps of the verb at work; 0 of 0 when unknown.
        seconds: wall seconds this project has spent over all its runs.
        left: seconds left in the budget, or ``None`` without one.
    """

    round: int
    generation: int
    verb: str
    lever: str
    done: int
    total: int
    note: str
    seconds: float
    tokens: int
    left: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a run; ``None`` means no limit. Over all runs of the project but ``generations`` and ``minutes``
    given on the command line, which count from this start."""

    generations: int | None = None
    rounds: int | None = None
    minutes: float | None = None


def run(
    project: Project,
    *,
    limits: Limits | None = None,
    levers: Sequence[Lever] = (),
    engine: Engine | None = None,
    door: Door | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Lineage:
    """Improve until the budget, the goal or Ctrl-C; called again, it goes on exactly where it stopped.

    Args:
        levers: lever instances of your own, used beside (and before) the installed ones.
        engine: where jobs run; by default what upwright.toml says.
        door: the warden's door; by default the project's own.

    Raises:
        ProjectError, CharterError, TaskError, BodyError: something on disk is wrong.
        StorageError: the disk is full or read-only; nothing committed is lost.
        WardenError: the warden refused, or cannot be reached.
    """
    from upwright.warden.door import Door as WardenDoor  # the only place that opens it for a run

    project.prepare()
    with project.lock(), project.journal as journal:
        found(project)
        own_engine = engine is None
        engine = engine or make_engine(project.settings.engine, project.logs)
        own_door = WardenDoor.open(project.warden, project.charter_path.read_text()) if door is None else None
        door = door or own_door
        assert door is not None
        try:
            loop = Loop(project, journal, engine, door, {lever.name: lever for lever in levers}, on_event)
            loop.run(limits or Limits())
        finally:
            if own_engine:
                engine.close()
            if own_door is not None:
                own_door.close()
    return read_lineage(project)


class Loop:
    """One run of a project; :func:`run` is the way in."""

    def __init__(
        self,
        project: Project,
        journal: Journal,
        engine: Engine,
        door: Door,
        own_levers: Mapping[str, Lever],
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self.project, self.journal, self.engine, self.door = project, journal, engine, door
        self.settings = project.settings.run
        self.store = Store(project.state / "store")
        self.charter = Charter.parse(project.charter_path.read_text())
        self.own = own_levers
        self.names = [*own_levers, *(n for n in project.settings.levers or sorted(registry()) if n not in own_levers)]
        self.on_event = on_event
        self.root = str(project.root)
        self.spent = journal.spent()
        self.started = self.ticked = time.monotonic()
        self.round = journal.next_round()
        self.generation = int(door.status()["promotions"])
        self.lever = ""
        self.ended = ""
        self.improver: Improver | None = None
        self.exams: dict[str, dict[str, Exam]] = {}
        self.history = self._history()
        self.tried = {row["child"] for _, _, row in journal.rows("build") if row.get("child")}
        self.deadline: float | None = None

    # -- the six calls ------------------------------------------------------------------------

    def run(self, limits: Limits) -> None:
        """Rounds until something ends the run; then the vault is opened if anything was promoted."""
        minutes = min((m for m in (limits.minutes, self._minutes_left()) if m is not None), default=None)
        self.deadline = None if minutes is None else self.started + 60 * minutes
        first_round, promoted = self.round, 0
        while not (why := self.ended or self._over(limits, self.round - first_round, promoted)):
            promoted += self.one_round()
        self.lever = ""
        self._open_vault_if_owed()
        self._event("promote", 0, 0, f"ended: {why}")

    def one_round(self) -> bool:
        """One candidate through the six verbs; True when it was promoted."""
        champion, exam = self.evaluate()
        weaknesses = self.diagnose(champion, exam)
        proposal = self.propose(champion, exam, weaknesses)
        if proposal is None:
            self.ended = self.ended or "no lever has anything left to try; raise the effort, or allow more parts"
            return False
        child = self.build(proposal)
        try:
            proof = self.prove(champion, proposal, child)
            promoted = self.promote(champion, proposal, child, proof)
        except Refusal as refusal:
            if refusal.code not in ("approval", "budget", "looks", "speed", "stopped"):
                raise
            self.ended = f"the warden: {refusal.what}" + (f"; {refusal.todo}" if refusal.todo else "")
            return False
        self.round += 1
        return promoted

    def evaluate(self) -> tuple[Generation, dict[str, Exam]]:
        """(1) The champion on the practice exam of every suite."""
        row = self.journal.read("evaluate", self.round)
        digest = row["champion"] if row else self.door.status()["champion"]
        champion = self.store.get(digest)
        exam = self._examine(champion, sampled=True)
        if row is None:
            means = {name: e.card.mean for name, e in exam.items()}
            failures = {name: e.card.failures for name, e in exam.items()}
            data = {"champion": digest, "generation": self.generation, "means": means, "failures": failures}
            self.journal.write("evaluate", self.round, data)
        return champion, exam

    def diagnose(self, champion: Generation, exam: Mapping[str, Exam]) -> tuple[Weakness, ...]:
        """(2) Where it fails and why, which lever could reach it, and how well it knows itself."""
        row = self.journal.read("diagnose", self.round)
        if row is not None:
            return tuple(from_json(Weakness, w) for w in row["weaknesses"])
        self._event("diagnose", 0, 1, "")
        objective = exam[self.charter.objective]
        found = diagnose(objective.card, objective.samples or None, tuple(self.names), objective.tasks)
        self.journal.write("diagnose", self.round, {"champion": champion.digest, **to_json(found)})
        self._event("diagnose", 1, 1, found.weaknesses[0].sentence if found.weaknesses else "no weakness found")
        return tuple(found.weaknesses)

    def propose(
        self, champion: Generation, exam: Mapping[str, Exam], weaknesses: Sequence[Weakness]
    ) -> Proposal | None:
        """(3) The allocator picks a lever, the lever writes a spec."""
        row = self.journal.read("propose", self.round)
        if row is not None:
            self.lever = row["lever"]
            return from_json(Proposal, row)
        seed = derive_seed(self.settings.seed, "round", self.round)
        rng = random.Random(seed)
        situation = Situation(
            parent=champion.digest,
            body=Body(self.store.checkout(champion.digest), champion.digest),
            weaknesses=tuple(weaknesses),
            history=tuple(self.history[-HISTORY:]),
            trainable=exam[self.charter.objective].trainable,
            effort=self.settings.effort,
            rng=rng,
        )
        improver = self._improver()
        levers = {name: self._lever(name) for name in self.names}
        hints = {name: lever.seconds * self.settings.effort for name, lever in levers.items()}
        available = [name for name, lever in levers.items() if self._may_use(lever, situation.trainable)]
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            available = [name for name in available if expected_seconds(improver, name, hints[name]) <= left]
            self.ended = "" if available else f"{left:.0f} seconds are left, too few for a round of any lever"
        while available:
            name = choose(improver, weaknesses, available, rng, hints)
            proposal = self._lever(name).propose(replace(situation, rng=random.Random(seed)))
            if proposal is not None:
                self.lever = name
                self.journal.write("propose", self.round, to_json(proposal))
                self._event("propose", 1, 1, proposal.reason)
                return proposal
            available.remove(name)
        return None

    def build(self, proposal: Proposal) -> Child | Unbuilt:
        """(4) The child, or the reason why there is none."""
        row = self.journal.read("build", self.round)
        if row is not None:
            return from_json(Child, row["record"]) if row["child"] else Unbuilt(row["why"], row["seconds"])
        extra = {}
        if "improver.toml" in self.charter.may_change:
            extra["improver.toml"] = render_improver(self._improver())
        clock = time.monotonic()
        try:
            child: Child = self._job(
                "build", build_job, self.root, to_json(proposal), self.own.get(proposal.lever), extra
            )
        except (BuildError, RuntimeFailure) as error:
            why = f"could not be built: {error.what}"
            seconds = time.monotonic() - clock
            self.journal.write("build", self.round, {"child": None, "why": why, "seconds": seconds})
            return Unbuilt(why, seconds)
        self.journal.write("build", self.round, {"child": child.digest, "record": to_json(child)})
        self._spend(child.cost.tokens)
        return child

    def prove(
        self, champion: Generation, proposal: Proposal, child: Child | Unbuilt
    ) -> tuple[Decision | None, str, float | None]:
        """(5) Screen on practice, then knock. The word (``None``: never knocked), why, and the practice gain."""
        row = self.journal.read("prove", self.round)
        if row is not None:
            return (Decision(row["decision"]) if row["decision"] else None, row["why"], row["gain"])
        decision: Decision | None = None
        test = None
        seen: Screen | None = None
        if isinstance(child, Unbuilt):
            why = child.why
        elif child.digest == champion.digest:
            why = "it changes nothing"
        elif child.digest in self.tried:
            why = "an earlier candidate was the same body, byte for byte"
        else:
            seen = self._screen(champion, child.digest)
            why = seen.why
            if seen.passed:
                self.store.sync(child.digest)
                verdict = self._knock(champion, proposal, child.digest)
                if isinstance(verdict, Verdict):
                    decision, test = verdict.decision, verdict.test
                    why = f"{seen.why}; the warden: {decision.value}"
                else:
                    why = f"{seen.why}; {verdict}"
        gain = seen.gain if seen else None
        self.journal.write(
            "prove",
            self.round,
            {"decision": decision, "why": why, "gain": gain, "test": test, "screen": to_json(seen) if seen else None},
        )
        return decision, why, gain

    def promote(
        self,
        champion: Generation,
        proposal: Proposal,
        child: Child | Unbuilt,
        proof: tuple[Decision | None, str, float | None],
    ) -> bool:
        """(6) Obey the verdict; teach the allocator; close the round."""
        decision, why, gain = proof
        promoted = False
        if decision is Decision.PROMOTE and isinstance(child, Child):
            row = self.journal.read("prove", self.round)
            assert row is not None
            self._event("promote", 0, 1, "promoted; confirming the gain on fresh sealed tasks")
            promoted = settle(self.door, Verdict(int(row["test"]), decision), child.digest, self._answer)
            show_champion(self.store, child.digest, self.project.champion_path)
        elif isinstance(child, Child) and child.digest != champion.digest:
            self.store.discard_checkout(child.digest)
        cost = child.cost if isinstance(child, Child) else Cost(child.seconds)
        self.history.append(Attempt(proposal, decision, gain, cost, why))
        del self.history[:-HISTORY]
        if isinstance(child, Child):
            self.tried.add(child.digest)
        data = {
            "promoted": promoted,
            "lever": proposal.lever,
            "why": why,
            "champion": self.door.status()["champion"],
            "gain": gain if promoted else 0.0,
            "seconds": cost.seconds,
        }
        self.journal.write("promote", self.round, data)
        self.improver = learn(self._improver(), proposal.lever, data["gain"], cost.seconds)
        self.generation += promoted
        self._event("promote", 1, 1, why)
        return promoted

    # -- what they use ------------------------------------------------------------------------

    def _examine(self, generation: Generation, *, sampled: bool) -> dict[str, Exam]:
        if generation.digest in self.exams:
            return self.exams[generation.digest]
        found = {}
        for name in (self.charter.objective, *self.charter.protected):
            objective = name == self.charter.objective
            n = self.settings.practice if objective else max(self.settings.screen // 2, 1)
            k = self.settings.samples if objective and sampled else 0
            sizes = (n if sampled else min(n, self.settings.screen), self.settings.practice // 4, k)
            verb = "evaluate" if sampled else "prove"
            found[name] = self._job(verb, evaluate_job, self.root, generation.digest, name, sizes)
            self._spend(found[name].card.tokens)
        if sampled:
            self.exams = {generation.digest: found}
        return found

    def _screen(self, champion: Generation, child: str) -> Screen:
        before = self.exams.get(champion.digest) or self._examine(champion, sampled=True)
        try:
            after = self._examine(self.store.get(child), sampled=False)
        except RuntimeFailure as error:
            return Screen(0.0, {}, 0, 0, False, f"screened out: it cannot be run: {error.what}")
        objective, margins = self.charter.objective, self.charter.protected
        return screen(_cards(after), _cards(before), objective, self.charter.minimum_gain, margins)

    def _knock(self, champion: Generation, proposal: Proposal, child: str) -> Verdict | str:
        """The verdict, or why the warden would not hear this child."""
        try:
            return knock(self.door, self.store.get(child), champion, proposal, self._answer)
        except Refusal as refusal:
            if refusal.code in ("scope", "same", "decided", "stale"):
                return f"the warden refused it: {refusal.what}"
            raise

    def _answer(self, digest: str, questions: Sequence[Question], seed: int) -> Sequence[Answer]:
        try:
            found: list[Answer] = self._job("prove", answer_job, self.root, digest, list(questions), seed)
        except RuntimeFailure as error:
            return failed_answers(questions, error.what, FailureKind.CRASH)
        self._spend(sum(a.prompt_tokens + a.completion_tokens for a in found), sum(a.money for a in found))
        return found

    def _job(self, verb: str, job: Callable[..., Any], *args: Any) -> Any:
        def progress(done: int, total: int, note: str) -> None:
            self._event(verb, done, total, note)

        try:
            return self.engine.run(job, *args, progress=progress, timeout=self.settings.task_timeout)
        finally:
            self._spend()

    def _lever(self, name: str) -> Lever:
        return self.own[name] if name in self.own else registry()[name]()

    def _may_use(self, lever: Lever, trainable: bool) -> bool:
        allowed = all(any(_covers(a, part) for a in self.charter.may_change) for part in lever.parts)
        return allowed and (trainable or not lever.needs_weights)

    def _improver(self) -> Improver:
        """The champion's improver.toml, and what the rounds since have taught."""
        if self.improver is None:
            digest = self.door.status()["champion"]
            self.improver = load_improver(Body(self.store.checkout(digest), digest))
            for round_, _, row in self.journal.rows("promote"):
                if round_ > self.improver.rounds:
                    self.improver = learn(self.improver, row["lever"], row["gain"] or 0.0, row["seconds"])
        return self.improver

    def _history(self) -> list[Attempt]:
        attempts = []
        proposals = {r: row for r, _, row in self.journal.rows("propose")}
        proofs = {r: row for r, _, row in self.journal.rows("prove")}
        for round_, _, row in self.journal.rows("promote")[-HISTORY:]:
            proof = proofs.get(round_, {})
            decision = Decision(proof["decision"]) if proof.get("decision") else None
            proposal = from_json(Proposal, proposals[round_])
            attempts.append(Attempt(proposal, decision, proof.get("gain"), Cost(row["seconds"]), row["why"]))
        return attempts

    def _open_vault_if_owed(self) -> None:
        """Report the total gain on vault tasks, once for each champion that a run ends with."""
        line = read_lineage(self.project)
        if len(line.generations) < 2 or line.champion == line.generations[0].digest:
            return
        if line.vault and line.vault[-1].digest == line.champion:
            return
        self._event("prove", 0, 0, "opening the vault: the total gain, on tasks that no decision used")
        try:
            total_gain(self.door, self._answer)
        except Refusal as refusal:
            self._event("prove", 0, 0, f"the vault stays closed: {refusal.what}")

    def _minutes_left(self) -> float | None:
        if self.charter.budget.minutes is None:
            return None
        return max(0.0, self.charter.budget.minutes - self.spent["seconds"] / 60)

    def _over(self, limits: Limits, rounds: int, promoted: int) -> str:
        """Why the run is over, or an empty string."""
        budget = self.charter.budget
        if limits.generations is not None and promoted >= limits.generations:
            return f"{promoted} generations, as asked"
        if limits.rounds is not None and rounds >= limits.rounds:
            return f"{rounds} candidates, as asked"
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "the time is spent"
        if budget.generations is not None and self.generation >= budget.generations:
            return f"the charter's {budget.generations} generations are reached"
        if budget.tokens is not None and self.spent["tokens"] >= budget.tokens:
            return "the charter's tokens are spent"
        if budget.money is not None and self.spent["money"] >= budget.money:
            return "the charter's money is spent"
        if self.settings.goal < 1.0 and promoted:
            score = read_lineage(self.project).generations[-1].score
            if score is not None and score.mean >= self.settings.goal:
                return f"the goal of {100 * self.settings.goal:.0f} % is reached"
        return ""

    def _spend(self, tokens: float = 0, money: float = 0.0) -> None:
        """Charge the wall seconds since the last charge, and tokens and money."""
        now = time.monotonic()
        seconds, self.ticked = now - self.ticked, now
        self.journal.spend(seconds, int(tokens), money)
        for key, value in (("seconds", seconds), ("tokens", tokens), ("money", money)):
            self.spent[key] += value

    def _event(self, verb: str, done: int, total: int, note: str) -> None:
        if self.on_event is None:
            return
        now = time.monotonic()
        left = None if self.deadline is None else max(0.0, self.deadline - now)
        seconds, tokens = self.spent["seconds"] + now - self.ticked, int(self.spent["tokens"])
        self.on_event(Event(self.round, self.generation, verb, self.lever, done, total, note, seconds, tokens, left))


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A proposal that no child came of."""

    why: str
    seconds: float


def _cards(exam: Mapping[str, Exam]) -> dict[str, Scorecard]:
    return {name: one.card for name, one in exam.items()}


def _covers(allowed: str, part: str) -> bool:
    return allowed == part or (allowed.endswith("/") and part.startswith(allowed))
