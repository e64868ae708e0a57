import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from online_fdr.core.abstract.abstract_gamma_seq import AbstractGammaSequence
from online_fdr.e_values.sequential import ELond

from upwright.warden.bets import Mixture, Star
from upwright.warden.gate import Decision, Gate, process
from upwright.warden.spending import gamma, threshold


class Harmonic(AbstractGammaSequence):
    def __init__(self):
        super().__init__(1.0)

    def calc_gamma(self, j, **_):
        return 1 / (j * (j + 1))


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=60), st.floats(0.01, 0.3))
def test_spending_agrees_with_the_oracle(values, alpha):
    oracle, promotions = ELond(alpha, Harmonic()), 0
    for t, e in enumerate(values, 1):
        ours = e >= threshold(alpha, t, promotions)
        assert oracle.test_one(e) == ours
        promotions += ours


def test_the_error_rate_is_spent_once():
    assert sum(gamma(t) for t in range(1, 100_000)) == pytest.approx(1, abs=1e-4)
    assert threshold(0.05, 1, 0) == pytest.approx(40)
    assert threshold(0.05, 3, 2, "fwer") == pytest.approx(240)
    with pytest.raises(ValueError, match="counted from 1"):
        gamma(0)


def gate(margins=None, versus=("champion",)):
    return Gate.start(40, 0.1, 0.1, 64, margins or {}, versus)


def test_the_objective_comes_first_and_each_suite_stops_at_its_crossing():
    g = gate({"basics": 0.2}, ("champion", "anchor"))
    assert g.open_suites("desk") == ("desk",)
    g = g.add_objective([1.0] * 16)
    assert g.open_suites("desk") == ("basics",)
    assert g.add_objective([-1.0] * 64).objective.n == 16
    g = g.add_protected("basics", "champion", [0.0, 1.0] * 16)
    assert g.open_suites("desk") == ("basics",)
    assert g.decide()[0] is None
    g = g.add_protected("basics", "anchor", [0.0, 1.0] * 16)
    assert g.open_suites("desk") == ()
    assert g.decide()[0] is Decision.PROMOTE
    assert g.log_e == min(g.objective.pro.log_e, *(s.pro.log_e for s in g.protected.values()))


def test_reasons_are_plain_words():
    word, why = gate().add_objective([-1.0, 0.6] * 30).decide()
    assert word is Decision.REJECT
    assert why == "no evidence after 60 tasks that it is at least 10 points better (mean difference -20.0 points)"
    worse = gate({"basics": 0.1}).add_objective([1.0] * 16).add_protected("basics", "champion", [-1.0] * 10)
    assert worse.decide()[0] is Decision.REJECT
    assert "worse on basics by more than 10 points" in worse.decide()[1]
    undecided = gate().add_objective([1.0, -1.0, 0.0, 0.25] * 16)
    assert undecided.decide()[0] is Decision.INSUFFICIENT
    assert gate().decide()[0] is None
    assert gate().add_objective([1.0] * 16).decide() == (
        Decision.PROMOTE,
        "better after 16 tasks (mean difference +100.0 points)",
    )


def test_a_stream_counts():
    s = gate().objective.update([1, -1, 0, 0.5])
    assert (s.wins, s.losses, s.ties, s.total, s.squares, s.n) == (2, 1, 1, 0.5, 2.25, 4)


def test_bets_are_known_by_name():
    assert isinstance(process("grid", 1, 0.0, 3.0, 64), Mixture)
    assert process("star", -1, 0.2, 3.0, 64) == Star(-1, 0.2, 3.0, 64)
    with pytest.raises(ValueError, match="later version"):
        process("moon", 1, 0.0, 3.0, 64)


def test_the_gate_goes_for_its_own_threshold_within_its_own_tasks():
    g = gate({"basics": 0.2})
    assert g.objective.pro == Star(1, 0.0, math.log(40), 64)
    assert g.objective.con == Star(-1, -0.1, -math.log(0.1), 64)
    assert g.protected["basics", "champion"].pro == Star(1, 0.2, math.log(40), 64)
    assert g.protected["basics", "champion"].con == Star(-1, 0.2, -math.log(0.1), 64)


def test_a_crossing_within_a_batch_is_kept():
    """Fifty wins and then fifty losses in one batch: the bet was won, and was not laid again."""
    g = gate().add_objective([1.0] * 50 + [-1.0] * 50)
    assert g.decide()[0] is Decision.PROMOTE
