import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from online_fdr.core.abstract.abstract_gamma_seq import AbstractGammaSequence
from online_fdr.e_values.sequential import ELond

from upwright.warden.gate import Betting, Decision, Gate, Stream, confidence_sequence, grid, log_path, wilson
from upwright.warden.spending import gamma, threshold

differences = st.lists(st.floats(-1, 1), min_size=1, max_size=40)
directions = st.one_of(
    st.just((1, 0.0)),
    st.floats(0.001, 0.999).flatmap(lambda e: st.sampled_from([(1, e), (-1, e), (-1, -e)])),
)


@given(differences, directions)
def test_factors_and_wealth_stay_positive(d, direction):
    sign, shift = direction
    factors = 1 + grid(sign, shift)[:, None] * sign * (np.array(d) + shift)[None, :]
    assert factors.min() >= 0.1 - 1e-12
    assert math.isfinite(Betting(sign, shift).update(d).log_e)


@given(differences, differences, directions)
def test_batches_do_not_change_the_evidence(a, b, direction):
    whole, parts = Betting(*direction).update(a + b), Betting(*direction).update(a).update(b)
    assert whole.n == parts.n == len(a + b)
    assert whole.log_e == pytest.approx(parts.log_e, abs=1e-9)
    assert log_path(np.array(a + b), *direction)[-1] == pytest.approx(whole.log_e, abs=1e-9)


def test_the_e_value_is_the_mean_of_the_products():
    d = np.array([1, -1, 0.5, 0, 1])
    plain = np.mean([np.prod(1 + lam * d) for lam in grid()])
    assert Betting().update(d).log_e == pytest.approx(math.log(plain))


@pytest.mark.parametrize(("sign", "shift", "mean"), [(1, 0.0, 0.0), (1, 0.2, -0.2), (-1, -0.1, 0.1), (-1, 0.2, -0.2)])
def test_expected_wealth_is_one_on_the_boundary_of_the_null(sign, shift, mean):
    """Exact: over the two-point distribution with this mean, each factor has expectation one."""
    up = (1 + mean) / 2
    lam = grid(sign, shift)
    expected = up * (1 + lam * sign * (1 + shift)) + (1 - up) * (1 + lam * sign * (-1 + shift))
    assert expected == pytest.approx(np.ones_like(lam))


@pytest.mark.parametrize("bad", [1.01, -2, math.nan, math.inf])
def test_impossible_differences_are_refused(bad):
    with pytest.raises(ValueError, match="-1, 1"):
        Betting().update([bad])


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
    s = Stream.superiority(0.05).update([1, -1, 0, 0.5])
    assert (s.wins, s.losses, s.ties, s.total, s.squares, s.n) == (2, 1, 1, 0.5, 2.25, 4)


def test_confidence_sequences_cover_and_shrink():
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(100):
        d = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=128)
        low, high = confidence_sequence(d, 0.9)
        missed += not low <= 0.2 <= high
    assert missed <= 10
    wide, narrow = confidence_sequence([0.5] * 10, low=0), confidence_sequence([0.5] * 400, low=0)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert confidence_sequence([]) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="lie in"):
        confidence_sequence([2.0])


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
def test_the_sample_mean_or_near_it_is_inside(d):
    low, high = confidence_sequence(d)
    assert -1 <= low <= high <= 1


def test_wilson():
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)  # Wilson 1927, as in statsmodels
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
