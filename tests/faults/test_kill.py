"""``kill -9`` of a run inside every verb: nothing committed is lost, and it ends as if nothing had been."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

import runs
from faults.processes import KILL, Trap, before_its_row, coached, fork, somewhere_in, strike, with_its_row
from upwright.loop import Limits, run
from upwright.project import VERBS, Project
from upwright.records import derive_seed
from upwright.warden.door import read_state


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    project = runs.copy(tmp_path_factory.mktemp("undisturbed") / "demo")
    runs.go(project)
    return outcome(project)


def outcome(project: Project) -> tuple[Any, ...]:
    state = read_state(project.warden)
    return state["champion"], runs.journal(project), runs.evidence(project)


def drive(project: Project, trap: Trap | None) -> int:
    """One start of the run in its own process, with its warden in another."""
    with pytest.MonkeyPatch.context() as patch:
        coached(patch, trap)
        limits = Limits(rounds=2 if trap else None)
        return fork(lambda: run(project, limits=limits), project.root / "driver.log")


def committed(project: Project) -> tuple[list[Any], list[Any]]:
    """Journal rows and ledger entries so far."""
    rows = [(verb, row) for verb, rows in runs.journal(project).items() for row in rows]
    return rows, runs.evidence(project)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_inside(verb: str, tmp_path: Path, undisturbed: tuple[Any, ...]) -> None:
    """Up to four deaths inside the verb: at random moments, just before its row is written, and just after."""
    project = runs.copy(tmp_path / "demo")
    rng = random.Random(derive_seed("kill", verb))
    longest = {"evaluate": 0.02, "prove": 0.1, "promote": 0.02}.get(verb, 0.002)
    traps = [
        somewhere_in(verb, KILL, rng.uniform(0, longest)),
        before_its_row(verb, KILL),
        somewhere_in(verb, KILL, rng.uniform(0, longest), nth=2),
        with_its_row(verb, KILL),
    ]
    deaths = 0
    for trap in traps:
        before = committed(project)
        deaths += drive(project, trap) == -KILL
        after = committed(project)
        assert all(row in after[0] for row in before[0]), "a row was lost"
        assert after[1][: len(before[1])] == before[1], "an entry was lost"
    assert deaths >= 2
    assert drive(project, None) == 0, (project.root / "driver.log").read_text()
    runs.check(project)
    assert outcome(project) == undisturbed
    shown = (project.champion_path / "prompt.md").read_bytes()
    assert shown == (project.state / "store" / "checkouts" / undisturbed[0] / "prompt.md").read_bytes()


def test_killed_between_promotion_and_confirmation(tmp_path: Path, undisturbed: tuple[Any, ...]) -> None:
    """The champion has moved, nothing says so in the journal: it moves once."""
    project = runs.copy(tmp_path / "demo")

    def trap(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(sys.modules["upwright.promote"], "drive", lambda *_: strike(KILL))

    assert drive(project, trap) == -KILL
    state = read_state(project.warden)
    assert len(state["promotions"]) == 1
    assert not state["tests"][0]["confirmed"]
    assert drive(project, None) == 0
    assert outcome(project) == undisturbed
    runs.check(project)
