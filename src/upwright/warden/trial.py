"""One test (or one opening of the vault), folded from the ledger's entries.

Every batch is a ledger entry, written before the next is drawn. So a killed warden goes on at the right
batch, nothing counts twice, and anybody with the ledger can recompute every verdict.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from upwright.warden.bounds import interval, wilson
from upwright.warden.exact import Pair
from upwright.warden.gate import Decision, Gate, e_value
from upwright.warden.vault import Stamp

Score = float | None


WHOLE = 128
"""Tasks in a batch of a draw that is not stopped early (confirmation, vault), or the charter's batch if that is larger. A plan may say another number."""

EXACTLY = "every metric of this test repeats exactly, so nothing random is claimed and no error rate is spent"


@dataclass(frozen=True, slots=True)
class Item:
    """Scores on one task; ``None`` is a failure, not a zero. ``anchor`` counts only when ``anchored``."""

    suite: str
    skill: str
    child: Score
    champion: Score
    anchor: Score = None
    anchored: bool = False

    def plain(self) -> list[Any]:
        """JSON: ``[suite, skill, child, champion]``, and the anchor's score when it was asked."""
        return [self.suite, self.skill, self.child, self.champion, *([self.anchor] if self.anchored else [])]

    @staticmethod
    def read(raw: list[Any]) -> Item:
        """From JSON."""
        return Item(raw[0], raw[1], raw[2], raw[3], raw[4] if len(raw) > 4 else None, len(raw) > 4)


def difference(child: Score, other: Score) -> float | None:
    """D in [−1, 1], child minus other: −1 when the child alone failed, ``None`` (dropped) when the other failed."""
    if other is None:
        return None
    return -1.0 if child is None else child - other


@dataclass(slots=True)
class Trial:
    """State of one test.

    Attributes:
        number: > 0 for a test, < 0 for an opening of the vault.
        plan: the settings frozen at commit.
        drawn: (phase, suite) → tasks drawn so far.
        alarm: what looked like an attack in a sealed run of the child's program, if anything did.
        tokens: role → [tasks, tokens] on the objective.
    """

    number: int
    child: str
    champion: str
    anchor: str | None
    plan: Mapping[str, Any]
    threshold: float
    proposal: str
    gate: Gate
    items: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))
    batches: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    drawn: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    tokens: dict[str, list[int]] = field(default_factory=lambda: {"child": [0, 0], "champion": [0, 0]})
    veto: str = ""
    alarm: str = ""
    decision: Decision | None = None
    promoted: bool = False
    refused: str = ""
    reported: bool = False

    @staticmethod
    def start(data: Mapping[str, Any]) -> Trial:
        """From the data of a ``commit`` or ``vault_open`` entry."""
        plan = data["plan"]
        versus = ("champion", "anchor") if data.get("anchor") else ("champion",)
        gate = Gate.start(
            data["threshold"], plan["beta"], plan["minimum_gain"], plan["n_max"], plan["protected"], versus,
            plan.get("bets", "grid"),
        ).exactly(plan["objective"], plan.get("exact", {}))  # fmt: skip
        return Trial(
            data["test"], data["child"], data["champion"], data.get("anchor"), plan, data["threshold"],
            data.get("proposal_digest", ""), gate,
        )  # fmt: skip

    @property
    def phase(self) -> str:
        """``test``, ``confirm``, ``vault``, or ``done``: what the next batch would be for."""
        if self.number < 0:
            return "done" if self.reported else "vault"
        if self.decision is None:
            return "test"
        return "confirm" if self.promoted and not self.reported else "done"

    @property
    def objective(self) -> str:
        """Name of the objective suite."""
        return str(self.plan["objective"])

    @property
    def exact(self) -> Mapping[str, Mapping[str, int]]:
        """Suites of the plan whose metric repeats exactly → ``{"sign", "runs"}``."""
        found: Mapping[str, Mapping[str, int]] = self.plan.get("exact", {})
        return found

    @property
    def spends(self) -> bool:
        """Whether this test spends of the error rate: not where every suite is exact, since then nothing random is claimed."""
        return any(suite not in self.exact for suite in (self.objective, *self.plan["protected"]))

    @property
    def stamp(self) -> Stamp:
        """What the draw of the present phase is derived from."""
        return Stamp(self.child, self.number, self.phase)

    @property
    def bodies(self) -> dict[str, str]:
        """Role → digest of who answers."""
        bodies = {"child": self.child, "champion": self.champion}
        return {**bodies, "anchor": self.anchor} if self.anchor else bodies

    def wanted(self) -> list[tuple[str, int]]:
        """(suite, tasks) of the next batch; empty when the phase has all it can get."""
        phase, size = self.phase, int(self.plan["batch"])
        if phase in ("confirm", "vault"):
            left = self._whole(phase) - self.drawn[phase, self.objective]
            whole = int(self.plan.get("whole", WHOLE))
            return [(self.objective, min(max(size, whole), left))] if left > 0 else []
        wanted = []
        for suite in self.gate.open_suites(self.objective):
            n_max = self.exact[suite]["runs"] if suite in self.exact else int(self.plan["n_max"])
            left = min(n_max - self._pairs(suite), 2 * n_max - self.drawn[phase, suite])
            if left <= 0:
                return []
            wanted.append((suite, min(size, left)))
        return wanted

    def _whole(self, phase: str) -> int:
        """Tasks of a draw that is not stopped early; an exact metric is measured as often as in a test."""
        most = int(self.plan[phase])
        return min(most, self.exact[self.objective]["runs"]) if self.objective in self.exact else most

    def _pairs(self, suite: str) -> int:
        if suite == self.objective:
            return self.gate.objective.n
        waiting = [s.n for (name, _), s in self.gate.protected.items() if name == suite and not self.gate.crossed(s)]
        return max(waiting, default=0)

    def apply_batch(self, data: Mapping[str, Any]) -> None:
        """Take in a ``batch`` entry."""
        phase = data["phase"]
        items = [Item.read(raw) for raw in data["items"]]
        self.items[phase] += items
        self.batches[phase] += 1
        for suite, n in data["drawn"].items():
            self.drawn[phase, suite] += n
        if phase != "test":
            return
        self.veto = self.veto or data.get("veto", "")
        for role, (n, total) in data["tokens"].items():
            seen = self.tokens.setdefault(role, [0, 0])
            seen[0] += n
            seen[1] += total
        self.alarm = self.alarm or data.get("alarm", "")
        self.gate = self.gate.add_objective(
            _kept(difference(i.child, i.champion) for i in items if i.suite == self.objective)
        )
        for suite, versus in self.gate.protected:
            chosen = [i for i in items if i.suite == suite]
            if versus == "anchor":
                pairs = _kept(difference(i.child, i.anchor) for i in chosen if i.anchored)
            else:
                pairs = _kept(difference(i.child, i.champion) for i in chosen)
            self.gate = self.gate.add_protected(suite, versus, pairs)
        self._apply_exact(items, data.get("runs") or [{}] * len(items))

    def _apply_exact(self, items: list[Item], runs: list[Any]) -> None:
        """Take in the metrics of exact suites; a run where the other gave no program is left out."""

        def pairs(suite: str, versus: str) -> list[Pair]:
            found = []
            for item, facts in zip(items, runs, strict=True):
                score = item.anchor if versus == "anchor" else item.champion
                if item.suite == suite and score is not None:
                    child, other = (facts.get(role, {}).get("metric") for role in ("child", versus))
                    found.append(Pair(child, other, item.child or 0.0, score))
            return found

        if self.objective in self.exact:
            self.gate = self.gate.add_exact(None, pairs(self.objective, "champion"))
        for suite, versus in self.gate.protected:
            if suite in self.exact:
                self.gate = self.gate.add_exact((suite, versus), pairs(suite, versus))

    def decide(self, genesis_tokens: list[int]) -> tuple[Decision | None, str]:
        """The decision so far and its reason.

        Args:
            genesis_tokens: [tasks, tokens] that the first body has used on objective tasks so far.
        """
        if self.veto:
            return Decision.REJECT, f"an answer contains forbidden text (pattern {self.veto!r})"
        if self.alarm:
            return Decision.REJECT, f"what the program did in a sealed run looks like an attack: {self.alarm}"
        decision, reason = self.gate.decide()
        most = self.plan.get("max_token_ratio")
        if decision is Decision.PROMOTE and most is not None and genesis_tokens[1] > 0:
            child_n, child_total = self.tokens["child"]
            ratio = (child_total / max(1, child_n)) / (genesis_tokens[1] / genesis_tokens[0])
            if ratio > most:
                return (
                    Decision.REJECT,
                    f"uses {ratio:.2f} times the tokens of the first body; {most:g} is the most allowed",
                )
        if decision is None and not self.wanted():
            return Decision.INSUFFICIENT, "too many runs of the champion failed to compare the two"
        return decision, reason

    def evidence(self) -> dict[str, Any]:
        """Everything for people: per suite counts, sums and e-values, per skill means, tokens."""
        gate = self.gate
        facts = {
            "e_value": e_value(gate.log_e),
            "log_e": gate.log_e,
            "threshold": self.threshold,
            "bets": self.plan.get("bets", "grid"),
            "objective": {"suite": self.objective, **gate.objective.facts()},
            "protected": [
                {"suite": suite, "versus": versus, **s.facts()} for (suite, versus), s in gate.protected.items()
            ],
            "skills": skills(self.items["test"]),
            "tokens": self.tokens,
        }
        return facts if self.spends else {**facts, "error_spent": 0.0, "claim": EXACTLY}

    def gain_report(self, level: float = 0.95) -> dict[str, Any]:
        """Gain on the present phase's own draw: overall and per skill, with intervals, which hold once the draw is whole."""
        items, method = self.items[self.phase], str(self.plan.get("interval", "sequence"))
        d = _kept(difference(i.child, i.champion) for i in items if not (i.child is None and i.champion is None))
        if self.objective in self.exact and len(set(d)) == 1 and all(i.child is not None for i in items):
            method = "exact"
        low, high = _interval(method, d, level)
        return {
            "n": len(d),
            "gain": math.fsum(d) / len(d) if d else None,
            "gain_interval": [low, high],
            "level": level,
            "interval_method": method,
            "child": _mean_facts([i.child for i in items], level, method),
            "former": _mean_facts([i.champion for i in items], level, method),
            "skills": skills(items),
        }


def _kept(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _interval(method: str, values: list[float], level: float, low: float = -1.0) -> tuple[float, float]:
    """As :func:`~upwright.warden.bounds.interval`; a number that repeats exactly has an interval of one point."""
    if method == "exact" and len(set(values)) == 1:
        return values[0], values[0]
    return interval("star" if method == "exact" else method, values, level, low=low)


def _mean_facts(scores: list[Score], level: float, method: str) -> dict[str, Any]:
    kept = _kept(scores)
    low, high = _interval(method, kept, level, low=0.0)
    return {
        "n": len(kept),
        "failed": len(scores) - len(kept),
        "mean": math.fsum(kept) / len(kept) if kept else None,
        "interval": [low, high],
    }


def skills(items: Iterable[Item]) -> dict[str, dict[str, Any]]:
    """suite → skill → n, means and Wilson intervals of child and champion over tasks that both answered."""
    groups: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for i in items:
        if i.child is not None and i.champion is not None:
            groups[i.suite, i.skill].append(i)
    found: dict[str, dict[str, Any]] = {}
    for (suite, skill), group in sorted(groups.items()):
        n = len(group)
        child, champion = (math.fsum(float(getattr(i, role)) for i in group) for role in ("child", "champion"))
        found.setdefault(suite, {})[skill] = {
            "n": n,
            "child": child / n,
            "champion": champion / n,
            "child_interval": list(wilson(child, n)),
            "champion_interval": list(wilson(champion, n)),
        }
    return found
