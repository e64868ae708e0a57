"""A search where nothing can be gained: the metric of every program is N(0, 1), drawn anew in every run of it.

One search tries 200 candidates; this is done 100 times. Counted is

- whether the search names another best than the program that it began with, and whether the gate promotes that;
- whether the gate promotes the candidate with the luckiest single run, which a search that believes single runs would keep: it is sent to the gate
  in every search, past everything that would have held it back;
- what is reported for the best, and whether the 95 % interval that belongs to it holds 0, the truth; beside it what the luckiest single run claims.

The campaign, its rule for a new best, and the gate are the project's own, with the numbers of the charter that ``upwright evolve``
writes. They run in this process: nothing is isolated, since nothing is run, and sealed seeds are drawn here. Run::

    python -m benchmarks.noise --searches 100 --candidates 200
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy.stats import t as student

from upwright.evolution.archive import Archive
from upwright.evolution.campaign import Campaign, Found, Setup
from upwright.evolution.records import Program
from upwright.records import derive_seed
from upwright.testing.programs import FakeJudged, Nudge, number, program
from upwright.warden.gate import Decision, Gate
from upwright.warden.spending import threshold

ALPHA, BETA, GAIN, BATCH, MOST = 0.05, 0.1, 0.03, 8, 192
"""Of the charter that ``upwright evolve`` writes; ``MOST`` sealed runs of each body, as for an evaluator of about a second."""


def value_of(made: Program, seed: int) -> float:
    """What a program is measured at: nothing but luck."""
    return random.Random(derive_seed(seed, number(made))).gauss(0.0, 1.0)


def score_of(value: float) -> float:
    """A metric as score, centre 0 and width 1: its mean is 1/2."""
    return 0.5 + math.atan(value) / math.pi


def judge(made: Program, seed: int) -> FakeJudged:
    """One run of one program."""
    value = value_of(made, seed)
    return FakeJudged(score_of(value), {"combined_score": value})


class Lucky:
    """A judge that remembers the luckiest first run."""

    def __init__(self) -> None:
        self.value, self.program = -math.inf, program(0.0)

    def __call__(self, made: Program, seed: int) -> FakeJudged:
        found = judge(made, seed)
        value = found.metrics["combined_score"]
        if value > self.value:
            self.value, self.program = value, made
        return found


def gate(child: Program, champion: Program, draw: Callable[[int], int]) -> Decision:
    """What the gate says of a child in the first test of a run, on sealed seeds ``draw(0)``, ``draw(1)``, …"""
    test = Gate.start(threshold(ALPHA, 1, 0), BETA, GAIN, MOST, {}, ["champion"])
    done = 0
    while (said := test.decide()[0]) is None:
        seeds = [draw(i) for i in range(done, done + BATCH)]
        test = test.add_objective(score_of(value_of(child, s)) - score_of(value_of(champion, s)) for s in seeds)
        done += BATCH
    return said


def search(seed: int, candidates: int) -> dict[str, Any]:
    """One search and what the gate says of it."""
    lucky, start = Lucky(), program(0.0)
    with Archive(Path(":memory:")) as archive:
        setup = Setup(seed=seed, workers=1)
        found = Campaign(start, [Nudge(size=1.0)], lucky, archive, setup).run(candidates)
    assert found.best is not None
    named = found.best.digest != found.origin.digest
    sealed = [gate(child, start, lambda i, kind=kind: derive_seed(seed, "sealed", kind, i)) for kind, child in
              (("named", found.best.program), ("lucky", lucky.program)) if kind == "lucky" or named]  # fmt: skip
    return {
        "named": named,
        "promoted": named and sealed[0] is Decision.PROMOTE,
        "luckiest_promoted": sealed[-1] is Decision.PROMOTE,
        "luckiest": lucky.value,
        **reported(found),
    }


def reported(found: Found) -> dict[str, Any]:
    """The best's metric as the search reports it, and whether the interval of its score holds the true mean."""
    best = found.best
    assert best is not None
    assert best.score is not None
    half = float(student.ppf(0.975, best.runs - 1)) * best.stderr
    return {"best": best.metrics["combined_score"], "half_width": half, "held": abs(best.score - 0.5) <= half}


def measure(searches: int = 100, candidates: int = 200) -> dict[str, Any]:
    """All searches, counted."""
    start = time.perf_counter()
    found = [search(seed, candidates) for seed in range(searches)]
    result = {
        "searches": searches,
        "candidates": candidates,
        "searches_that_named_another_best": sum(f["named"] for f in found),
        "promoted": sum(f["promoted"] for f in found),
        "luckiest_promoted": sum(f["luckiest_promoted"] for f in found),
        "searches_without_a_promotion": sum(not (f["promoted"] or f["luckiest_promoted"]) for f in found),
        "reported_best_mean": round(fmean(f["best"] for f in found), 3),
        "reported_best_highest": round(max(f["best"] for f in found), 3),
        "reported_interval_holds_0": sum(f["held"] for f in found),
        "luckiest_single_run_mean": round(fmean(f["luckiest"] for f in found), 3),
        "seconds_per_search": round((time.perf_counter() - start) / searches, 2),
    }
    print(json.dumps(result, indent=2), flush=True)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--candidates", type=int, default=200)
    given = parser.parse_args()
    measure(given.searches, given.candidates)
