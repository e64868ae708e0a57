import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta as beta_distribution
from scipy.stats import binom

from upwright.warden.bets import star_path
from upwright.warden.bounds import confidence_sequence, interval, star_interval, wilson

values = st.lists(st.floats(-1, 1), min_size=1, max_size=60)


def three(rng, size, win, loss):
    u = rng.random(size)
    return (u < win).astype(float) - (u > 1 - loss)


CELLS = {
    "many ties": (0.0, lambda rng, size: three(rng, size, 0.03, 0.03)),
    "three in ten differ": (0.1, lambda rng, size: three(rng, size, 0.2, 0.1)),
    "all differ": (0.1, lambda rng, size: three(rng, size, 0.55, 0.45)),
    "large gain": (0.7, lambda rng, size: three(rng, size, 0.75, 0.05)),
    "rare losses": (0.0, lambda rng, size: np.where(rng.random(size) < 1 / 51, -1.0, 0.02)),
    "rare gains": (0.0, lambda rng, size: np.where(rng.random(size) < 1 / 51, 1.0, -0.02)),
    "graded, skewed": (0.5, lambda rng, size: rng.beta(4, 1, size) - rng.beta(0.3, 0.7, size)),
    "graded, small": (0.02, lambda rng, size: rng.uniform(-0.1, 0.14, size)),
}


@pytest.mark.parametrize("n", [16, 96, 192])
@pytest.mark.parametrize("cell", CELLS)
def test_the_interval_covers(cell, n):
    """By the two tests of the true mean that the interval inverts (it misses only if one rejects): 4,000 runs each."""
    mean, draw = CELLS[cell]
    d, goal = draw(np.random.default_rng(1), (4000, n)), math.log(40)
    up, down = (star_path(d, goal, n, sign, -mean, kelly=0.0)[:, -1] >= goal for sign in (1, -1))
    assert (up | down).sum() <= binom.ppf(0.9999, 4000, 0.05)


@pytest.mark.parametrize("cell", ["three in ten differ", "rare losses", "graded, skewed"])
def test_the_interval_itself_covers(cell):
    mean, draw = CELLS[cell]
    ends = [star_interval(row) for row in draw(np.random.default_rng(2), (150, 96))]
    assert sum(not low <= mean <= high for low, high in ends) <= binom.ppf(0.999, 150, 0.05)


@settings(max_examples=25, deadline=None)
@given(values, st.sampled_from([0.8, 0.95]))
def test_the_ends_invert_the_tests(d, level):
    """One step inside either end the test, run by itself, does not reject; at every grid point outside it does."""
    low, high = star_interval(d, level)
    assert -1 <= low <= np.mean(d) <= high <= 1
    goal, grid = math.log(2 / (1 - level)), np.linspace(-1, 1, 2001)
    for sign, end in ((1, low), (-1, high)):
        reject = [star_path(np.array(d), goal, len(d), sign, -m, kelly=0.0)[-1] >= goal for m in grid[1:-1:40]]
        outside = [m < end if sign > 0 else m > end for m in grid[1:-1:40]]
        assert all(r for r, o in zip(reject, outside, strict=True) if o)


def test_it_is_narrow():
    """Three in ten differ, 192 tasks: by a fifth and more within the sequence, at most an eighth wider than Wald's."""
    d = three(np.random.default_rng(3), (12, 192), 0.2, 0.1)
    ours, before = (np.mean([np.diff(f(row)) for row in d]) for f in (star_interval, confidence_sequence))
    wald = np.mean(2 * 1.96 * d.std(axis=1, ddof=1) / math.sqrt(192))
    assert ours <= 0.8 * before
    assert wald <= ours <= 1.125 * wald


def test_it_comes_near_the_exact_interval_of_a_proportion():
    """Oracle: Clopper & Pearson 1934."""
    for k in (0, 3, 40, 96, 190):
        d = np.random.default_rng(k).permutation([1.0] * k + [0.0] * (192 - k))
        low, high = star_interval(d, low=0.0)
        exact = [beta_distribution.ppf(0.025, k, 193 - k) if k else 0.0, beta_distribution.ppf(0.975, k + 1, 192 - k)]
        assert high - low <= 1.35 * (exact[1] - exact[0]), k
        assert low <= k / 192 <= high


def test_scales_and_signs():
    d = np.random.default_rng(4).uniform(-1, 1, 50)
    low, high = star_interval(d)
    assert star_interval(-d) == pytest.approx((-high, -low))
    assert star_interval((d + 1) / 2, low=0.0) == pytest.approx(((low + 1) / 2, (high + 1) / 2))
    assert star_interval([]) == (-1.0, 1.0)
    assert star_interval([], low=0.0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="lie in"):
        star_interval([math.nan])
    with pytest.raises(ValueError, match="lie in"):
        star_interval([-0.1], low=0.0)


def test_intervals_are_known_by_name():
    d = [0.5, -0.25, 1.0]
    assert interval("star", d) == star_interval(d)
    assert interval("sequence", d) == confidence_sequence(d)
    with pytest.raises(ValueError, match="later version"):
        interval("moon", d)


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
@given(values)
def test_a_sequence_has_two_ends(d):
    low, high = confidence_sequence(d)
    assert -1 <= low <= high <= 1


def test_wilson():
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)  # Wilson 1927, as in statsmodels
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
