"""The warden's rules about who may do what and when: checks that raise :class:`Refusal`, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from upwright.warden.bounds import INTERVAL
from upwright.warden.canon import canonical_json, tree_digest
from upwright.warden.champion import MACHINES
from upwright.warden.errors import Refusal
from upwright.warden.exact import planned
from upwright.warden.founding import check_body
from upwright.warden.gate import BETS, Decision
from upwright.warden.spending import threshold
from upwright.warden.state import State
from upwright.warden.trial import Trial

NOTES = frozenset({"screened", "waiver", "alarm", "calibration", "experiment"})
MOST_NOTE = 64 * 1024
MOST_PROPOSAL = 1024 * 1024


def running(state: State) -> None:
    """Refuse while the run is stopped."""
    if state.stopped is not None:
        raise Refusal("the run was stopped", code="stopped", value=state.stopped, todo="resume it")


def person(by: object) -> None:
    """Refuse a call that only a person may make when no person is named."""
    if not isinstance(by, str) or not by.strip() or by in MACHINES:
        raise Refusal("this call needs the name of a person", code="approval", value=by, todo="pass by=NAME")


def plan(state: State) -> dict[str, Any]:
    """The settings that a test is committed with; later amendments do not touch them."""
    charter = state.charter
    settings = {
        "objective": charter.objective,
        "protected": dict(charter.protected),
        "minimum_gain": charter.minimum_gain,
        "beta": charter.beta,
        "error_rate": charter.error_rate,
        "error_control": charter.error_control,
        "forbid_text": list(charter.invariants.forbid_text),
        "max_token_ratio": charter.invariants.max_token_ratio,
        "charter": charter.digest,
        "bets": BETS,
        "interval": INTERVAL,
        **asdict(charter.sealed),
    }
    if state.runs_programs:  # each task is a run, and each answer a whole program: batches stay small
        settings["whole"] = charter.sealed.batch
    exact = exact_suites(state)
    return {**settings, "exact": exact} if exact else settings


def exact_suites(state: State) -> dict[str, dict[str, int]]:
    """Those of the charter's suites whose metric was found to repeat exactly when the project was founded."""
    charter = state.charter
    return planned(state.founding["suites"], (charter.objective, *charter.protected))


def next_threshold(state: State) -> float:
    """The e-value that the next test must reach: 1, which every test has, where all suites are exact."""
    charter = state.charter
    if set(exact_suites(state)) == {charter.objective, *charter.protected}:
        return 1.0
    tests, promotions = state.spending
    return threshold(charter.error_rate, tests + 1, promotions, charter.error_control)


def committed_before(state: State, child: Mapping[str, Any], proposal: str, champion: str) -> int | None:
    """The test of exactly this commit, if it is open or decided; ``None`` for a new one.

    So a killed run that commits again goes on, or hears the same word again. A test without enough
    evidence may be committed anew, and spends anew.

    Raises:
        Refusal: the same child was decided under another proposal.
    """
    digest = child.get("digest") if isinstance(child, Mapping) else None
    same = [t for t in state.tests if t.child == digest and t.champion == champion]
    for t in reversed(same):
        if t.decision is None or (t.decision is not Decision.INSUFFICIENT and t.proposal == proposal and not t.refused):
            return t.number
    if any(t.decision is not Decision.INSUFFICIENT and not t.refused for t in same):
        raise Refusal("this child was decided before", code="decided", value=digest, todo="propose something else")
    return None


def check_child(
    state: State, child: Mapping[str, Any], parent_files: Mapping[str, str], proposal: Mapping[str, Any], champion: str
) -> list[str]:
    """Paths where a child differs from the champion, sorted.

    Raises:
        Refusal: malformed, stale, or identical to the champion.
    """
    if not isinstance(child, Mapping) or not isinstance(parent_files, Mapping) or not isinstance(proposal, Mapping):
        raise Refusal(
            "commit needs a child, the champion's files and a proposal, all objects", value=type(child).__name__
        )
    check_body(child)
    if champion != state.lineage.champion:
        raise Refusal(
            "this is not the champion any more", code="stale", value=champion, todo=f"it is {state.lineage.champion}"
        )
    check_body({"digest": tree_digest({str(k): str(v) for k, v in parent_files.items()}), "files": parent_files})
    if tree_digest(parent_files) != champion:
        raise Refusal(
            "parent_files are not the champion's files", code="stale", value=champion, todo="pass the champion's"
        )
    if child["digest"] == champion:
        raise Refusal("the child is identical to the champion", code="same", value=champion, todo="propose a change")
    if len(canonical_json(proposal)) > MOST_PROPOSAL:
        raise Refusal(
            "the proposal is larger than 1 MB", value=len(canonical_json(proposal)), todo="keep data out of it"
        )
    files: Mapping[str, str] = child["files"]
    return sorted(p for p in files.keys() | parent_files.keys() if files.get(p) != parent_files.get(p))


def within_budget(state: State) -> None:
    """Refuse a new test when the charter's budget is spent."""
    budget = state.charter.budget
    spent = {"generations": len(state.lineage.promotions), "tests": len(state.tests), "tokens": state.spent_tokens}
    for name, used in spent.items():
        limit = getattr(budget, name)
        if limit is not None and used >= limit:
            raise Refusal(
                f"the charter's budget of {limit} {name} is spent", code="budget", value=used, todo="amend the charter"
            )


def may_promote(state: State, trial: Trial) -> None:
    """Refuse a promotion that has no PROMOTE verdict, is stale, waits for a person, or comes too fast."""
    if trial.number < 0 or trial.decision is not Decision.PROMOTE:
        word = trial.decision.value if trial.decision else "none yet"
        raise Refusal("only a PROMOTE verdict can be promoted", code="order", value=word, todo="finish the test")
    if trial.refused:
        raise Refusal(
            "a person refused this promotion", code="approval", value=trial.refused, todo="propose something else"
        )
    if trial.promoted or state.lineage.champion != trial.champion:
        raise Refusal(
            "the champion has changed since this test",
            code="stale",
            value=trial.champion,
            todo="commit the child again",
        )
    if state.charter.oversight == "approve" and trial.number not in state.lineage.approved:
        raise Refusal("this promotion waits for a person", code="approval", value=trial.number, todo="upwright approve")
    limit = state.charter.budget.generations
    if limit is not None and len(state.lineage.promotions) >= limit:
        raise Refusal(
            "the charter's budget of generations is spent", code="budget", value=limit, todo="amend the charter"
        )
    per_hour = state.charter.promotions_per_hour
    if per_hour is not None:
        since = datetime.now(UTC) - timedelta(hours=1)
        recent = [p for p in state.lineage.promotions if datetime.fromisoformat(p.time) > since]
        if len(recent) >= per_hour:
            raise Refusal(
                "the charter's speed limit is reached", code="speed", value=per_hour, todo="wait up to an hour"
            )


def status(state: State) -> dict[str, Any]:
    """What anybody at the door may know: pointers, counts and words; no evidence."""
    line, test = state.lineage, state.open_test
    budget = state.charter.budget
    used = {"generations": len(line.promotions), "tests": len(state.tests), "tokens": state.spent_tokens}
    waiting = [
        t.number
        for t in state.tests
        if t.decision is Decision.PROMOTE and not t.promoted and not t.refused and t.champion == line.champion
    ]
    return {
        "champion": line.champion,
        "anchor": line.anchor,
        "genesis": line.genesis,
        "tests": len(state.tests),
        "promotions": len(line.promotions),
        "open_test": test.number if test else None,
        "unpromoted": waiting,
        "awaiting_approval": [t for t in waiting if t not in line.approved and state.charter.oversight == "approve"],
        "unconfirmed": [t.number for t in state.tests if t.phase == "confirm"],
        "stopped": state.stopped,
        "oversight": state.charter.oversight,
        "charter": state.charter.digest,
        "constitution": state.constitution,
        "used": used,
        "budget": asdict(budget),
        "vault_openings": sum(n < 0 for n in state.trials),
    }
