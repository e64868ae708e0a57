"""What the gate promises, measured: the false discovery rate it holds and the tasks it needs."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from upwright.warden.gate import log_path

FILE = Path(__file__).parents[2] / "benchmarks" / "gate.py"
spec = importlib.util.spec_from_file_location("benchmarks_gate", FILE)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def test_the_shortcut_by_counts_is_the_gate():
    d = bench.draw(np.random.default_rng(0), 20, 64, 0.3, 0.2)
    for sign, shift in ((1, 0.0), (-1, -bench.GAIN)):
        plain = log_path(d.astype(float), sign, shift)[:, 15::16]
        assert bench.log_e_at_looks(d, 16, sign, shift) == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize(
    "stream",
    [
        {},
        {"discordant": 0.05},
        {"dependence": "same"},
        {"dependence": "patient", "discordant": 1.0},
        {"better": 0.2, "dependence": "same"},
    ],
    ids=str,
)
def test_the_false_discovery_rate_is_held(stream):
    """2,000 runs of 50 candidates; a rate of α would exceed the bound below once in 10,000 repeats."""
    found = bench.false_discoveries(2000, 50, **stream)
    assert found["fdr"] <= bench.ALPHA
    assert found["fdr"] <= binom.ppf(0.9999, 2000, bench.ALPHA) / 2000
    if stream.get("better"):
        assert found["promotions"] > 5, "it must also find what is there"


def test_ville_holds_at_every_look():
    """Looking after each single task, a null child exceeds 1/α at most α of the time."""
    d = bench.draw(np.random.default_rng(4), 4000, 256, 0.25, 0.25).astype(float)
    ever = (log_path(d).max(axis=1) >= math.log(20)).mean()
    assert ever <= 0.05
    inferior = bench.draw(np.random.default_rng(5), 4000, 256, 0.1, 0.2).astype(float)  # mean −0.1: on the margin
    assert (log_path(inferior, 1, 0.1).max(axis=1) >= math.log(20)).mean() <= 0.05


def test_tasks_needed():
    found = bench.needed(runs=1000)
    assert found["power"] > 0.95
    assert found["null_promoted"] <= found["error_rate"]
    assert found["share_of_mcnemar_for_minimum_gain"] <= 0.5
    assert found["mean_tasks"] >= found["sprt_mean"], "no test beats Wald's on average; else the simulation is wrong"


def test_a_child_with_the_minimum_gain_is_seldom_dropped():
    d = bench.draw(np.random.default_rng(6), 2000, 256, 0.15, 0.10)  # mean 0.05 = the minimum gain
    dropped = (bench.log_e_at_looks(d, 16, -1, -bench.GAIN) >= -math.log(bench.BETA)).any(axis=1)
    assert dropped.mean() <= bench.BETA


def test_fixed_n_mcnemar_reaches_its_power():
    n = bench.mcnemar_n(0.1, 0.2, 0.025, 0.8)
    d = bench.draw(np.random.default_rng(7), 4000, n, 0.15, 0.05)
    wins, losses = (d > 0).sum(axis=1), (d < 0).sum(axis=1)
    z = (wins - losses) / np.sqrt(np.maximum(1, wins + losses))
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.04)


def test_the_benchmark_of_the_door_runs():
    times = bench.door_times(rounds=20, tests=2)
    assert set(times) == {"round_trip_us", "commit_ms", "commit_to_verdict_ms"}
