"""How long the search of the ``speed`` lever takes to a proven gain, beside random search and Optuna's TPE.

On the text of ``examples/speedrun``, over the same space (:meth:`upwright.levers.speed._Search._design`) and for the same CPU seconds:

* ``ours``: the lever's search as it is;
* ``random``: designs drawn at random, as one would by hand: each trained whole to the loss, the champion's cost as the cap;
* ``tpe``: the same, drawn by Optuna's TPE as it comes; what did not reach the loss counts as the cap and by how far it stayed away.

Measured are the seconds until an arm has a design that takes at most a half, and a quarter, of the champion's FLOPs. Its own
trial has to say so; then it is trained on fresh seeds, the same for all, and has to reach the loss on every one of them at a
geometric mean of at most that share. This check is charged to nobody (with it charged to all alike, ratios are told besides); the
champion's training at the beginning is charged to all alike. CPU seconds are those of the process, with one thread; wall seconds are told
beside them.

An arm ends when the smallest share is proven or its seconds are spent. In the latter case what it has not reached is *censored*: the
seconds that it had take the place of those that it would have needed, and a ratio says in what direction it errs.
Seeds (of the trials' training and of the sampler) are paired, so the first designs of ``random`` and ``tpe`` are the same ones; the arms
take turns, in another order for each seed. Run::

    python -m benchmarks.search --minutes 10
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.speedrun import SALT, asked, design_of, one_thread, trained, warmed
from benchmarks.training import ratio
from upwright.bodies.body import Body
from upwright.errors import BuildError, Stopped
from upwright.levers.speed import SpeedSettings, _Design, _Search
from upwright.records import Task, derive_seed
from upwright.tasks import Suite, load_source
from upwright.tasks.base import Practice
from upwright.training.target import Texts

HOME = Path(__file__).parents[1] / "examples" / "speedrun"
ARMS = ("ours", "random", "tpe")
TARGETS = (0.5, 0.25)
"""Shares of the champion's FLOPs, the largest first."""
FRESH = 3
"""Fresh seeds of a check."""
AIM = 1.5
"""Random search should take at least this many times as long as ours."""
SEARCHING = 0.75
"""Share of the time that is for searching; checks, and the champion on their seeds, take the rest."""
GRACE = 1.5
"""Times the minutes that were given is when whatever is going on is given up: the machine is too busy to measure on."""
CLOCKS = ("cpu", "wall", "cpu with checks")

Heard = Callable[[_Design, Mapping[str, Any]], None]


class Late(Exception):
    """There is no time left for this seed."""


class Clock:
    """Seconds of one arm: CPU and wall without checks, and the CPU seconds of its checks.

    Args:
        budget: CPU seconds that it may take; ``before``: (CPU, wall) seconds that it has been charged already.
    """

    def __init__(self, budget: float, before: tuple[float, float] = (0.0, 0.0)) -> None:
        self.budget = budget
        self._cpu, self._wall = time.process_time() - before[0], time.perf_counter() - before[1]
        self._checks = 0.0

    def read(self) -> dict[str, float]:
        """Seconds by clock (:data:`CLOCKS`)."""
        cpu = time.process_time() - self._cpu
        return {"cpu": cpu, "wall": time.perf_counter() - self._wall, "cpu with checks": cpu + self._checks}

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done within is a check."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self._checks += time.process_time() - cpu
            self._cpu += time.process_time() - cpu
            self._wall += time.perf_counter() - wall


class Bench:
    """What a search needs of a workshop: a place, and somebody who ends it when its seconds are spent.

    Args:
        end: monotonic time at which it ends in any case.
    """

    def __init__(self, scratch: Path, clock: Clock, end: float) -> None:
        self.scratch, self.clock, self.end = scratch, clock, end

    def progress(self, done: int, total: int, note: str) -> None:
        """Raise ``Stopped`` when the budget is spent, :class:`Late` when there is no more time."""
        if time.monotonic() > self.end:
            raise Late
        if self.clock.read()["cpu"] >= self.clock.budget:
            raise Stopped("its seconds are spent")


class Ours(_Search):
    """The lever's own search; ``heard`` is told each trial that ended."""

    heard: Heard

    def _trial(self, trial: Any, design: _Design) -> dict[str, Any]:
        found = super()._trial(trial, design)
        self.heard(design, {**found, "share": found["flops"] / self.base})
        return found


class ByHand(_Search):
    """The script that one would write: draw, train whole with the champion's cost as the cap, tell the sampler."""

    heard: Heard
    sampler: Any

    def run(self) -> list[dict[str, Any]]:
        """Trials until somebody stops it."""
        import optuna

        def never(done: int, loss: float) -> str:
            return ""

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.base = self._reach(self.own, self.aim, never)["flops"]
        study = optuna.create_study(sampler=self.sampler)
        while True:
            trial = study.ask()
            design = self._design(trial)
            if design is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            found = self._reach(design, min(self.base, self.aim.flops), never)
            study.tell(trial, by_hand(found, self.base, self.aim.loss))
            self.heard(design, {**found, "share": found["flops"] / self.base})


def by_hand(found: Mapping[str, Any], base: float, loss: float) -> float:
    """What TPE minimises: log cost in units of the champion's; above 0, and by how far, where the loss was not reached."""
    if found["reached"]:
        return math.log(found["flops"] / base)
    return (min(10.0, found["loss"] / loss) if found["loss"] else 10.0) - 1


class Judge:
    """What a design takes on fresh seeds, in shares of what the champion takes there."""

    def __init__(self, champion: _Design, texts: Texts, tasks: Sequence[Task]) -> None:
        self.texts, self.given = texts, [asked(task) for task in tasks]
        self.base = [trained(champion, texts, *one) for one in self.given]
        if not all(one["reached"] for one in self.base):
            raise BuildError(
                "the champion does not reach the loss on a fresh seed", value=[b["loss"] for b in self.base]
            )

    def share(self, design: _Design) -> float:
        """Geometric mean over the seeds; infinite where the loss was not reached at the champion's cost at most."""
        logs = []
        for (aim, seed), base in zip(self.given, self.base):
            found = trained(design, self.texts, replace(aim, flops=base["flops"]), seed)
            if not found["reached"]:
                return math.inf
            logs.append(math.log(found["flops"] / base["flops"]))
        return math.exp(statistics.fmean(logs))


class Watch:
    """Hears of an arm's trials, has those checked that may be what is sought, and ends the arm when all is found.

    Attributes:
        hits: target → seconds until a design was there that holds it, and what it was.
        trials: ``{"share", "reached", "cpu"}`` of each; with ``"proven"`` where it was checked.
    """

    def __init__(self, judge: Judge, clock: Clock, targets: Sequence[float]) -> None:
        self.judge, self.clock, self.targets = judge, clock, targets
        self.hits: dict[float, dict[str, Any]] = {}
        self.trials: list[dict[str, Any]] = []

    def __call__(self, design: _Design, found: Mapping[str, Any]) -> None:
        """A trial ended."""
        told = {key: found[key] for key in ("share", "reached", "shape", "recipe")}
        self.trials.append({**told, "cpu": self.clock.read()["cpu"]})
        left = [target for target in self.targets if target not in self.hits]
        if not found["reached"] or found["share"] > max(left):
            return
        began = self.clock.read()
        with self.clock.aside():
            proven = self.judge.share(design)
        self.trials[-1]["proven"] = proven if math.isfinite(proven) else None
        # The check itself is part of what was needed, where checks are charged.
        at = {**began, "cpu with checks": self.clock.read()["cpu with checks"]}
        self.hits |= {
            target: {**at, "trials": len(self.trials), "share": proven} for target in left if proven <= target
        }
        if len(self.hits) == len(self.targets):
            raise Stopped("all is proven")


class Contest:
    """Arms over paired seeds on one body.

    Args:
        body: the champion; ``suite``: what draws training seeds; ``budget``: CPU seconds of an arm on a seed.

    Attributes:
        end: monotonic time at which a seed is given up.
    """

    end = math.inf

    def __init__(self, body: Body, suite: Practice, budget: float, targets: Sequence[float] = TARGETS) -> None:
        self.body, self.budget, self.targets = body, budget, tuple(sorted(targets, reverse=True))
        self.champion, self.texts = design_of(body), Texts.read(body.root / "model")
        self.suite = suite
        fresh = suite.draw(FRESH, derive_seed("fresh"))
        warmed(self.champion, self.texts, asked(fresh[0])[0])
        self.judge = Judge(self.champion, self.texts, fresh)

    def seed(self, number: int, arms: Sequence[str]) -> list[dict[str, Any]]:
        """One row for each arm, in the order given."""
        (task,) = self.suite.draw(1, derive_seed("trials", number))
        base = trained(self.champion, self.texts, *asked(task))
        if not base["reached"]:
            raise BuildError("the champion does not reach the loss", value=base["loss"])
        rows = []
        for arm in arms:
            row = {"seed": number, **self.arm(arm, number, task, base)}
            rows.append(row)
            hits = ", ".join(f"{t} after {h['cpu']:.1f} s" for t, h in row["hits"].items()) or "nothing proven"
            print(f"seed {number}, {arm}: {row['trials']} trials, {row['spent']['cpu']:.1f} CPU s; {hits}", flush=True)
        return rows

    def arm(self, arm: str, number: int, task: Task, base: Mapping[str, Any]) -> dict[str, Any]:
        """One arm on one seed: ``{"arm", "spent", "hits", "trials", "all", "why"}``."""
        import optuna

        clock = Clock(self.budget, (base["cpu seconds"], base["wall seconds"]))
        watch = Watch(self.judge, clock, self.targets)
        sampler_seed = derive_seed("sampler", number)
        with tempfile.TemporaryDirectory(prefix="upwright-bench-") as scratch:
            bench: Any = Bench(Path(scratch), clock, self.end)
            # The first training of a search is the champion's: done before, as if by a search that was stopped.
            (bench.scratch / "speed-1.json").write_text(json.dumps({**base, "looks": []}))
            kind = Ours if arm == "ours" else ByHand
            search = kind(self.body, SpeedSettings(10**6, math.inf, 1), sampler_seed, bench, task)
            search.heard = watch
            if isinstance(search, ByHand):
                samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
                search.sampler = samplers[arm](seed=sampler_seed % 2**31)
            try:
                search.run()
                why = "it ended by itself"
            except Stopped as error:
                why = error.what
        return {
            "arm": arm, "why": why, "spent": clock.read(), "trials": len(watch.trials), "all": watch.trials,
            "hits": {f"{target:g}": hit for target, hit in watch.hits.items()},
        }  # fmt: skip


def seconds(row: Mapping[str, Any], target: str, clock: str) -> tuple[float, bool]:
    """Seconds to a target, and whether it was reached; the seconds that the arm had where it was not."""
    hit = row["hits"].get(target)
    return (float(hit[clock]), True) if hit else (float(row["spent"][clock]), False)


def compared(other: Sequence[tuple[float, bool]], ours: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """The other's seconds over ours, pair by pair: geometric mean, 95 % interval (from two pairs on), and which way it errs.

    ``bound`` is ``exact`` where all were reached; ``at least`` where only the other was ever censored, ``at most`` where only
    ours was; ``cut`` where both were, each at its budget: then the ratio is drawn to 1, in no known direction.
    """
    over, under = [s for s, _ in other], [s for s, _ in ours]
    censored = not all(r for _, r in other), not all(r for _, r in ours)
    bound = {(False, False): "exact", (True, False): "at least", (False, True): "at most", (True, True): "cut"}[
        censored
    ]
    found = ratio(over, under) if len(over) > 1 else {"mean": over[0] / under[0]}
    return {**{k: round(v, 3) for k, v in found.items()}, "bound": bound, "pairs": len(over)}


def held(one: Mapping[str, Any]) -> bool:
    """Whether a ratio is at least :data:`AIM`, for all that is known of it."""
    return bool(one["mean"] >= AIM and one["bound"] in ("exact", "at least"))


def summary(rows: Sequence[Mapping[str, Any]], arms: Sequence[str], targets: Sequence[float]) -> dict[str, Any]:
    """For each target: how often and when the arms reached it, and the ratios to ours."""
    found: dict[str, Any] = {}
    for target in (f"{t:g}" for t in targets):
        of = {a: sorted((r for r in rows if r["arm"] == a), key=lambda r: r["seed"]) for a in arms}
        one: dict[str, Any] = {}
        for arm in arms:
            told = [seconds(row, target, "cpu") for row in of[arm]]
            reached = sum(r for _, r in told)
            middle = sorted(s if r else math.inf for s, r in told)[(len(told) - 1) // 2]
            one[arm] = {
                "reached": reached, "of": len(told), "lower median cpu seconds": round(middle, 2) if middle < math.inf else "censored",
                "cpu seconds": [f"{'' if r else '>'}{s:.2f}" for s, r in told],
            }  # fmt: skip
        for arm in arms if "ours" in arms else ():
            if arm != "ours":
                one[f"{arm} over ours"] = {
                    clock: compared(*([seconds(row, target, clock) for row in of[name]] for name in (arm, "ours")))
                    for clock in CLOCKS
                }
        found[target] = one
    return found


def race(contest: Contest, arms: Sequence[str], seeds: int, minutes: float) -> list[dict[str, Any]]:
    """Rows of all arms for as many seeds as there is time for.

    No seed is begun that would not, by the mean of those before, be over in time; the first may take :data:`GRACE` times as
    long, and one that has not ended by then is left out.

    Raises:
        BuildError: not even the first seed ended.
    """
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    contest.end = began + 60 * minutes * GRACE
    for number in range(seeds):
        used = time.monotonic() - began
        if number and used * (number + 1) / number > 60 * minutes:
            print(f"no time for more than {number} of {seeds} seeds", flush=True)
            break
        turn = number % len(arms)
        try:
            found = contest.seed(number, [*arms[turn:], *arms[:turn]])
        except Late:
            print(f"seed {number} took too long and is left out", flush=True)
            break
        rows += found
    if not rows:
        raise BuildError("no seed ended in time", value=minutes, todo="give more minutes, or an idle machine")
    return rows


def measure(
    minutes: float = 10.0, seeds: int = 3, arms: Sequence[str] = ARMS, targets: Sequence[float] = TARGETS
) -> dict[str, Any]:
    """Seconds to the targets, every trial, and the ratios; about ``minutes`` in all on an idle machine, mostly less."""
    budget = SEARCHING * 60 * minutes / seeds / len(arms)
    began = time.monotonic()
    with one_thread():
        contest = Contest(
            Body(HOME / "body"), Suite("speedrun", load_source("tasks/speedrun.py", HOME), SALT), budget, targets
        )
        rows = race(contest, tuple(arms), seeds, max(0.0, minutes - (time.monotonic() - began) / 60))
    found = summary(rows, arms, contest.targets)
    return {
        "cpu seconds of an arm on a seed": round(budget, 1), "seeds": len({row["seed"] for row in rows}), "fresh seeds": FRESH,
        "threads": 1, "targets": found, "aim": f"random over ours at least {AIM:g}",
        "met": {t: held(one["random over ours"]["cpu"]) for t, one in found.items() if "random over ours" in one},
        "all": rows,
    }  # fmt: skip


def main() -> int:
    """Parse, measure, keep ``bench-out/search.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="about how long it may take in all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--targets", nargs="+", type=float, default=list(TARGETS), help="shares of the champion's FLOPs"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-out/search.json"))
    args = parser.parse_args()
    found = measure(args.minutes, args.seeds, args.arms, args.targets)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "all"}, indent=2))
    print(f"kept in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
