"""Verify a home: the ledger's bytes, and that every verdict follows from the batches before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upwright.warden import ledger, rules
from upwright.warden.canon import sha256, tree_digest
from upwright.warden.gate import Decision
from upwright.warden.ledger import Report
from upwright.warden.state import State


def verify_home(home: Path, public_key: Path | None = None) -> Report:
    """Recompute hashes, signatures, thresholds and verdicts; the first entry that does not follow is named.

    Args:
        public_key: a copy of ``ledger.pub`` kept elsewhere, for a check that the home's own copy cannot fool.
    """
    path = home / ledger.FILE
    report = ledger.verify(path, public_key)
    if not report.ok:
        return report
    state = State()
    for entry in ledger.read(path):
        problem = _problem(state, entry)
        if problem:
            return Report(False, report.entries, report.root, entry.index, entry.kind, problem)
        try:
            state.apply(entry)
        except Exception as e:
            what = f"the entry does not fit what came before ({type(e).__name__}: {e})"
            return Report(False, report.entries, report.root, entry.index, entry.kind, what)
    return report


def _problem(state: State, entry: ledger.Entry) -> str:
    """Why an entry does not follow from the ones before it, or ``""``."""
    check = {
        "founding": _founding, "charter": _charter, "commit": _commit, "verdict": _verdict, "promotion": _promotion,
    }.get(entry.kind)  # fmt: skip
    return check(state, entry.data) if check is not None else ""


def _founding(state: State, data: Mapping[str, Any]) -> str:
    if "genesis_files" in data and tree_digest(data["genesis_files"]) != data["genesis"]:
        return "the first body's digest is not that of its files"
    return _charter(state, data)


def _charter(state: State, data: Mapping[str, Any]) -> str:
    for name in ("charter", "constitution"):
        text = data.get(f"{name}_text")
        if text is not None and sha256(text.encode()) != data[name]:
            return f"the digest of the {name} is not that of its text"
    return ""


def _commit(state: State, data: Mapping[str, Any]) -> str:
    limit = rules.next_threshold(state)
    if data["test"] != len(state.tests) + 1 or abs(data["threshold"] / limit - 1) > 1e-9:
        return "the test's number or threshold does not follow"
    if data["champion"] != state.lineage.champion:
        return "the champion of the test is not the champion"
    if data["plan"].get("exact", {}) != rules.exact_suites(state):
        return "the suites that the plan calls exact are not those that were founded as exact"
    if "files" in data and tree_digest(data["files"]) != data["child"]:
        return "the child's digest is not that of its files"
    return ""


def _verdict(state: State, data: Mapping[str, Any]) -> str:
    decision, _ = state.trials[data["test"]].decide(state.genesis_tokens)
    told = Decision(data["decision"])
    if told is not Decision.INSUFFICIENT and told is not decision:
        return f"the batches give {decision.value if decision else 'no decision'}, the entry says {told.value}"
    return ""


def _promotion(state: State, data: Mapping[str, Any]) -> str:
    trial = state.trials[data["test"]]
    if trial.decision is not Decision.PROMOTE or trial.promoted or trial.child != data["digest"]:
        return "a promotion without a PROMOTE verdict of that child"
    if data["former"] != state.lineage.champion:
        return "the former champion is not the champion"
    return ""
