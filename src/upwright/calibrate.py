"""Is the gate honest here? An A/A run of the user's own project: the champion against itself.

Candidates that cannot be better are sent through the gate and the error spending that real ones meet, in many whole
runs. Whatever is promoted is a mistake, so the share of runs with a promotion *is* the false discovery rate. Two
sources of such candidates:

- **own**: the champion answers some practice tasks twice, with other sampling seeds. Streams of any length are drawn from
  these real pairs with replacement; which of the two counts as the child is tossed for each task, so that the true
  difference is exactly zero.
- **coin**: both sides score 1 with probability one half. Nothing to model, and the truth is known to be 0.50.

The same streams are judged by the rule that peers use, keep what scores higher, on the tasks of the project's own screen.
No sealed task is drawn and no error is spent. Protected suites are left out: they can only withhold promotions,
so the gate's figures here are upper bounds. Tasks where either run failed are left out (a lone failure of a child counts
against it at the gate, which again could only withhold promotions).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from upwright.bodies.answer import answer
from upwright.bodies.body import Body, Inference
from upwright.bodies.store import Store
from upwright.engines import make_engine
from upwright.errors import RuntimeFailure
from upwright.founding import found
from upwright.jobs import Progress
from upwright.lineage import read_lineage
from upwright.loop import Event
from upwright.practice import salt
from upwright.project import Project
from upwright.promote import record_calibration
from upwright.records import Interval, derive_seed, to_json
from upwright.tasks.suite import open_suites
from upwright.warden.bets import star_path
from upwright.warden.charter import Charter
from upwright.warden.gate import Decision, Gate
from upwright.warden.spending import threshold

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats]]
"""``draw(rng, n)``: scores in [0, 1] of child and champion on ``n`` tasks, of equal expectation."""

Tell = Callable[[str, int, int, str], None]
"""Told (verb, done, total, note)."""

RUNS = 200
"""Whole runs simulated for each source."""
AUDITED = 50
"""One in so many simulated tests is repeated by the gate itself."""
WARM = 0.7
"""Temperature at which a greedy body answers, so that its two runs can differ."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its exact interval (Clopper & Pearson 1934)."""

    count: int
    of: int
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Judged:
    """What one rule did with candidates that cannot be better.

    Attributes:
        accepted: share of all candidates that it let in.
        fdr: share of runs in which it let in at least one (every acceptance is false).
        reported: score in [0, 1] that it reports at the end of a run, mean over runs.
        fiction: reported score minus the true one, mean over runs, with a normal interval.
    """

    accepted: Rate
    fdr: Rate
    reported: float
    fiction: float
    fiction_interval: Interval


@dataclass(frozen=True, slots=True)
class Nulls:
    """One source of candidates that cannot be better, judged by the gate and by keeping what scores higher.

    Attributes:
        truth: the true score of every candidate and champion.
        pairs: tasks answered twice (0 for the coin); ``differ``: share of tasks on which the two scores differ.
        gate_tasks, greedy_tasks: mean tasks per candidate that each rule looked at.
    """

    source: str
    truth: float
    pairs: int
    differ: float
    gate: Judged
    gate_tasks: float
    greedy: Judged
    greedy_tasks: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What :func:`calibrate` measured; ``summary`` says it in sentences.

    Attributes:
        error_rate, error_control: what the charter promises.
        runs, candidates: runs simulated for each source, and candidates in each.
        temperature: at which the champion answered; ``failed``: tasks left out because a run failed.
    """

    error_rate: float
    error_control: str
    runs: int
    candidates: int
    temperature: float
    failed: int
    own: Nulls
    coin: Nulls
    seed: int
    seconds: float
    tokens: int
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How runs are simulated.

    Attributes:
        screen: tasks that the greedy rule compares on; practice: tasks that the starting score is measured on.
    """

    charter: Charter
    runs: int
    candidates: int
    screen: int
    practice: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scores of the same tasks in two runs of one body, and what they cost."""

    scores: tuple[tuple[float, float], ...]
    failed: int
    temperature: float
    tokens: int


def calibrate(
    project: Project,
    *,
    candidates: int = 50,
    tasks: int = 96,
    seed: int = 0,
    on_event: Callable[[Event], None] | None = None,
) -> Calibration:
    """Measure how often this project's gate promotes what is no better, and note it on the ledger.

    Args:
        candidates: null candidates in each of :data:`RUNS` runs.
        tasks: practice tasks that the champion answers twice.

    Raises:
        RuntimeFailure: the champion gave no answer that could be scored.
        ProjectError: another run is at work in this project.
        As :func:`upwright.founding.found`, which it calls like any first command that needs a champion.
    """
    clock = time.monotonic()
    project.prepare()
    with project.lock():
        found(project)
        line = read_lineage(project)
        charter = Charter.parse(project.charter_path.read_text())
        number = next((g.number for g in line.generations if g.digest == line.champion), 0)

        def tell(verb: str, done: int, total: int, note: str) -> None:
            if on_event is not None:
                seconds = time.monotonic() - clock
                on_event(Event(0, number, verb, "", done, total, note, seconds, 0, None))

        pairs = _collect(project, line.champion, charter.objective, (tasks, seed), tell)
        settings = project.settings.run
        plan = Plan(charter, RUNS, candidates, settings.screen, settings.practice)
        own = replace(
            simulate(plan, resampled(pairs.scores), float(np.mean(pairs.scores)), (charter.objective, seed), tell),
            pairs=len(pairs.scores),
            differ=float(np.mean([a != b for a, b in pairs.scores])),
        )
        coin = simulate(plan, coin_flips, 0.5, ("coin", seed), tell)
        made = Calibration(
            charter.error_rate, charter.error_control, RUNS, candidates, pairs.temperature, pairs.failed, own, coin,
            seed, round(time.monotonic() - clock, 1), pairs.tokens,
        )  # fmt: skip
        made = replace(made, summary=tuple(_sentences(made)))
        record_calibration(project.warden, to_json(made))
    return made


# ---- real pairs ---------------------------------------------------------------------------------


class _Warm(Body):
    """A body that samples, at :data:`WARM` when its ``inference.toml`` is greedy."""

    @property
    def inference(self) -> Inference:
        given = super().inference
        return given if given.temperature else replace(given, temperature=WARM)


def pairs_job(root: str, digest: str, suite_name: str, n: int, seed: int, *, progress: Progress) -> Pairs:
    """Answer ``n`` practice tasks twice with a stored generation, each time with other sampling seeds."""
    project = Project.open(root)
    suite = open_suites(project.settings.suites, project.root, salt=salt(project))[suite_name]
    body = _Warm(Store(project.state / "store").checkout(digest), digest)
    tasks = suite.draw(n, derive_seed(seed, "calibrate"))
    columns: list[list[float | None]] = []
    tokens = 0
    measured = bool(tasks) and tasks[0].scorer.get("kind") == "program"
    for side in range(2):
        # a program answers alike whatever the seed: what differs is the run, so the other side gets other runs
        drawn = suite.draw(n, derive_seed(seed, "calibrate", side)) if measured and side else tasks

        def tell(done: int, _: int, before: int = side * len(tasks)) -> None:
            progress(before + done, 2 * len(tasks), "answering twice, with other seeds")

        answers = answer(body, [t.question for t in drawn], derive_seed(seed, "side", side), progress=tell)
        tokens += sum(a.prompt_tokens + a.completion_tokens for a in answers)
        graded = [None if a.failure else suite.grade(a.text, t) for a, t in zip(answers, drawn, strict=True)]
        columns.append([g if isinstance(g, float) else None for g in graded])
    scores = tuple((a, b) for a, b in zip(*columns, strict=True) if a is not None and b is not None)
    return Pairs(scores, len(tasks) - len(scores), body.inference.temperature, tokens)


def _collect(project: Project, digest: str, suite: str, plan: tuple[int, int], tell: Tell) -> Pairs:
    with contextlib.closing(make_engine(project.settings.engine, project.logs)) as engine:
        pairs = engine.run(
            pairs_job, str(project.root), digest, suite, *plan, timeout=project.settings.run.task_timeout,
            progress=lambda done, total, note: tell("evaluate", done, total, note),
        )  # fmt: skip
    if not pairs.scores:
        raise RuntimeFailure(
            "the champion gave no answer that could be scored", value=pairs.failed, todo="see `upwright check`"
        )
    return pairs


# ---- whole runs of candidates that cannot be better ---------------------------------------------


def coin_flips(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Scores 0 or 1, by a fair coin, for both sides."""
    child, champion = rng.integers(0, 2, (2, n)).astype(np.float64)
    return child, champion


def resampled(pairs: tuple[tuple[float, float], ...]) -> Draw:
    """Draws from real pairs with replacement; each pair is turned round with probability one half."""
    known = np.asarray(pairs, dtype=np.float64)  # [pairs, 2]

    def draw(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
        rows = rng.integers(0, len(known), n)
        side = rng.integers(0, 2, n)
        return known[rows, side], known[rows, 1 - side]

    return draw


def gate_says(charter: Charter, number: int, promotions: int, d: Floats) -> tuple[bool, int]:
    """One candidate at the gate itself, batch by batch as the charter says: promoted?, and tasks used.

    Args:
        number: of the test in its run, from 1; promotions: before it.
        d: paired differences in [−1, 1], shape (n_max,).
    """
    limit = threshold(charter.error_rate, number, promotions, charter.error_control)
    gate = Gate.start(limit, charter.beta, charter.minimum_gain, charter.sealed.n_max, {}, ())
    used = 0
    while (word := gate.decide()[0]) is None:
        batch = d[used : used + charter.sealed.batch]
        gate = gate.add_objective(batch)
        used += len(batch)
    return word is Decision.PROMOTE, used


def gate_tests(charter: Charter, number: int, promotions: Counts, d: Floats) -> tuple[Counts, Counts]:
    """The same for many runs at once, from the gate's own e-process; each argument but the first two has a row per run.

    Every promotion, and every :data:`AUDITED`-th candidate, is judged by the gate itself as well, and must agree.
    """
    n, size = charter.sealed.n_max, charter.sealed.batch
    looks = np.array([*range(size, n, size), n])
    limits = [threshold(charter.error_rate, number, int(r), charter.error_control) for r in promotions]
    up, down, d = np.array([math.log(limit) for limit in limits]), -math.log(charter.beta), d[:, :n]
    crossed = star_path(d, up, n)[:, looks - 1] >= up[:, None]
    dropped = star_path(d, down, n, -1, -charter.minimum_gain)[:, looks - 1] >= down
    end = len(looks)
    cross = np.where(crossed.any(axis=1), crossed.argmax(axis=1), end)
    drop = np.where(dropped.any(axis=1), dropped.argmax(axis=1), end)
    promoted = (cross < end) & (cross <= drop)
    used = looks[np.minimum(np.minimum(cross, drop), end - 1)]
    for row in range(len(d)):
        if promoted[row] or (row + number) % AUDITED == 0:
            said = gate_says(charter, number, int(promotions[row]), d[row])
            assert said == (promoted[row], used[row]), (said, promoted[row], used[row])
    return promoted.astype(np.int64), used


def simulate(plan: Plan, draw: Draw, truth: float, which: tuple[str, int], tell: Tell) -> Nulls:
    """Runs of null candidates, the same streams judged by the gate and by keeping what scores higher.

    Args:
        truth: the true score of whatever ``draw`` draws.
        which: name of the source, and the seed.
    """
    source, seed = which
    charter, most = plan.charter, plan.charter.sealed.n_max
    rngs = [np.random.default_rng((derive_seed("calibrate", source, seed), run)) for run in range(plan.runs)]
    gated, greedy = np.zeros(plan.runs, dtype=np.int64), np.zeros(plan.runs, dtype=np.int64)
    confirmed = np.array([draw(rng, plan.practice)[1].mean() for rng in rngs])
    best = np.zeros(plan.runs)
    looked = 0
    for number in range(1, plan.candidates + 1):
        drawn = np.array([draw(rng, max(most, plan.screen)) for rng in rngs])  # [runs, 2, tasks]
        promoted, used = gate_tests(charter, number, gated, (drawn[:, 0] - drawn[:, 1])[:, :most])
        gated, looked = gated + promoted, looked + int(used.sum())
        for run in np.flatnonzero(promoted):
            confirmed[run] = draw(rngs[run], charter.sealed.confirm)[0].mean()
        child, champion = drawn[:, :, : plan.screen].mean(axis=2).T
        best = champion if number == 1 else best
        best = np.where(child > champion, np.maximum(best, child), best)
        greedy += child > champion
        tell("prove", number * plan.runs, plan.candidates * plan.runs, f"candidates that cannot be better: {source}")
    total = plan.runs * plan.candidates
    gate, naive = (_judged(k, r, truth, plan.candidates) for k, r in ((gated, confirmed), (greedy, best)))
    return Nulls(source, truth, 0, 0.5, gate, looked / total, naive, float(plan.screen))


def exact(count: int, of: int, level: float = 0.95) -> Rate:
    """A share with its Clopper–Pearson interval."""
    found = binomtest(count, of).proportion_ci(level, method="exact")
    return Rate(count, of, count / of, Interval(float(found.low), float(found.high), level))


def _judged(kept: Counts, reported: Floats, truth: float, candidates: int) -> Judged:
    fiction = reported - truth
    half = 1.96 * float(fiction.std(ddof=1)) / len(fiction) ** 0.5 if len(fiction) > 1 else float("inf")
    mean = float(fiction.mean())
    accepted, fdr = exact(int(kept.sum()), len(kept) * candidates), exact(int((kept > 0).sum()), len(kept))
    return Judged(accepted, fdr, float(reported.mean()), mean, Interval(mean - half, mean + half))


# ---- in sentences -------------------------------------------------------------------------------


def _sentences(found: Calibration) -> list[str]:
    own, coin = found.own, found.coin
    lines = [
        f"{found.runs} runs of {found.candidates} candidates that cannot be better, twice; the charter allows "
        f"{_percent(found.error_rate)} ({found.error_control.upper()})"
    ]
    asked = f"{own.pairs} practice tasks of {own.source} answered twice at temperature {found.temperature:g}"
    title = f"the champion against itself ({asked}; the scores differ on {_percent(own.differ)})"
    for nulls, what in ((own, title), (coin, "a coin flip (no model)")):
        lines += [
            f"{what}:",
            f"  the gate promotes {_rate(nulls.gate.accepted)} of them, in {_rate(nulls.gate.fdr)} of the runs, "
            f"after {nulls.gate_tasks:.0f} tasks each; {_report(nulls.gate, nulls.truth)}",
            f"  keeping what scores higher on {nulls.greedy_tasks:.0f} tasks accepts {_rate(nulls.greedy.accepted)} of "
            f"them; {_report(nulls.greedy, nulls.truth)}",
        ]
    if found.failed:
        lines.append(f"{found.failed} tasks were left out because a run failed")
    return lines


def _report(judged: Judged, truth: float) -> str:
    ends = f"{judged.fiction_interval.low:+.3f} to {judged.fiction_interval.high:+.3f}"
    said = f"it reports {judged.reported:.2f} where the truth is {truth:.2f}"
    return f"{said}: a fictional gain of {judged.fiction:+.3f} ({ends})"


def _rate(rate: Rate) -> str:
    return f"{_percent(rate.value)} ({_percent(rate.interval.low)} to {_percent(rate.interval.high)})"


def _percent(value: float) -> str:
    return f"{100 * value:.{1 if value >= 0.1 else 2}f} %"
