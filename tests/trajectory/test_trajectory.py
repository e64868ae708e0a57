"""The account of the curve, tested by simulation against curves whose bend is known."""

import math

import numpy as np
import pytest

from upwright.errors import UpwrightError
from upwright.trajectory import MINIMUM, ConfirmedPoint, account
from upwright.trajectory.curve import ERRORS, SCORE, bend, line
from upwright.trajectory.curve import ODDS as LOG_ODDS

Z = 1.959964


def points(truth, error=0.01, rng=None, seconds=100.0):
    made = []
    for i, t in enumerate(truth):
        s = float(np.clip(t + (rng.normal(0, error) if rng else 0.0), 0.0, 1.0))
        made.append(ConfirmedPoint(i, s, max(0.0, s - Z * error), min(1.0, s + Z * error), i * seconds))
    return made


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


LINE = [0.30 + 0.04 * i for i in range(9)]
FLAT = [0.7 - 0.4 * math.exp(-0.7 * i) for i in range(9)]
FAST = [0.2 + 0.006 * i * i for i in range(9)]
HALVING = [1 - 0.4 * 0.6**i for i in range(9)]  # errors shrink by the same share: a ceiling, not a plateau
ODDS = [sigmoid(-3 + 0.35 * i) for i in range(9)]  # steady in log-odds, from near the floor: no compounding
NOTHING = [0.4] * 9


@pytest.mark.parametrize(
    ("truth", "kind"),
    [
        (LINE, "steady"),
        (FLAT, "flattening"),
        (FAST, "compounding"),
        (HALVING, "steady"),
        (ODDS, "steady"),
        (NOTHING, "steady"),
    ],
)
def test_exact_curves_are_called_what_they_are(truth, kind):
    assert account(points(truth, error=0.004)).kind == kind


@pytest.mark.parametrize("truth", [LINE, NOTHING, HALVING, ODDS])
def test_a_bend_is_rarely_claimed_where_there_is_none(truth):
    rng = np.random.default_rng(3)
    kinds = [account(points(truth, 0.02, rng)).kind for _ in range(100)]
    assert sum(k != "steady" for k in kinds) / 100 < 0.08


@pytest.mark.parametrize(("truth", "kind"), [(FLAT, "flattening"), (FAST, "compounding")])
def test_a_real_bend_is_mostly_found(truth, kind):
    rng = np.random.default_rng(4)
    kinds = [account(points(truth, 0.015, rng)).kind for _ in range(60)]
    assert kinds.count(kind) > 42


def test_wide_intervals_claim_nothing():
    found = account(points(FLAT, error=0.15))
    assert found.kind == "steady"
    assert "chance" in found.sentence or "do not show" in found.sentence


def test_few_points_are_too_early():
    assert account([]).gain_per_generation is None
    for n in range(MINIMUM):
        assert account(points(FLAT[:n], 0.001)).kind == "too early"
    two = account(points(LINE[:2]))
    assert two.gain_per_generation == pytest.approx(0.04)
    assert two.slope is not None
    assert "at least 3" in two.sentence
    assert account(points([0.3, 0.6, 0.62], 0.01)).kind == "flattening"


def test_gains_are_slopes():
    found = account(points(LINE, seconds=250.0))
    assert found.gain_per_generation == pytest.approx(0.04)
    assert found.gain_per_1000_s == pytest.approx(0.16)
    assert "+4.0 points per generation" in found.sentence
    assert (
        account([ConfirmedPoint(p.generation, p.score, p.low, p.high, 0.0) for p in points(LINE)]).gain_per_1000_s
        is None
    )


def test_the_slopes_interval_covers():
    rng = np.random.default_rng(5)
    hits = [(i := account(points(LINE, 0.02, rng)).slope).low <= 0.04 <= i.high for _ in range(200)]
    assert np.mean(hits) > 0.92


def test_the_fits_are_numpys():
    rng = np.random.default_rng(6)
    x, error = np.array([0.0, 1, 3, 4, 7]), np.array([0.1, 0.2, 0.1, 0.3, 0.1])
    y = 0.2 + 0.03 * x - 0.004 * x * x + rng.normal(0, 0.01, 5)
    args = (x.tolist(), y.tolist(), error.tolist())
    fit, cov = np.polyfit(x, y, 1, w=1 / error, cov="unscaled")
    found = line(*args)
    assert found.slope == pytest.approx(fit[0], rel=1e-9)
    assert (found.interval.high - found.interval.low) / (2 * Z) == pytest.approx(math.sqrt(cov[0, 0]), rel=1e-6)
    fit, cov = np.polyfit(x, y, 2, w=1 / error, cov="unscaled")
    assert bend(*args) == pytest.approx(fit[0] / math.sqrt(cov[0, 0]), rel=1e-6)


@pytest.mark.parametrize(("scale", "truth"), [(SCORE, LINE), (ERRORS, HALVING), (LOG_ODDS, ODDS)])
def test_growth_that_is_straight_on_its_scale_bends_nowhere_else_than_it_should(scale, truth):
    x, error = list(range(9)), [0.01] * 9
    assert bend(x, truth, error, scale) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("scale", [ERRORS, LOG_ODDS])
def test_bends_are_finite_at_the_ends(scale):
    for y in ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.5, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0]):
        assert math.isfinite(bend([0, 1, 2, 3], y, [1e-6] * 4, scale))
    assert account(points([0.9, 1.0, 1.0, 1.0], 0.0)).kind in ("steady", "flattening")


@pytest.mark.parametrize(
    "wrong",
    [
        [ConfirmedPoint(1, 0.5, 0.4, 0.6, 0), ConfirmedPoint(1, 0.5, 0.4, 0.6, 0)],
        [ConfirmedPoint(0, 0.5, 0.6, 0.7, 0)],
        [ConfirmedPoint(0, 1.5, 0.6, 1.7, 0)],
        [ConfirmedPoint(0, math.nan, 0.6, 0.7, 0)],
        [ConfirmedPoint(0, 0.5, 0.4, 0.7, math.nan)],
    ],
)
def test_points_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UpwrightError, match="confirmed point"):
        account(wrong)
