"""The evaluator's own numbers beside the scores: what every sealed run measured, as the ledger has it.

A score is a map of a metric to [0, 1] that the gate can bet on. People want the metric: how long, how short, how large. It is read from the
batches of the ledger, where each run of a program stands with what it measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from upwright.warden.ledger import Entry


@dataclass(frozen=True, slots=True)
class Metric:
    """What one draw of sealed runs measured of two programs.

    Attributes:
        direction: ``max`` where more is better, else ``min``.
        child, former: mean over the runs that measured anything; ``None`` where none did.
        n: runs of each; ``failed``: runs of the child that measured nothing.
        exact: every run of a program gave the same number, as it is claimed of this evaluator.
    """

    suite: str
    name: str
    direction: str
    child: float | None
    former: float | None
    n: int
    failed: int = 0
    exact: bool = False

    @property
    def told(self) -> str:
        """``combined_score 0.96 → 2.62``."""
        before, after = numbers(self.former, self.child)
        return f"{self.name} {before} → {after}"

    @property
    def better(self) -> bool | None:
        """Whether the child measured better; ``None`` where one of them measured nothing or both the same."""
        if self.child is None or self.former is None or self.child == self.former:
            return None
        return (self.child > self.former) == (self.direction == "max")


Draws = Mapping[tuple[int, str], tuple[Metric, ...]]
"""(test, phase) → the metric of each suite."""


def read_metrics(entries: Iterable[Entry]) -> Draws:
    """The metrics of every draw on a ledger; none where no suite is an evaluator."""
    suites: Mapping[str, Mapping[str, Any]] = {}
    runs: dict[tuple[int, str], dict[str, list[Mapping[str, Any]]]] = {}
    for entry in entries:
        if entry.kind == "founding":
            suites = {n: s for n, s in entry.data.get("suites", {}).items() if s.get("kind") == "evaluator"}
        elif entry.kind == "batch" and entry.data.get("runs"):
            draw = runs.setdefault((int(entry.data["test"]), str(entry.data["phase"])), {})
            for item, facts in zip(entry.data["items"], entry.data["runs"], strict=True):
                if item[0] in suites:
                    draw.setdefault(item[0], []).append(facts)
    return {key: tuple(_of(name, suites[name], facts) for name, facts in draw.items()) for key, draw in runs.items()}


def _of(suite: str, pinned: Mapping[str, Any], runs: list[Mapping[str, Any]]) -> Metric:
    values = {role: [r.get(role, {}).get("metric") for r in runs] for role in ("child", "champion")}
    kept = {role: [float(v) for v in found if v is not None] for role, found in values.items()}
    child, former = (_mean(kept[role]) for role in ("child", "champion"))
    direction = "max" if pinned.get("sign", 1) > 0 else "min"
    failed = len(runs) - len(kept["child"])
    exact = bool(pinned.get("exact")) and len(set(kept["child"])) <= 1 and len(set(kept["champion"])) <= 1
    return Metric(suite, str(pinned["metric"]), direction, child, former, len(runs), failed, exact)


def _mean(values: list[float]) -> float | None:
    if not values:
        return None
    return values[0] if len(set(values)) == 1 else math.fsum(values) / len(values)


def number(value: float | None, digits: int = 6) -> str:
    """A metric, short."""
    return "no score" if value is None else f"{value:.{digits}g}"


def numbers(*values: float | None) -> tuple[str, ...]:
    """Metrics with as many digits as tell different ones apart."""
    for digits in range(6, 18):
        told = tuple(number(v, digits) for v in values)
        if len(set(told)) == len(set(values)):
            break
    return told
