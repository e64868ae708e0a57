import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from upwright.warden.bets import KELLY, Mixture, Star, grid, log_path, star_path

differences = st.lists(st.floats(-1, 1), min_size=1, max_size=40)
directions = st.one_of(
    st.just((1, 0.0)),
    st.floats(0.001, 0.999).flatmap(lambda e: st.sampled_from([(1, e), (-1, e), (-1, -e)])),
)
goals = st.tuples(st.floats(0.0, 15.0), st.integers(1, 60))


def star(d, direction, goal):
    return Star(*direction, *goal).update(d)


@given(differences, directions, goals)
def test_factors_and_wealth_stay_positive(d, direction, goal):
    sign, shift = direction
    factors = 1 + grid(sign, shift)[:, None] * sign * (np.array(d) + shift)[None, :]
    assert factors.min() >= 0.1 - 1e-12
    assert math.isfinite(Mixture(sign, shift).update(d).log_e)
    path = np.diff(star_path(np.array(d), *goal, sign, shift), prepend=0.0)
    assert np.exp(path).min() >= 0.1 - 1e-12


@given(differences, differences, directions, goals)
def test_batches_do_not_change_the_evidence(a, b, direction, goal):
    whole, parts = Mixture(*direction).update(a + b), Mixture(*direction).update(a).update(b)
    assert whole.n == parts.n == len(a + b)
    assert whole.log_e == pytest.approx(parts.log_e, abs=1e-9)
    assert log_path(np.array(a + b), *direction)[-1] == pytest.approx(whole.log_e, abs=1e-9)
    assert star(a + b, direction, goal) == star(a, direction, goal).update(b)


@given(differences, directions, goals)
def test_many_processes_at_once_are_the_one(d, direction, goal):
    path = star_path(np.array([d, d]), *goal, *direction)
    for k in range(1, len(d) + 1):
        assert path[:, k - 1] == pytest.approx(star(d[:k], direction, goal).log_e, abs=1e-9)


def test_the_mixture_is_the_mean_of_the_products():
    d = np.array([1, -1, 0.5, 0, 1])
    plain = np.mean([np.prod(1 + lam * d) for lam in grid()])
    assert Mixture().update(d).log_e == pytest.approx(math.log(plain))


def bet(past, wealth, goal, n_max, worst, best):
    """The bet written down once more, from the whole past and in plain wealth."""
    squares = 1 + sum(y * y for y in past)
    chase = math.sqrt(2 * math.log(goal / wealth) / ((n_max - len(past)) * squares / (4 + len(past))))
    return min(max(chase, 0.75 * sum(past) / squares), 0.9 / worst, (1.01 * goal / wealth - 1) / best)


@pytest.mark.parametrize(("sign", "shift"), [(1, 0.0), (1, 0.2), (-1, -0.1), (-1, 0.2)])
def test_star_is_the_product_of_its_bets(sign, shift):
    rng = np.random.default_rng(3)
    for _ in range(20):
        d = rng.choice([-1.0, 0.0, 0.3, 1.0], p=[0.2, 0.3, 0.2, 0.3] if sign > 0 else [0.4, 0.3, 0.1, 0.2], size=40)
        past, wealth = [], 1.0
        for x in d:
            y = sign * (x + shift)
            if wealth < 30:
                wealth *= 1 + bet(past, wealth, 30.0, 48, 1 - sign * shift, 1 + sign * shift) * y
            past.append(y)
        assert Star(sign, shift, math.log(30), 48).update(d).log_e == pytest.approx(math.log(wealth))


@pytest.mark.parametrize(("sign", "shift"), [(1, 0.0), (1, 0.25), (-1, -0.25), (-1, 0.25)])
@pytest.mark.parametrize("goal", [2.0, 40.0])
def test_expected_wealth_is_one_on_the_boundary_of_the_null(sign, shift, goal):
    """Exact: over every path of eight tasks on three values whose mean is the boundary, however often they tie."""
    mean = Fraction(-shift)
    for ties in (Fraction(0), Fraction(1, 3)):
        chances = {1.0: (1 - ties + mean) / 2, 0.0: ties, -1.0: (1 - ties - mean) / 2}
        paths = np.array(list(product(chances, repeat=8)))
        weights = np.array([math.prod(float(chances[x]) for x in path) for path in paths])
        expected = weights @ np.exp(star_path(paths, math.log(goal), 8, sign, shift))
        assert expected == pytest.approx(np.ones(8))


def test_ville_holds_where_tasks_depend_on_each_other():
    """A foe who sees the past: doubtful tasks while behind, sure ties when ahead, and swings of every size between."""
    rng, runs, n, goal = np.random.default_rng(5), 6000, 128, math.log(20)
    for foe in ("swings", "ties when ahead", "rare losses", "grows"):
        d, lead = np.zeros((runs, n)), np.zeros(runs)
        for t in range(n):
            size = {
                "swings": np.where(lead > 0, 0.2, 1.0),
                "ties when ahead": np.where(lead > 4, 0.0, 1.0),
                "rare losses": np.ones(runs),
                "grows": np.full(runs, (t + 1) / n),
            }[foe]
            up = 0.05 if foe == "rare losses" else 1.0
            d[:, t] = np.where(rng.random(runs) < 1 / (1 + up), up, -1.0) * size
            lead += d[:, t]
        ever = int((star_path(d, goal, n).max(axis=1) >= goal).sum())
        assert ever <= binom.ppf(0.9999, runs, 0.05), foe


def test_it_is_as_strong_as_a_test_of_fixed_size():
    """Power within 0.1 of what no test of 256 tasks exceeds, and far above the mixture's (0.45)."""
    rng = np.random.default_rng(7)
    u = rng.random((2000, 256))
    d = (u < 0.2).astype(float) - (u > 0.9)  # discordant 0.3, mean 0.1
    goal = math.log(40)
    power = (star_path(d, goal, 256)[:, -1] >= goal).mean()
    z = d.sum(axis=1) / np.sqrt((d**2).sum(axis=1))
    assert power >= (z > 1.96).mean() - 0.1
    assert power >= (log_path(d).max(axis=1) >= goal).mean() + 0.25


def test_at_its_goal_it_rests():
    done = Star(1, 0.0, math.log(20), 64).update([1.0] * 40)
    assert math.log(20) <= done.log_e <= math.log(20 * 1.02)
    assert done.update([-1.0] * 20).log_e == done.log_e
    assert done.update([-1.0] * 20).n == 60
    assert 0 < KELLY <= 1


@pytest.mark.parametrize("bad", [1.01, -2, math.nan, math.inf])
def test_impossible_differences_are_refused(bad):
    for process in (Mixture(), Star(1, 0.0, 3.0, 64)):
        with pytest.raises(ValueError, match="-1, 1"):
            process.update([bad])
        assert process.update([]) == process
