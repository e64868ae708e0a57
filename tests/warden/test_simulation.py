"""What the gate promises, measured: the false discovery rate it holds and the tasks it needs."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from upwright.warden.bets import log_path, star_path
from upwright.warden.gate import Decision, Gate

FILE = Path(__file__).parents[2] / "benchmarks" / "gate.py"
spec = importlib.util.spec_from_file_location("benchmarks_gate", FILE)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@pytest.mark.parametrize("bets", ["star", "grid"])
def test_the_simulated_rule_is_the_gate(bets):
    d = bench.draw(np.random.default_rng(0), 60, 64, 0.35, 0.2)
    promoted, used = bench.run_tests(d, 40.0, bets=bets)
    for row, said in zip(d, zip(promoted, used, strict=True), strict=True):
        gate, n = Gate.start(40.0, bench.BETA, bench.GAIN, 64, {}, (), bets), 0
        while (word := gate.decide()[0]) is None:
            gate, n = gate.add_objective(row[n : n + bench.BATCH]), n + bench.BATCH
        assert (word is Decision.PROMOTE, n) == said
    assert 0 < promoted.sum() < 60


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
    """2,000 runs; a rate of α would exceed the bound once in 10,000 repeats. Null streams spend 96 % of α on 25 candidates."""
    found = bench.false_discoveries(2000, 50 if stream.get("better") else 25, **stream)
    assert found["fdr"] <= bench.ALPHA
    assert found["fdr"] <= binom.ppf(0.9999, 2000, bench.ALPHA) / 2000
    if stream.get("better"):
        assert found["promotions"] > 5, "it must also find what is there"


def test_ville_holds_at_every_look():
    """Looking after each single task, a null child exceeds 1/α at most α of the time."""
    d = bench.draw(np.random.default_rng(4), 4000, 256, 0.25, 0.25).astype(float)
    twenty = math.log(20)
    assert (log_path(d).max(axis=1) >= twenty).mean() <= 0.05
    assert (star_path(d, twenty, 256).max(axis=1) >= twenty).sum() <= binom.ppf(0.9999, 4000, 0.05)
    inferior = bench.draw(np.random.default_rng(5), 4000, 256, 0.1, 0.2).astype(float)  # mean −0.1: on the margin
    assert (log_path(inferior, 1, 0.1).max(axis=1) >= twenty).mean() <= 0.05
    assert (star_path(inferior, twenty, 256, 1, 0.1).max(axis=1) >= twenty).sum() <= binom.ppf(0.9999, 4000, 0.05)


@pytest.mark.parametrize("n_max", [256, 1024])
@pytest.mark.parametrize("discordant", [0.1, 0.3, 0.5])
def test_tasks_needed(n_max, discordant):
    """At most half the tasks of the fixed test that is sized for the minimum gain, in every cell; more found than before."""
    found = bench.needed(discordant, n_max=n_max, runs=1000)
    before = bench.needed(discordant, n_max=n_max, runs=1000, bets="grid")
    assert found["null_promoted"] <= binom.ppf(0.9999, 1000, found["error_rate"]) / 1000
    assert found["share_of_mcnemar_for_minimum_gain"] <= 0.5
    assert found["mean_tasks"] >= found["sprt_mean"], "no test beats Wald's on average; else the simulation is wrong"
    assert found["mean_tasks"] < before["mean_tasks"]
    assert found["power"] >= before["power"] - 0.01, "giving up early may cost a little of what is almost certain"
    assert found["power"] >= before["power"] + 0.2 or n_max == 1024 or discordant == 0.1


def test_a_child_with_the_minimum_gain_is_seldom_dropped():
    d = bench.draw(np.random.default_rng(6), 2000, 256, 0.15, 0.10)  # mean 0.05 = the minimum gain
    never = -math.log(bench.BETA)
    for bets in ("star", "grid"):
        dropped = (bench.evidence(d, never, bets, -1, -bench.GAIN) >= never).any(axis=1)
        assert dropped.sum() <= binom.ppf(0.9999, 2000, bench.BETA)


def test_fixed_n_mcnemar_reaches_its_power():
    n = bench.mcnemar_n(0.1, 0.2, 0.025, 0.8)
    d = bench.draw(np.random.default_rng(7), 4000, n, 0.15, 0.05)
    wins, losses = (d > 0).sum(axis=1), (d < 0).sum(axis=1)
    z = (wins - losses) / np.sqrt(np.maximum(1, wins + losses))
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.04)


def test_the_benchmark_of_the_door_runs():
    times = bench.door_times(rounds=20, tests=2)
    assert set(times) == {"round_trip_us", "commit_ms", "commit_to_verdict_ms"}
