"""The warden itself: every call of the door, decided from the ledger's state. One thread, one process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from upwright.warden import rules
from upwright.warden.batch import Batch
from upwright.warden.canon import canonical_json, record_digest, write_atomic
from upwright.warden.champion import MACHINES
from upwright.warden.charter import Charter
from upwright.warden.errors import GraderError, Refusal, VaultError
from upwright.warden.gate import Decision
from upwright.warden.ledger import Ledger
from upwright.warden.state import State
from upwright.warden.trial import Trial
from upwright.warden.vault import LOOKS, Stamp, Vault


class Warden:
    """Holds the home's lock, the ledger, the vault and the state.

    Raises:
        Refusal: another warden holds this home (``busy``), or nothing was founded here (``unknown``).
        LedgerFault: the ledger does not verify.
    """

    def __init__(self, home: Path) -> None:
        if not (home / "keys" / "signing").exists():
            raise Refusal("nothing was founded here", code="unknown", value=str(home), todo="found the project first")
        self.home = home
        self._lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._lock)
            raise Refusal("another warden holds this home", code="busy", value=str(home), todo="use that one") from e
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        key = Ed25519PrivateKey.from_private_bytes((home / "keys" / "signing").read_bytes())
        self._ledger = Ledger(home, key)
        self.state = State.fold(self._ledger.entries)
        self._vault = Vault(home, self.state.founding["suites"], self.state.founding["salt"])
        self._batch: Batch | None = None
        self.broken = False

    def close(self) -> None:
        """End what runs programs; release the ledger and the lock."""
        self._vault.close()
        self._ledger.close()
        os.close(self._lock)

    def _append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Write an entry, then take it in. If either fails, this process knows no more what is on disk and must end."""
        if self.broken:
            raise Refusal(
                "the warden could not write and is ending", code="disk", todo="ask again: a new one will start"
            )
        try:
            self.state.apply(self._ledger.append(kind, data))
        except BaseException:
            self.broken = True
            raise

    # --- the improver's calls -------------------------------------------------------------------

    def commit(
        self, child: dict[str, Any], parent_files: dict[str, str], proposal: dict[str, Any], champion: str
    ) -> int:
        """Freeze a child, its plan and its share of the error rate; the number of its test."""
        state = self.state
        rules.running(state)
        digest = record_digest(proposal)
        before = rules.committed_before(state, child, digest, champion)
        if before is not None:
            return before
        changed = rules.check_child(state, child, parent_files, proposal, champion)
        outside = [p for p in changed if not state.charter.allows(p)]
        if outside:
            facts = {
                "child": child["digest"],
                "proposal_digest": digest,
                "outside": outside[:50],
                "why": "outside may_change",
            }
            self._append("refused", facts)
            raise Refusal(
                "the child differs from the champion where the charter does not allow it",
                code="scope", value=outside[:5], todo="may_change allows: " + ", ".join(state.charter.may_change),
            )  # fmt: skip
        rules.within_budget(state)
        for suite in (state.charter.objective, *state.charter.protected):
            self._refuse_used_up(suite)
        if state.open_test is not None:
            self._decide(
                state.open_test, Decision.INSUFFICIENT, "abandoned: another child was committed before its end"
            )
        self._batch = None
        t, line = len(state.tests) + 1, state.lineage
        data = {
            "test": t, "child": child["digest"], "champion": champion,
            "anchor": line.anchor if line.anchor != champion else None,
            "proposal": proposal, "proposal_digest": digest, "changed": changed, "plan": rules.plan(state),
            "threshold": rules.next_threshold(state), "promotions_before": len(line.promotions),
        }  # fmt: skip
        if state.runs_programs:
            data["files"] = child["files"]
        self._append("commit", data)
        return t

    def next_inputs(self, test: int) -> dict[str, Any]:
        """The next batch of questions, or ``{"done": True}``."""
        trial = self._trial(test)
        self._conclude(trial)
        if trial.phase == "done":
            return {"done": True}
        rules.running(self.state)
        batch = self._current(trial)
        if batch is None:
            return {"done": True}
        return {
            "phase": batch.phase,
            "batch": batch.number,
            "answer_seed": batch.answer_seed,
            "bodies": trial.bodies,
            "questions": batch.questions(),
        }

    def answers(self, test: int, batch: int, answers: dict[str, Any]) -> dict[str, Any] | None:
        """Take a batch's answers; ``{"retry": [[role, id], …]}`` when some failed and may be tried again."""
        trial = self._trial(test)
        if isinstance(batch, bool) or not isinstance(batch, int):
            raise Refusal("batch must be a whole number", value=batch)
        if trial.phase == "done" or batch < trial.batches[trial.phase]:
            return None  # counted before; a reply got lost
        if batch > trial.batches[trial.phase]:
            raise Refusal("this batch has not been drawn", code="order", value=batch, todo="call next_inputs first")
        current = self._current(trial)
        if current is None:
            return None
        self._refuse_foreign(trial, current, answers)
        current.take(answers)
        failed = current.failures()
        if failed and current.rounds <= int(trial.plan["retries"]):
            return {"retry": failed}
        self._settle(trial, current)
        return None

    def verdict(self, test: int) -> str:
        """One of three words."""
        trial = self._trial(test)
        if trial.number < 0:
            raise Refusal("an opening of the vault has no verdict", code="order", value=test)
        self._conclude(trial)
        if trial.decision is None:
            raise Refusal(
                "this test is not decided yet", code="order", value=test, todo="answer next_inputs until done"
            )
        return trial.decision.value

    def promote(self, test: int) -> dict[str, str]:
        """Make the child champion; asking again after it was done changes nothing."""
        trial = self._trial(test)
        if trial.promoted and self.state.lineage.champion == trial.child:
            return {"champion": trial.child}
        rules.running(self.state)
        rules.may_promote(self.state, trial)
        facts = {"test": test, "digest": trial.child, "former": trial.champion, "proposal_digest": trial.proposal}
        self._append("promotion", facts)
        self._publish(trial)
        return {"champion": trial.child}

    def open_vault(self) -> int:
        """Begin to measure champion against genesis on vault tasks; a negative handle for ``next_inputs``."""
        state, line = self.state, self.state.lineage
        rules.running(state)
        for trial in state.trials.values():
            if trial.number < 0 and not trial.reported and trial.child == line.champion:
                return trial.number
        if line.champion == line.genesis:
            raise Refusal("the champion is still the first body, so there is no gain to measure", code="vault")
        if self._vault.pool_size(state.charter.objective, "vault") == 0:
            raise Refusal("the objective has no vault tasks", code="vault", value=state.charter.objective)
        number = -1 - sum(n < 0 for n in state.trials)
        plan = {**rules.plan(state), "protected": {}, "vault": state.charter.vault}
        data = {"test": number, "child": line.champion, "champion": line.genesis, "plan": plan, "threshold": 1.0}
        self._append("vault_open", data)
        return number

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Put a fact for people on the ledger; no decision reads it."""
        if kind not in rules.NOTES:
            raise Refusal("unknown kind of note", value=kind, todo=f"known kinds: {sorted(rules.NOTES)}")
        if not isinstance(data, Mapping) or len(canonical_json(data)) > rules.MOST_NOTE:
            raise Refusal("a note is an object of at most 64 kB", value=kind)
        self._append("note", {"kind": kind, "data": data})

    def status(self) -> dict[str, Any]:
        """Pointers and progress; no evidence."""
        return rules.status(self.state)

    # --- people's calls -------------------------------------------------------------------------

    def approve(self, test: int, by: str) -> None:
        """A person agrees to a promotion (before it) or to a promoted generation (after it)."""
        trial = self._trial(test)
        rules.person(by)
        if trial.decision is not Decision.PROMOTE:
            raise Refusal("only a test with the verdict PROMOTE can be approved", code="order", value=test)
        if trial.refused:
            raise Refusal("this test was refused", code="decided", value=trial.refused, todo="commit the child again")
        if test not in self.state.lineage.approved:
            self._append("approve", {"test": test, "by": by})

    def refuse(self, test: int, by: str, why: str) -> None:
        """A person says no."""
        trial = self._trial(test)
        rules.person(by)
        if trial.promoted:
            raise Refusal("this test was promoted", code="order", value=test, todo="roll back instead")
        if trial.decision is not Decision.PROMOTE or trial.refused:
            raise Refusal("only an open PROMOTE verdict can be refused", code="order", value=test)
        self._append("refuse", {"test": test, "by": by, "why": str(why)})

    def rollback(self, digest: str, by: str, why: str) -> None:
        """Make an earlier champion the champion again. ``by`` names a person, or one of ``loop``, ``watch``."""
        line = self.state.lineage
        if by not in MACHINES:
            rules.person(by)
        if not isinstance(digest, str) or not line.was_champion(digest):
            raise Refusal("this generation was never champion", code="unknown", value=digest, todo="see the ledger")
        if digest == line.champion:
            return
        if self.state.open_test is not None:
            self._decide(self.state.open_test, Decision.INSUFFICIENT, "abandoned: the champion was rolled back")
        self._batch = None
        self._append("rollback", {"from": line.champion, "to": digest, "by": by, "why": str(why)})

    def amend(self, charter_text: str, by: str, constitution: str | None = None) -> None:
        """Put a new charter, or a new text of the constitution that it names, in force.

        Tests already committed keep the plan they were committed with.
        """
        rules.person(by)
        charter = Charter.parse(charter_text)
        frozen = charter.frozen(constitution)
        known = self.state.founding["suites"]
        for name in (charter.objective, *charter.protected):
            if name not in known:
                raise Refusal(
                    "the charter names a suite that was not founded",
                    code="charter",
                    value=name,
                    todo=f"suites: {sorted(known)}",
                )
        if (charter.digest, frozen.get("constitution")) != (self.state.charter.digest, self.state.constitution):
            data = {"charter": charter.digest, "charter_text": charter_text, "who": "human", "by": by, **frozen}
            self._append("charter", {**data, "before": self.state.charter.digest})

    def stop(self, why: str) -> None:
        """Refuse everything but reading until ``resume``."""
        if self.state.stopped is None:
            self._append("stop", {"why": str(why)})

    def resume(self) -> None:
        """Take up work again."""
        if self.state.stopped is not None:
            self._append("resume", {})

    # --- inside ---------------------------------------------------------------------------------

    def _trial(self, test: int) -> Trial:
        trial = self.state.trials.get(test) if isinstance(test, int) and not isinstance(test, bool) else None
        if trial is None:
            raise Refusal("there is no such test", code="unknown", value=test, todo="commit a child first")
        return trial

    def _current(self, trial: Trial) -> Batch | None:
        """The drawn batch, drawn (again) if need be; ``None`` when it cannot be drawn."""
        key = (trial.number, trial.phase, trial.batches[trial.phase])
        if self._batch is None or (self._batch.test, self._batch.phase, self._batch.number) != key:
            try:
                for suite, _ in trial.wanted():
                    self._refuse_used_up(suite)
                self._batch = Batch.draw(trial, self._vault)
            except (VaultError, GraderError, Refusal) as e:
                self._end(trial, f"the tasks could not be drawn: {e.what}")
                return None
        return self._batch

    def _refuse_foreign(self, trial: Trial, batch: Batch, answers: object) -> None:
        """Refuse a program that is not that of the committed body, and put it on the ledger."""
        bodies = {role: self.state.files.get(digest, {}) for role, digest in trial.bodies.items()}
        strange = batch.foreign(answers, bodies)
        if strange is not None:
            who = trial.bodies[strange["role"]]
            why = "the answered program is not the committed body's"
            self._append("refused", {"child": trial.child, "test": trial.number, "body": who, "why": why, **strange})
            raise Refusal(why, code="scope", value=strange["paths"][:5], todo="answer with the body's own program/")

    def _refuse_used_up(self, suite: str) -> None:
        size = self._vault.pool_size(suite)
        if size is not None and self.state.looks[suite] >= LOOKS * size:
            raise Refusal(
                f"the sealed pool of suite {suite} is used up", code="looks", value=self.state.looks[suite],
                todo=f"it has {size} tasks and allows {LOOKS * size} looks; found a project with fresh tasks",
            )  # fmt: skip

    def _settle(self, trial: Trial, batch: Batch) -> None:
        self._batch = None
        trouble = batch.trouble()
        if trouble and batch.phase == "test":
            self._end(trial, trouble)
            return
        try:
            veto = batch.veto(trial.plan["forbid_text"]) if batch.phase == "test" else ""
            items = batch.score(self._vault)
        except (GraderError, VaultError) as e:
            self._end(trial, f"a grader failed: {e.what}")
            return
        self._append("batch", batch.entry(items, trial.objective, veto))
        for alarm in batch.alarms():
            self._alarm(trial, body=trial.bodies[alarm["role"]], **alarm)
        self._conclude(trial)
        self._publish(trial)

    def _conclude(self, trial: Trial) -> None:
        """Write the verdict or the report as soon as the state has one; also after a kill between two entries."""
        phase = trial.phase
        if phase == "test":
            decision, reason = trial.decide(self.state.genesis_tokens)
            if decision is not None:
                for suite, values in trial.gate.doubts.items():
                    what = f"a metric that should repeat exactly did not: {values}"
                    self._alarm(trial, suite=suite or trial.objective, what=what)
                self._decide(trial, decision, reason)
        elif phase in ("confirm", "vault") and not trial.wanted():
            self._report(trial, "")

    def _alarm(self, trial: Trial, **facts: str) -> None:
        """Tell people, on the ledger."""
        data = {"test": trial.number, "phase": trial.phase, "child": trial.child, **facts}
        self._append("note", {"kind": "alarm", "data": data})

    def _end(self, trial: Trial, why: str) -> None:
        if trial.phase == "test":
            self._decide(trial, Decision.INSUFFICIENT, why)
        else:
            self._report(trial, why)

    def _decide(self, trial: Trial, decision: Decision, reason: str) -> None:
        looks = {s: self._looks(s) for s in self.state.looks if self._vault.pool_size(s) is not None}
        data = {"test": trial.number, "decision": decision.value, "reason": reason, "looks": looks, **trial.evidence()}
        self._append("verdict", data)
        self._publish(trial)

    def _report(self, trial: Trial, problem: str) -> None:
        kind = "confirmed" if trial.phase == "confirm" else "vault"
        facts = {"test": trial.number, "digest": trial.child, "against": trial.champion, "problem": problem}
        self._append(kind, {**facts, **trial.gain_report()})

    def _looks(self, suite: str) -> dict[str, int]:
        draws = [
            (Stamp(t.child, t.number, phase), n)
            for t in self.state.tests
            for (phase, s), n in t.drawn.items()
            if s == suite
        ]
        size = self._vault.pool_size(suite) or 0
        most = self._vault.most_looked_at(suite, draws)
        return {"used": self.state.looks[suite], "limit": LOOKS * size, "most_on_one_task": most}

    def _publish(self, trial: Trial) -> None:
        """The people-only live view."""
        gate = trial.gate
        suites = {trial.objective: gate.objective} if trial.number > 0 else {}
        suites |= {s if v == "champion" else f"{s} ({v})": stream for (s, v), stream in gate.protected.items()}
        view = {
            "test": trial.number,
            "phase": trial.phase,
            "decision": trial.decision.value if trial.decision else None,
            "log_threshold": gate.log_threshold,
            "suites": {
                name: {
                    **{
                        key: value for key, value in s.facts().items() if key in ("n", "log_e", "log_e_against", "mean")
                    },
                    "crossed": gate.crossed(s),
                }
                for name, s in suites.items()
            },
            "drawn": {f"{phase} {suite}": n for (phase, suite), n in trial.drawn.items()},
        }
        with contextlib.suppress(OSError):  # a view for people; the ledger has it all
            write_atomic(self.home / "people" / "progress.json", canonical_json(view) + b"\n", durable=False)
