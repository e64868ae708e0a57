"""What the gate costs and what it holds: ``python benchmarks/gate.py``.

- tasks that a test needs, beside a fixed-n McNemar test of equal error rate and power, sized in two ways,
  and beside the mean of Wald's SPRT that knows the true rates (no test can need fewer on average);
- the same with the bets that the gate had before (a fixed grid, Waudby-Smith & Ramdas 2023);
- the width and the coverage of the interval that is shown after a confirmation;
- the realised false discovery rate of streams of null candidates, simulated;
- the time of a round trip through the door, and of a whole test.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import norm

from upwright.warden.bets import log_path, star_path
from upwright.warden.bounds import confidence_sequence, star_interval
from upwright.warden.canon import tree_digest
from upwright.warden.door import Door
from upwright.warden.founding import found
from upwright.warden.spending import threshold

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ALPHA, BETA, GAIN, BATCH = 0.05, 0.1, 0.05, 16


def evidence(d: npt.NDArray[Any], log_goal: Floats | float, bets: str, sign: int = 1, shift: float = 0.0) -> Floats:
    """Log e-values after each task of ``d``, shape (runs, n), with the gate's bets or with those it had before."""
    x = d.astype(np.float64)
    return log_path(x, sign, shift) if bets == "grid" else star_path(x, log_goal, d.shape[1], sign, shift)


def run_tests(
    d: npt.NDArray[Any], limit: Floats | float, batch: int = BATCH, futility: bool = True, bets: str = "star"
) -> tuple[Bools, Floats]:
    """The gate's rule on simulated differences, shape (runs, n): promoted?, and tasks used."""
    goal = np.log(np.broadcast_to(np.asarray(limit), (d.shape[0],)))
    crossed = evidence(d, goal, bets)[:, batch - 1 :: batch] >= goal[:, None]
    dropped, never = np.zeros_like(crossed), -math.log(BETA)
    if futility:
        dropped = evidence(d, never, bets, -1, -GAIN)[:, batch - 1 :: batch] >= never
    looks = crossed.shape[1]
    first_cross = np.where(crossed.any(1), crossed.argmax(1), looks)
    first_drop = np.where(dropped.any(1), dropped.argmax(1), looks)
    used = np.minimum(np.minimum(first_cross, first_drop) + 1, looks) * batch
    return (first_cross < looks) & (first_cross <= first_drop), used.astype(np.float64)


def draw(rng: np.random.Generator, runs: int, n: int, win: float, loss: float) -> npt.NDArray[np.int8]:
    """Paired differences: +1 with probability ``win``, −1 with ``loss``, else 0; shape (runs, n)."""
    u = rng.random((runs, n), dtype=np.float32)
    return (u < win).astype(np.int8) - (u > 1 - loss).astype(np.int8)


def mcnemar_n(gain: float, discordant: float, alpha: float, power: float) -> int:
    """Tasks of a fixed-n one-sided McNemar test (Connor 1987)."""
    a, b = norm.ppf(1 - alpha), norm.ppf(power)
    return math.ceil(((a * math.sqrt(discordant) + b * math.sqrt(discordant - gain**2)) / gain) ** 2)


def sprt_mean(win: float, loss: float, alpha: float, power: float) -> float:
    """Wald's approximation of the SPRT's mean sample size when the child is better (win, loss known)."""
    good, bad = math.log(power / alpha), math.log((1 - power) / (1 - alpha))
    half = (win + loss) / 2  # H0: the same discordant tasks, wins and losses alike
    per_task = float(xlogy(win, win / half) + xlogy(loss, loss / half))
    return (power * good + (1 - power) * bad) / per_task


def needed(
    discordant: float = 0.2,
    gain: float = 2 * GAIN,
    n_max: int = 1024,
    runs: int = 4000,
    seed: int = 1,
    bets: str = "star",
) -> dict[str, Any]:
    """Tasks that the first test of a run needs when the true gain is ``gain``; same error rate and power for all."""
    rng = np.random.default_rng(seed)
    limit = threshold(ALPHA, 1, 0)
    win, loss = (discordant + gain) / 2, (discordant - gain) / 2
    promoted, used = run_tests(draw(rng, runs, n_max, win, loss), limit, bets=bets)
    null = draw(rng, runs, n_max, discordant / 2, discordant / 2)
    null_promoted, null_used = run_tests(null, limit, bets=bets)
    least = draw(rng, runs, n_max, (discordant + GAIN) / 2, (discordant - GAIN) / 2)
    dropped = evidence(least, -math.log(BETA), bets, -1, -GAIN)[:, BATCH - 1 :: BATCH] >= -math.log(BETA)
    power, error = min(float(promoted.mean()), 0.999), 1 / limit
    for_minimum, for_true = (mcnemar_n(g, discordant, error, power) for g in (GAIN, gain))
    return {
        "bets": bets,
        "true_gain": gain,
        "n_max": n_max,
        "discordant": discordant,
        "error_rate": error,
        "power": power,
        "mean_tasks": float(used.mean()),
        "median_tasks": float(np.median(used)),
        "mean_tasks_of_a_null_child": float(null_used.mean()),
        "null_promoted": float(null_promoted.mean()),
        "dropped_at_minimum_gain": float(dropped.any(1).mean()),
        "mcnemar_for_minimum_gain": for_minimum,
        "mcnemar_for_true_gain": for_true,
        "sprt_mean": sprt_mean(win, loss, error, power),
        "share_of_mcnemar_for_minimum_gain": float(used.mean()) / for_minimum,
        "share_of_mcnemar_for_true_gain": float(used.mean()) / for_true,
        "sprt_share_of_mcnemar_for_true_gain": sprt_mean(win, loss, error, power) / for_true,
    }


SCORES: dict[str, tuple[float, Callable[[np.random.Generator, tuple[int, int]], Floats]]] = {
    **{
        f"{d:g} discordant, gain {g:g}": (
            g,
            lambda rng, size, d=d, g=g: draw(rng, *size, (d + g) / 2, (d - g) / 2) * 1.0,
        )
        for d, g in ((0.02, 0.0), (0.1, 0.05), (0.1, 0.1), (0.2, 0.1), (0.3, 0.1), (0.5, 0.1), (0.6, 0.4))
    },
    "one loss of 1 in 100": (-0.01, lambda rng, size: -1.0 * (rng.random(size) < 0.01)),
    "gains of 0.02, one loss of 1 in 50": (0.0, lambda rng, size: np.where(rng.random(size) < 1 / 51, -1.0, 0.02)),
    "graded, skewed": (0.5, lambda rng, size: rng.beta(4.0, 1.0, size) - rng.beta(0.3, 0.7, size)),
    "graded, small": (0.02, lambda rng, size: rng.uniform(-0.1, 0.14, size)),
}
"""What is measured after a promotion: its true mean, and how differences are drawn, shape (runs, n)."""


def widths(n: int = 192, runs: int = 4000, shown: int = 20, seed: int = 3) -> list[dict[str, Any]]:
    """Half widths of the 95 % interval shown after a confirmation of ``n`` tasks, mean of ``shown``, in score.

    ``missed`` is the share of ``runs`` in which one of the two tests of the true mean, which the interval inverts,
    rejects it: an upper bound of the share of intervals that miss it. Beside it what it replaced, and Wald's interval, which
    holds only for large n, with the share of intervals that miss.
    """
    rng, found = np.random.default_rng(seed), []
    for name, (mean, draws) in SCORES.items():
        x = draws(rng, (runs, n))
        goal = math.log(40)
        ends = [star_path(x, goal, n, sign, -mean, kelly=0.0)[:, -1] >= goal for sign in (1, -1)]
        ours = np.array([star_interval(row) for row in x[:shown]])
        before = np.array([confidence_sequence(row) for row in x[:shown]])
        wald = norm.ppf(0.975) * x.std(axis=1, ddof=1) / math.sqrt(n)
        found.append(
            {
                "scores": name,
                "n": n,
                "half_width": float((ours[:, 1] - ours[:, 0]).mean() / 2),
                "missed": float((ends[0] | ends[1]).mean()),
                "confidence_sequence": float((before[:, 1] - before[:, 0]).mean() / 2),
                "wald": float(wald.mean()),
                "wald_missed": float((np.abs(x.mean(axis=1) - mean) > wald).mean()),
            }
        )
    return found


def false_discoveries(
    runs: int = 2000,
    tests: int = 50,
    discordant: float = 0.3,
    better: float = 0.0,
    dependence: str = "none",
    seed: int = 2,
) -> dict[str, float]:
    """Streams of candidates through gate and spending; the mean share of false promotions (FDR).

    Args:
        better: share of candidates that truly gain 0.2; the rest are null (ties included).
        dependence: ``none``; ``same`` (one draw of tasks serves all candidates of a run: the worst case); or
            ``patient`` (no futility stop, and each test goes on to its highest evidence).
    """
    rng = np.random.default_rng(seed)
    n, promotions, false = 256, np.zeros(runs), np.zeros(runs)
    shared = rng.random((runs, n), dtype=np.float32)
    for t in range(1, tests + 1):
        u = shared if dependence == "same" else rng.random((runs, n), dtype=np.float32)
        real = rng.random(runs) < better
        gain = np.where(real, 0.2, 0.0).astype(np.float32)[:, None]
        d = (u < (discordant + gain) / 2).astype(np.int8) - (u > 1 - (discordant - gain) / 2).astype(np.int8)
        limits = np.array([threshold(ALPHA, t, int(r)) for r in range(tests + 1)])[promotions.astype(int)]
        promoted, _ = run_tests(d, limits, futility=dependence != "patient")
        promotions += promoted
        false += promoted & ~real
    share = false / np.maximum(promotions, 1)
    return {
        "fdr": float(share.mean()),
        "alpha": ALPHA,
        "promotions": float(promotions.mean()),
        "false": float(false.mean()),
    }


GENERATOR = 'def generate(seed):\n    return {"input": f"{seed}", "answer": str(seed)}\n'


def door_times(rounds: int = 2000, tests: int = 20) -> dict[str, float]:
    """Round trip of ``status`` in microseconds; commit and a whole rejected test in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "suite.py").write_text(GENERATOR)
        home, digest = Path(folder) / "warden", "0" * 64
        files = [{"prompt.md": f"{i:064x}"} for i in range(tests + 1)]
        genesis = {"digest": tree_digest(files[0]), "files": files[0]}
        charter = 'objective = "desk"\nmay_change = ["prompt.md"]\n[sealed]\nn_max = 64\n'
        found(home, charter, {"desk": {"kind": "generator", "path": str(Path(folder) / "suite.py")}}, genesis, digest)
        with Door.open(home) as door:
            trips, commits, wholes = [], [], []
            for _ in range(rounds):
                start = time.perf_counter()
                door.status()
                trips.append(time.perf_counter() - start)
            for child in files[1:]:
                start = time.perf_counter()
                test = door.commit(
                    {"digest": tree_digest(child), "files": child}, files[0], {"of": child}, genesis["digest"]
                )
                commits.append(time.perf_counter() - start)
                while not (batch := door.next_inputs(test)).get("done"):
                    ids = [q["id"] for q in batch["questions"]]
                    given = {
                        role: {q: {"text": "?", "failure": None, "tokens": 1} for q in ids}
                        for role in ("child", "champion")
                    }
                    door.answers(test, batch["batch"], given)
                door.verdict(test)
                wholes.append(time.perf_counter() - start)
    return {
        "round_trip_us": 1e6 * statistics.median(trips),
        "commit_ms": 1e3 * statistics.median(commits),
        "commit_to_verdict_ms": 1e3 * statistics.median(wholes),
    }


def main(runs: int = 2000) -> dict[str, Any]:
    """All figures, printed as JSON and returned."""
    result = {
        "needed": [needed(d, n_max=n, runs=runs) for n in (256, 512, 1024) for d in (0.1, 0.15, 0.2, 0.3, 0.5)],
        "before": [
            needed(d, n_max=n, runs=runs, bets="grid") for n in (256, 512, 1024) for d in (0.1, 0.15, 0.2, 0.3, 0.5)
        ],
        "larger_gain": [needed(0.4, 0.3, n_max=n, runs=runs, bets=b) for n in (256, 1024) for b in ("star", "grid")],
        "interval": [*widths(192), *widths(96)],
        "false_discoveries": {
            "null": false_discoveries(runs),
            "null, many ties": false_discoveries(runs, discordant=0.05),
            "null, one draw for all": false_discoveries(runs, dependence="same"),
            "null, most patient": false_discoveries(runs, dependence="patient"),
            "one in five better": false_discoveries(runs, better=0.2),
            "one in five better, one draw for all": false_discoveries(runs, better=0.2, dependence="same"),
        },
        "door": door_times(),
    }
    print(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    main()
