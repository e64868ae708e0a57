"""All that the warden knows, folded from the ledger's entries; also read by people, without the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upwright.warden import ledger
from upwright.warden.champion import Lineage
from upwright.warden.charter import Charter
from upwright.warden.gate import Decision
from upwright.warden.trial import Trial


@dataclass(slots=True)
class State:
    """The fold of the ledger.

    Attributes:
        looks: suite → sealed tasks drawn over the whole run.
        genesis_tokens: [tasks, tokens] of the first body on objective tasks.
        stopped: who stopped the run and why, or ``None``.
        constitution: SHA-256 of the constitution in force, or ``None``.
        files: digest of a body → path → SHA-256, of those whose program a sealed run is about.
    """

    lineage: Lineage = field(default_factory=Lineage)
    charter: Charter = field(default_factory=Charter)
    constitution: str | None = None
    founding: dict[str, Any] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    genesis_tokens: list[int] = field(default_factory=lambda: [0, 0])
    spent_tokens: int = 0
    stopped: str | None = None
    files: dict[str, dict[str, str]] = field(default_factory=dict)

    @staticmethod
    def fold(entries: Iterable[ledger.Entry]) -> State:
        """The state after all of ``entries``."""
        state = State()
        for entry in entries:
            state.apply(entry)
        return state

    def apply(self, entry: ledger.Entry) -> None:
        """Take in the next entry."""
        data: Any = entry.data
        self.lineage.apply(entry)
        if entry.kind in ("founding", "charter"):
            self.charter = Charter.parse(data["charter_text"])
            self.constitution = data.get("constitution")
            if entry.kind == "founding":
                self.founding = dict(data)
                self.files[data["genesis"]] = dict(data.get("genesis_files", {}))
        elif entry.kind in ("commit", "vault_open"):
            self.trials[data["test"]] = Trial.start(data)
            if "files" in data:
                self.files[data["child"]] = dict(data["files"])
        elif entry.kind == "batch":
            self._apply_batch(self.trials[data["test"]], data)
        elif entry.kind == "verdict":
            self.trials[data["test"]].decision = Decision(data["decision"])
        elif entry.kind == "promotion":
            self.trials[data["test"]].promoted = True
        elif entry.kind in ("confirmed", "vault"):
            self.trials[data["test"]].reported = True
        elif entry.kind == "refuse":
            self.trials[data["test"]].refused = f"{data['by']}: {data['why']}"
        elif entry.kind in ("stop", "resume"):
            self.stopped = data["why"] if entry.kind == "stop" else None

    def _apply_batch(self, trial: Trial, data: Any) -> None:
        trial.apply_batch(data)
        self.spent_tokens += data["spent"]
        if data["phase"] != "vault":
            for suite, n in data["drawn"].items():
                self.looks[suite] += n
        if data["phase"] == "test":
            for role, digest in trial.bodies.items():
                if digest == self.lineage.genesis and role in data["tokens"]:
                    self.genesis_tokens[0] += data["tokens"][role][0]
                    self.genesis_tokens[1] += data["tokens"][role][1]

    @property
    def tests(self) -> list[Trial]:
        """Tests in order, without openings of the vault."""
        return [t for n, t in self.trials.items() if n > 0]

    @property
    def spending(self) -> tuple[int, int]:
        """Tests and promotions that spent of the error rate; those where every suite is exact did not."""
        promotions = sum(self.trials[p.test].spends for p in self.lineage.promotions)
        return sum(t.spends for t in self.tests), promotions

    @property
    def runs_programs(self) -> bool:
        """Whether any suite is an evaluator, whose sealed runs are of a body's program."""
        return any(pinned.get("kind") == "evaluator" for pinned in self.founding.get("suites", {}).values())

    @property
    def open_test(self) -> Trial | None:
        """The test that has no verdict yet."""
        return next((t for t in self.tests if t.decision is None), None)


def read_state(home: Path) -> dict[str, Any]:
    """Champion, anchor, genesis, promotions and tests, for people; read-only, from the ledger alone.

    Raises:
        LedgerFault: there is no readable ledger.
    """
    state = State.fold(ledger.read(home / ledger.FILE))
    line = state.lineage
    return {
        "champion": line.champion,
        "anchor": line.anchor,
        "genesis": line.genesis,
        "promotions": [
            {"test": p.test, "digest": p.digest, "former": p.former, "time": p.time} for p in line.promotions
        ],
        "tests": [
            {
                "test": t.number,
                "child": t.child,
                "champion": t.champion,
                "decision": t.decision.value if t.decision else None,
                "promoted": t.promoted,
                "confirmed": t.reported,
                "refused": t.refused or None,
            }
            for t in state.tests
        ],
        "vault_openings": sum(n < 0 for n in state.trials),
        "stopped": state.stopped,
        "charter": state.charter.digest,
        "constitution": state.constitution,
        "tokens": state.spent_tokens,
        "looks": dict(state.looks),
    }
