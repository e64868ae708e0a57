"""The race between searches: who is charged for what, what counts as proven, and how a race that was cut is told."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("optuna")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import search
from benchmarks.search import Bench, Clock, Contest, Late, Watch, by_hand, compared, held, race, seconds, summary
from benchmarks.speedrun import one_thread

from upwright.errors import BuildError, Stopped
from upwright.testing import sprints


def row(arm: str, seed: int, spent: float, **hits: float) -> dict[str, Any]:
    """A row of a race; ``hits`` are ``t05=12.0``."""
    at = {"0.5": hits.get("t05"), "0.25": hits.get("t025")}
    clocks = {name: dict.fromkeys(search.CLOCKS, s) for name, s in at.items() if s is not None}
    return {"arm": arm, "seed": seed, "spent": dict.fromkeys(search.CLOCKS, spent), "hits": clocks}


def burn(cpu: float) -> None:
    """Compute for so many CPU seconds."""
    began = time.process_time()
    while time.process_time() - began < cpu:
        pass


def test_a_clock_counts_what_was_charged_before_and_leaves_checks_out() -> None:
    clock = Clock(10.0, (3.0, 4.0))
    burn(0.05)
    with clock.aside():
        burn(0.2)
    told = clock.read()
    assert 3.05 <= told["cpu"] < 3.2
    assert told["wall"] >= 4.05
    assert told["cpu with checks"] - told["cpu"] == pytest.approx(0.2, abs=0.1)


def test_a_search_ends_when_its_seconds_are_spent_and_when_there_is_no_time(tmp_path: Path) -> None:
    Bench(tmp_path, Clock(100.0), math.inf).progress(1, 2, "")
    with pytest.raises(Stopped):
        Bench(tmp_path, Clock(5.0, (5.0, 5.0)), math.inf).progress(1, 2, "")
    with pytest.raises(Late):
        Bench(tmp_path, Clock(100.0), time.monotonic() - 1).progress(1, 2, "")


def test_by_hand_every_design_that_reached_is_better_than_any_that_did_not() -> None:
    def value(reached: bool, flops: float, loss: float | None) -> float:
        return by_hand({"reached": reached, "flops": flops, "loss": loss}, 100.0, 0.9)

    assert value(True, 25.0, 0.9) == pytest.approx(math.log(0.25))
    assert value(True, 100.0, 0.9) <= value(False, 25.0, 0.91) < value(False, 25.0, 1.0) < value(False, 0.0, None)


class Says:
    """A judge that knows the share of a design, which is its name."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def share(self, design: Any) -> float:
        self.asked.append(design)
        return float(design)


def test_what_a_trial_claims_is_checked_and_counts_from_the_end_of_the_trial() -> None:
    judge: Any = Says()
    watch = Watch(judge, Clock(100.0), (0.5, 0.25))

    def heard(true: Any, share: float, reached: bool = True) -> None:
        watch(true, {"share": share, "reached": reached, "shape": "", "recipe": ""})

    heard(0.3, 0.6)
    heard(0.3, 0.4, reached=False)
    assert judge.asked == [], "nothing was claimed"
    heard(math.inf, 0.2)
    heard(0.55, 0.5)
    assert judge.asked == [math.inf, 0.55]
    assert not watch.hits
    heard(0.4, 0.45)
    assert set(watch.hits) == {0.5}
    assert watch.hits[0.5]["trials"] == 5
    heard(0.1, 0.45)
    assert judge.asked[-1] == 0.4, "no quarter was claimed, and a half is proven"
    with pytest.raises(Stopped, match="proven"):
        heard(0.2, 0.25)
    assert watch.hits[0.25]["trials"] == 7
    assert [t.get("proven", "-") for t in watch.trials] == ["-", "-", None, 0.55, 0.4, "-", 0.2]


def test_what_was_not_reached_is_cut_at_what_was_spent() -> None:
    assert seconds(row("ours", 0, 30.0, t05=12.0), "0.5", "cpu") == (12.0, True)
    assert seconds(row("ours", 0, 30.0, t05=12.0), "0.25", "wall") == (30.0, False)


@pytest.mark.parametrize(
    ("other", "ours", "bound"),
    [(True, True, "exact"), (False, True, "at least"), (True, False, "at most"), (False, False, "cut")],
)
def test_a_ratio_says_in_what_direction_it_errs(other: bool, ours: bool, bound: str) -> None:
    told = compared([(20.0, True), (40.0, other)], [(10.0, True), (20.0, ours)])
    assert told == {"mean": 2.0, "low": 2.0, "high": 2.0, "bound": bound, "pairs": 2}
    assert held(told) is (bound in ("exact", "at least"))
    assert not held({**told, "mean": 1.4})


def test_the_summary_pairs_by_seed_and_one_seed_has_no_interval() -> None:
    rows = [row("ours", 0, 9.0, t05=4.0), row("random", 0, 9.0, t05=8.0)]
    one = summary(rows, ("ours", "random"), (0.5, 0.25))
    assert one["0.5"]["random over ours"]["cpu"] == {"mean": 2.0, "bound": "exact", "pairs": 1}
    assert one["0.25"]["random over ours"]["cpu"]["bound"] == "cut"
    turned = [row("random", 1, 9.0, t05=3.0), row("ours", 1, 9.0, t05=6.0)]
    two = summary([*rows, *turned], ("ours", "random"), (0.5,))["0.5"]
    assert two["random over ours"]["wall"]["mean"] == 1.0
    assert two["ours"] == {
        "reached": 2, "of": 2, "lower median cpu seconds": 4.0, "cpu seconds": ["4.00", "6.00"],
    }  # fmt: skip
    cut = summary([row("random", 0, 9.0)], ("random",), (0.5,))["0.5"]
    assert cut == {"random": {"reached": 0, "of": 1, "lower median cpu seconds": "censored", "cpu seconds": [">9.00"]}}


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contest]:
    with one_thread():
        body = sprints.write(tmp_path_factory.mktemp("search") / "body")
        yield Contest(body, sprints.Seeds(), 0.4, (0.6, 1e-9))


def test_all_arms_search_the_same_space_for_the_same_seconds(contest: Contest) -> None:
    rows = race(contest, search.ARMS, 2, 60.0)
    assert [r["arm"] for r in rows] == ["ours", "random", "tpe", "random", "tpe", "ours"], "they take turns"
    for r in rows:
        assert 0.4 <= r["spent"]["cpu"] < 2.0
        assert r["why"] == "its seconds are spent"
        assert r["trials"] == len(r["all"])
        for trial in r["all"]:
            assert trial["share"] < 1.3, "the champion's cost is the cap"
            assert ("proven" in trial) <= (trial["reached"] and trial["share"] <= 0.6)
    first = [[t["recipe"] for t in r["all"][:5]] for r in rows if r["arm"] != "ours" and r["seed"] == 0]
    shared = min(map(len, first))
    assert first[0][:shared] == first[1][:shared], "TPE begins with random designs, here the same ones"


def test_a_machine_too_busy_is_told(contest: Contest) -> None:
    with pytest.raises(BuildError, match="no seed ended"):
        race(contest, ("random",), 1, 0.0)
