from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from upwright.evolution.elites import LEVEL, Estimate, Rule, Verdict, better, judge, spent, t_quantile

EXACT, NOISY = Rule(True), Rule(False)
NONE = -math.inf


def test_an_exact_gain_is_run_once_more() -> None:
    best = Estimate(0.5)
    assert judge([0.4], best, NONE, 0, EXACT) == Verdict(1, estimate=Estimate(0.4))
    assert judge([0.6], best, NONE, 0, EXACT) == Verdict(2)
    assert judge([0.6, 0.6], best, NONE, 0, EXACT) == Verdict(2, True, estimate=Estimate(0.6))
    assert judge([0.5], best, NONE, 0, EXACT).best is False, "as good is not better"
    assert judge([None], best, NONE, 0, EXACT) == Verdict(1)
    assert judge([0.3], None, NONE, 0, EXACT) == Verdict(2)
    assert judge([0.3, 0.3], None, NONE, 0, EXACT).best


def test_one_that_does_not_repeat_is_measured_as_a_noisy_one() -> None:
    assert judge([0.9, 0.1], Estimate(0.5), NONE, 0, EXACT) == Verdict(2, estimate=Estimate(0.1))
    assert judge([0.9, 0.8], Estimate(0.5), NONE, 0, EXACT).runs > 2
    assert judge([0.9, None], Estimate(0.5), NONE, 0, EXACT) == Verdict(2, estimate=Estimate(0.0))


def measured(scores: list[float], best: Estimate, occupant: float = NONE, tests: int = 0) -> Verdict:
    """The verdict once all that it asks for was measured."""
    for runs in range(1, len(scores) + 1):
        verdict = judge(scores[:runs], best, occupant, tests, NOISY)
        if verdict.runs <= runs:
            return verdict
    raise AssertionError("it wants more runs than there are")


def test_luck_ends_as_soon_as_it_shows() -> None:
    best = Estimate.of([0.5, 0.51, 0.49, 0.5])
    assert measured([0.45], best) == Verdict(1, estimate=Estimate(0.45))
    assert measured([0.9, 0.4], best).runs == 2
    assert measured([0.9, 0.6, 0.4, 0.4, 0.4], best).runs == 5
    verdict = measured([0.9] * 5 + [0.5] * 8, best)
    assert (verdict.runs, verdict.best, verdict.tested) == (13, False, True), "only the last ones count"


def test_a_real_gain_becomes_the_best() -> None:
    rng = random.Random(0)
    best = Estimate.of([rng.gauss(0.5, 0.02) for _ in range(8)])
    verdict = measured([rng.gauss(0.6, 0.02) for _ in range(13)], best)
    assert verdict.best
    assert verdict.estimate is not None
    assert verdict.estimate.runs == 8


def test_a_cell_is_taken_on_a_fresh_seed() -> None:
    best = Estimate.of([0.8] * 8)
    assert judge([0.6], best, 0.5, 0, NOISY) == Verdict(2)
    assert judge([0.6, 0.4], best, 0.5, 0, NOISY).estimate == Estimate(0.4)
    assert judge([0.4], best, 0.5, 0, NOISY) == Verdict(1, estimate=Estimate(0.4))
    assert judge([0.6], best, NONE, 0, NOISY) == Verdict(1, estimate=Estimate(0.6))


def test_in_pure_noise_hardly_any_search_finds_a_better_one() -> None:
    """Of 60 searches of 200 candidates at most 3 are wrong on average; 10 or more have a chance below 0.2 %."""
    wrong = 0
    for seed in range(60):
        rng = random.Random(seed)
        best, tests = Estimate.of([rng.gauss(0, 1) for _ in range(8)]), 0
        for _ in range(200):
            scores: list[float | None] = [rng.gauss(0, 1)]
            while (verdict := judge(scores, best, NONE, tests, NOISY)).runs > len(scores):
                scores += [rng.gauss(0, 1) for _ in range(verdict.runs - len(scores))]
            tests += verdict.tested
            if verdict.best:
                wrong += 1
                break
    assert wrong < 10


@given(st.floats(0.9, 0.9999), st.integers(7, 60))
@settings(deadline=None)
def test_quantiles(p: float, freedom: int) -> None:
    assert t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=0.01)


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=12), st.lists(st.floats(-5, 5), min_size=5, max_size=12))
@settings(deadline=None)
def test_better_is_the_pooled_t_test(one: list[float], other: list[float]) -> None:
    if max(*one, *other) - min(*one, *other) < 1e-3:
        return
    p = stats.ttest_ind(one, other, alternative="greater").pvalue
    if abs(p - 0.03) > 1e-3:
        assert better(Estimate.of(one), Estimate.of(other), 0.03) == (p < 0.03)


def test_scores_that_never_vary_need_no_spread() -> None:
    assert better(Estimate.of([0.51] * 8), Estimate.of([0.5] * 8), 0.001)
    assert not better(Estimate.of([0.5] * 8), Estimate.of([0.5] * 8), 0.05)


def test_all_tests_together_spend_the_level() -> None:
    assert sum(spent(k) for k in range(1, 100_000)) == pytest.approx(LEVEL, rel=1e-4)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(deadline=None)
def test_estimates(scores: list[float]) -> None:
    found = Estimate.of(scores)
    assert found.stderr == pytest.approx(stats.sem(scores), abs=1e-12)
    assert Estimate(0.3).stderr == 0.0
