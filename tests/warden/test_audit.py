"""Ledgers of earlier versions must verify for ever, by the rules that were in force when each test was committed."""

from dataclasses import replace
from pathlib import Path

import pytest

from upwright.warden import ledger
from upwright.warden.audit import verify_home
from upwright.warden.bets import Mixture, Star
from upwright.warden.bounds import confidence_sequence, star_interval
from upwright.warden.kernel import Warden
from upwright.warden.state import State

from .world import GENESIS, PROPOSAL, child_of, drive, knows, make_home

GRID = Path(__file__).parent / "ledgers" / "grid"
"""Written before plans named their bets: two rejections, a promotion with its confirmation, an opening of the vault."""


def fold(home):
    entries = ledger.read(home / ledger.FILE)
    return State.fold(entries), {
        kind: [e.data for e in entries if e.kind == kind] for kind in ("verdict", "confirmed", "vault")
    }


def differences(trial, phase):
    return [i.child - i.champion for i in trial.items[phase]]


def test_a_ledger_of_the_first_version_is_recomputed_by_its_own_rules():
    assert verify_home(GRID).ok
    state, facts = fold(GRID)
    assert [v["decision"] for v in facts["verdict"]] == ["REJECT", "REJECT", "PROMOTE"]
    for verdict in facts["verdict"]:
        trial = state.trials[verdict["test"]]
        assert isinstance(trial.gate.objective.pro, Mixture)
        assert trial.evidence()["log_e"] == pytest.approx(verdict["log_e"], abs=1e-9)
    for phase, told in (("confirm", facts["confirmed"][0]), ("vault", facts["vault"][0])):
        trial = replace(state.trials[told["test"]], reported=False)
        assert trial.gain_report()["gain_interval"] == pytest.approx(told["gain_interval"])
        assert told["gain_interval"] == pytest.approx(confidence_sequence(differences(trial, phase)))


def test_a_ledger_of_this_version_names_its_bets_and_its_interval(tmp_path):
    home, child, genesis = make_home(tmp_path), child_of("better"), GENESIS["digest"]
    warden = Warden(home)
    bodies = {genesis: knows(0.3, "genesis"), child["digest"]: knows(0.9, "child")}
    test = warden.commit(child, GENESIS["files"], PROPOSAL, genesis)
    drive(warden, test, bodies)
    warden.promote(test)
    drive(warden, test, bodies)
    warden.close()
    assert verify_home(home).ok
    state, facts = fold(home)
    trial, told = state.trials[test], facts["confirmed"][0]
    assert (trial.plan["bets"], trial.plan["interval"]) == ("star", "star")
    assert isinstance(trial.gate.objective.pro, Star)
    assert (facts["verdict"][0]["bets"], told["interval_method"]) == ("star", "star")
    assert told["gain_interval"] == pytest.approx(star_interval(differences(trial, "confirm")))
    assert told["former"]["interval"] == pytest.approx(
        star_interval([i.champion for i in trial.items["confirm"]], low=0)
    )
