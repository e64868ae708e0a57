"""What became of every candidate, for people: read from the ledger, the journal and the store.

Read-only and without the warden's process, so it may be read while a run is going.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from upwright.bodies.store import Store
from upwright.diagnose.frontier import Reach
from upwright.errors import LedgerError, StorageError, UpwrightError
from upwright.lines import (
    CandidateLine,
    Comparison,
    Confirmation,
    Evidence,
    GenerationLine,
    Lineage,
    Measure,
    RollbackLine,
    Skill,
    VaultLine,
)
from upwright.metrics import Metric, numbers, read_metrics
from upwright.plans import Happened, Plan, PlanLine
from upwright.project import PLAN, VERBS, Project
from upwright.records import Cost, Generation, Interval, from_json
from upwright.warden import ledger, rules
from upwright.warden.errors import LedgerFault
from upwright.warden.state import State
from upwright.warden.trial import Trial

__all__ = ["Lineage", "changed_paths", "read_lineage"]


def read_lineage(project: Project) -> Lineage:
    """Read everything there is; an unfounded project gives an empty lineage.

    Raises:
        LedgerError: a line of the ledger is not an entry.
        StorageError: the journal cannot be read.
    """
    journal = _Journal.read(project.state / "run.db")
    book = project.warden / ledger.FILE
    if not book.exists():
        return Lineage(spent=journal.spent())
    try:
        entries = ledger.read(book)
        return _Reader(project, journal, entries).lineage()
    except LedgerFault as fault:
        raise LedgerError(
            fault.what, value=fault.value, todo="find the first broken entry with `upwright verify`"
        ) from None


def read_diagnoses(project: Project) -> tuple[Mapping[str, Any], ...]:
    """The diagnosis of every round so far, oldest first, as the journal has it."""
    rows = _Journal.read(project.state / "run.db").rows["diagnose"]
    return tuple(row for _, row in rows.values())


@dataclass(frozen=True, slots=True)
class _Journal:
    """The journal as read at one moment: verb → round → (unix time, row); and what was spent when."""

    rows: Mapping[str, Mapping[int, tuple[float, dict[str, Any]]]]
    spends: Sequence[tuple[float, Cost]]

    @classmethod
    def read(cls, path: Path) -> _Journal:
        tables = (*VERBS, PLAN)
        rows: dict[str, dict[int, tuple[float, dict[str, Any]]]] = {table: {} for table in tables}
        if not path.exists():
            return cls(rows, ())
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
                have = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                for verb in have & set(tables):
                    query = f"SELECT round, at, data FROM {verb} ORDER BY round"
                    rows[verb] = {r: (at, json.loads(data)) for r, at, data in db.execute(query)}
                query = "SELECT at, data FROM spend ORDER BY id"
                raw = [(at, json.loads(data)) for at, data in db.execute(query)] if "spend" in have else []
        except (sqlite3.Error, ValueError) as error:
            raise StorageError(
                f"the journal cannot be read: {error}", value=str(path), todo="restore it from a backup"
            ) from None
        return cls(rows, [(at, Cost(d["seconds"], int(d["tokens"]), 0, d["money"])) for at, d in raw])

    def row(self, verb: str, round_: int) -> dict[str, Any]:
        """The row, empty when there is none."""
        return self.rows[verb].get(round_, (0.0, {}))[1]

    def spent(self, after: float = 0.0, until: float = float("inf")) -> Cost:
        """What was spent in a stretch of time."""
        return sum((cost for at, cost in self.spends if after < at <= until), Cost())


class _Reader:
    """Puts ledger, journal and store together."""

    def __init__(self, project: Project, journal: _Journal, entries: Sequence[ledger.Entry]) -> None:
        self.journal, self.entries = journal, entries
        self.state = State.fold(entries)
        self.store = Store(project.state / "store")
        self.metrics = read_metrics(entries)
        self.reasons = {e.data["test"]: e for e in entries if e.kind == "verdict"}
        self.reports = {e.data["test"]: e for e in entries if e.kind in ("confirmed", "vault")}
        self.round_of: dict[str, int] = {}
        for round_, (_, row) in journal.rows["build"].items():
            if row.get("child"):
                self.round_of.setdefault(row["child"], round_)
        means = [(row["champion"], row["means"]) for _, row in journal.rows["evaluate"].values()]
        found = [
            (row["champion"], row.get("frontier"))
            for verb in ("evaluate", "promote")
            for _, row in journal.rows[verb].values()
        ]
        self.frontiers = {digest: from_json(Reach, reach) for digest, reach in found if reach}
        self.practice = {digest: given.get(self.state.charter.objective) for digest, given in means}

    def lineage(self) -> Lineage:
        """The whole."""
        state, line = self.state, self.state.lineage
        rollbacks = tuple(
            RollbackLine(e.data["to"], str(e.data.get("by", "")), str(e.data.get("why", "")), e.time)
            for e in self.entries
            if e.kind == "rollback"
        )
        generations = self._generations()
        candidates = tuple(self._candidate(r) for r in self.journal.rows["propose"])
        return Lineage(
            founded=True,
            objective=state.charter.objective,
            champion=line.champion,
            anchor=line.anchor,
            generations=generations,
            candidates=candidates,
            vault=tuple(
                VaultLine(t.child, self._confirmation(t), self._measured(n, "vault"))
                for n, t in state.trials.items()
                if n < 0 and t.reported
            ),
            rollbacks=rollbacks,
            waiting=tuple(rules.status(state)["awaiting_approval"]),
            stopped=state.stopped,
            spent=self.journal.spent(),
            tests=len(state.tests),
            looks=dict(state.looks),
            entries=len(self.entries),
            calibration=self._calibration(),
            plans=self._plans(generations, candidates),
        )

    def _plans(
        self, generations: Sequence[GenerationLine], candidates: Sequence[CandidateLine]
    ) -> tuple[PlanLine, ...]:
        """Every plan, and beside each of its steps the first round of that lever before the next plan."""
        confirmed = {g.digest: g.confirmation.gain.mean for g in generations if g.confirmation}
        made = [(at, from_json(Plan, row)) for at, row in self.journal.rows[PLAN].values()]
        found = []
        for number, (at, plan) in enumerate(made):
            end = made[number + 1][1].round if number + 1 < len(made) else None
            own = [c for c in candidates if c.round >= plan.round and (end is None or c.round < end)]
            came = [next((c for c in own if c.lever == step.lever), None) for step in plan.steps]
            happened = tuple(None if c is None else _happened(c, confirmed.get(c.digest or "")) for c in came)
            found.append(PlanLine(plan, at, happened))
        return tuple(found)

    def _calibration(self) -> Mapping[str, Any] | None:
        notes = (e.data for e in reversed(self.entries) if e.kind == "note" and e.data["kind"] == "calibration")
        return next((note["data"] for note in notes), None)

    def _generations(self) -> tuple[GenerationLine, ...]:
        line = self.state.lineage
        moves: dict[str, tuple[int | None, str]] = {line.genesis: (None, self.entries[0].time)}
        for promotion in line.promotions:
            moves.setdefault(promotion.digest, (promotion.test, promotion.time))
        found: list[GenerationLine] = []
        before = 0.0
        for number, (digest, (test, time)) in enumerate(moves.items()):
            at = datetime.fromisoformat(time).timestamp() if test is not None else 0.0
            made = self._generation(number, digest, self.state.trials.get(test or 0), time)
            found.append(replace(made, cost=self.journal.spent(before, at)))
            before = at
        kept = self._kept_chain()
        first = next((g.confirmation for g in found[1:] if g.confirmation and g.parent == line.genesis), None)
        if first:
            skills = tuple(replace(s, child=s.former) for s in first.skills)
            metrics = next((g.metrics for g in found[1:] if g.metrics and g.parent == line.genesis), ())
            metrics = tuple(replace(m, child=m.former, failed=0) for m in metrics)
            found[0] = replace(found[0], score=first.former, skills=skills, metrics=metrics)
        return tuple(replace(g, rolled_back=g.digest not in kept) for g in found)

    def _kept_chain(self) -> set[str]:
        """The champion and everything it came from."""
        formers = {p.digest: p.former for p in reversed(self.state.lineage.promotions)}
        kept, digest = set[str](), self.state.lineage.champion
        while digest and digest not in kept:
            kept.add(digest)
            digest = formers.get(digest, "")
        return kept

    def _generation(self, number: int, digest: str, trial: Trial | None, at: str) -> GenerationLine:
        stored = self._stored(digest)
        parent = trial.champion if trial else None
        proposal = stored.proposal if stored and trial else None
        round_ = self.round_of.get(digest) if trial else None
        cost = self.journal.row("build", round_).get("record", {}).get("cost") if round_ else None
        confirmation = self._confirmation(trial) if trial and trial.reported else None
        note = dict(stored.note) if stored else {}
        return GenerationLine(
            number=number,
            digest=digest,
            parent=parent,
            lever=proposal.lever if proposal else None,
            proposal=proposal,
            reason=proposal.reason if proposal else "" if trial else "the body that the run started from",
            rung=note.pop("rung", None),
            changed=self._changed(stored, parent),
            note=note,
            practice=self.practice.get(digest),
            score=confirmation.child if confirmation else None,
            skills=confirmation.skills if confirmation else (),
            confirmation=confirmation,
            evidence=self._evidence(trial) if trial else None,
            build=from_json(Cost, cost) if cost else Cost(),
            cost=Cost(),
            round=round_,
            rolled_back=False,
            at=at,
            frontier=self.frontiers.get(digest),
            metrics=self._measured(trial.number, "confirm", "test") if trial else (),
        )

    def _candidate(self, round_: int) -> CandidateLine:
        at, proposal = self.journal.rows["propose"][round_]
        build, prove, promote = (self.journal.row(verb, round_) for verb in ("build", "prove", "promote"))
        test = prove.get("test")
        trial = self.state.trials.get(test) if test else None
        evidence = self._evidence(trial) if trial else None
        why = evidence.reason if evidence and evidence.reason else prove.get("why") or build.get("why") or ""
        return CandidateLine(
            round=round_,
            lever=str(proposal["lever"]),
            reason=str(proposal["reason"]),
            digest=build.get("child"),
            gain=prove.get("gain"),
            decision=prove.get("decision"),
            why=str(why),
            evidence=evidence,
            seconds=float(promote.get("seconds", build.get("record", {}).get("cost", {}).get("seconds", 0.0))),
            at=at,
            metrics=self._measured(test, "test") if test else (),
        )

    def _measured(self, test: int, *phases: str) -> tuple[Metric, ...]:
        """What the runs of a test measured, each suite's in the first of the phases that has any; the objective's first."""
        found: dict[str, Metric] = {}
        for phase in phases:
            for metric in self.metrics.get((test, phase), ()):
                found.setdefault(metric.suite, metric)
        return tuple(sorted(found.values(), key=lambda m: m.suite != self.state.charter.objective))

    def _evidence(self, trial: Trial) -> Evidence:
        facts = trial.evidence()
        entry = self.reasons.get(trial.number)
        reason = str(entry.data.get("reason", "")) if entry else ""
        if trial.refused:
            reason = f"{reason}; refused by {trial.refused}".strip("; ")
        return Evidence(
            test=trial.number,
            decision=trial.decision.value if trial.decision else None,
            reason=reason,
            e_value=facts["e_value"],
            threshold=facts["threshold"],
            objective=_comparison(facts["objective"], "champion"),
            protected=tuple(_comparison(p, p["versus"]) for p in facts["protected"]),
            skills=_skills(facts["skills"]),
            at=entry.time if entry else "",
            claim=str(facts.get("claim", "")),
        )

    def _confirmation(self, trial: Trial) -> Confirmation:
        facts = replace(trial, reported=False).gain_report()
        level = facts["level"]
        gain = Measure(facts["gain"] or 0.0, _interval(facts["gain_interval"], level), facts["n"])
        entry = self.reports.get(trial.number)
        return Confirmation(
            _measure(facts["child"], level),
            _measure(facts["former"], level),
            gain,
            _skills(facts["skills"]),
            entry.time if entry else "",
        )

    def _stored(self, digest: str) -> Generation | None:
        try:
            return self.store.get(digest)
        except UpwrightError:
            return None

    def _changed(self, stored: Generation | None, parent: str | None) -> tuple[str, ...]:
        former = self._stored(parent) if parent else None
        return changed_paths(former, stored) if former and stored else ()


def _happened(c: CandidateLine, confirmed: float | None) -> Happened:
    word = c.decision or ("not tested" if c.why else "")
    return Happened(c.round, word, c.gain, confirmed if c.promoted else None, c.seconds, c.why)


def changed_paths(before: Generation, after: Generation) -> tuple[str, ...]:
    """Paths that are new, gone or different."""
    return tuple(p for p in sorted({*before.files, *after.files}) if before.files.get(p) != after.files.get(p))


def _interval(ends: Sequence[float], level: float = 0.95) -> Interval:
    return Interval(ends[0], ends[1], level)


def _measure(facts: Mapping[str, Any], level: float) -> Measure:
    return Measure(facts["mean"] or 0.0, _interval(facts["interval"], level), facts["n"])


def _skills(facts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[Skill, ...]:
    def side(f: Mapping[str, Any], who: str) -> Measure:
        return Measure(f[who], _interval(f[f"{who}_interval"]), f["n"])

    return tuple(
        Skill(suite, skill, side(f, "child"), side(f, "champion"))
        for suite, by in facts.items()
        for skill, f in by.items()
    )


def _comparison(f: Mapping[str, Any], versus: str) -> Comparison:
    return Comparison(
        f["suite"], versus, f["n"], f["wins"], f["losses"], f["ties"], f["mean"], f["margin"], f["e_value"],
        _exactly(f["exact"]) if "exact" in f else "",
    )  # fmt: skip


def _exactly(runs: Mapping[str, Sequence[float | None]]) -> str:
    """What exact runs measured, in words."""
    values = {who: list(dict.fromkeys(runs[who])) for who in ("child", "other")}
    told = numbers(*values["child"], *values["other"])
    sides = (told[: len(values["child"])], told[len(values["child"]) :])
    child, other = (" and ".join(side) or "nothing" for side in sides)
    return f"{child} against {other}, in each of {len(runs['child'])} runs"
