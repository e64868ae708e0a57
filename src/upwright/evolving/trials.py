"""The first runs: what a program's evaluator measures, whether it repeats exactly, how long it takes, and the map of its metric to a score.

The first program is run a few times in isolation, each time in a fresh process under another seed. From that follow

- ``exact``: every run gave the same metric, bit for bit;
- ``center`` and ``width`` of ``score = 1/2 + atan(±(metric − center)/width)/π``: the first program scores 1/2, and a width better 3/4. The
  width is what the noise of a run or a fair change of the metric is, whichever is more;
- ``seconds``, after which a run is ended: twenty times the longest, or what the evaluator's own config says.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from upwright.errors import TaskError
from upwright.records import derive_seed

RUNS, LEAST_RUNS = 5, 2
PATIENCE = 120.0
"""Seconds of trial runs after which no more are begun than :data:`LEAST_RUNS`."""
FIRST_SECONDS = 600.0
"""Longest that a first run may take where nobody says."""
TIMES, LEAST_SECONDS = 20.0, 30.0
"""A later run may take so many times the longest first run, and so many seconds in any case."""
SHARE = 0.25
"""A fair change of a metric, as a share of its size."""
SPREADS = 2.0
"""Width of the map in standard deviations of a run, where that is more."""
METRICS = ("combined_score", "score")
"""Names by which evaluators call their objective, the likelier first."""
CALM = 1e-9
"""Width of the map where the first metric is 0 and never moves."""


class Judged(Protocol):
    """What a judge says of one run (:class:`upwright.warden.evaluator.Judged`)."""

    @property
    def metrics(self) -> Mapping[str, float]: ...  # noqa: D102
    @property
    def failure(self) -> str: ...  # noqa: D102
    @property
    def artifacts(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def stage(self) -> int: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def alarms(self) -> tuple[str, ...]: ...  # noqa: D102


Run = Callable[[int], Judged]
"""``run(seed)``: the first program, in a fresh process."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The first program's runs.

    Attributes:
        metrics: metric → its value in each run, in order; only those that every run gave.
        seconds: of each run, wall.
        alarms: what looked like an attack.
    """

    metrics: Mapping[str, tuple[float, ...]]
    seconds: tuple[float, ...]
    alarms: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        """How often it was run."""
        return len(self.seconds)

    def repeats(self, metric: str) -> bool:
        """Whether a metric was the same in every run, bit for bit."""
        return len(set(self.metrics[metric])) == 1


@dataclass(frozen=True, slots=True)
class Scale:
    """How a metric becomes a score, and what is known of its noise.

    ``spread`` is the standard deviation of a run, 0 where the metric repeats.
    """

    metric: str
    direction: str
    center: float
    width: float
    exact: bool
    spread: float


def try_first(run: Run, seed: int, say: Callable[[str], None] = lambda told: None, most: int = RUNS) -> Trial:
    """Run the first program a few times; at least twice, and no more once that has taken long.

    Args:
        say: told what is going on.

    Raises:
        TaskError: a run failed or gave no metrics: then nothing could be compared with it.
    """
    found: list[Judged] = []
    for number in range(most):
        if number >= LEAST_RUNS and sum(j.seconds for j in found) > PATIENCE:
            break
        say(f"run {number + 1} of the first program")
        judged = run(derive_seed(seed, "first runs", number))
        if judged.failure and (
            judged.failure != "value" or not judged.metrics
        ):  # else only the metric's name is unknown yet
            raise TaskError(
                f"the first program has no score: {judged.failure}",
                value=_why(judged),
                todo="mend it or its evaluator; both run without network, keys and a home, and only with what lies beside them",
            )
        found.append(judged)
    common = set.intersection(*(set(j.metrics) for j in found))
    ordered = [name for name in found[0].metrics if name in common]
    metrics = {name: tuple(float(j.metrics[name]) for j in found) for name in ordered}
    finite = {name: values for name, values in metrics.items() if all(map(math.isfinite, values))}
    alarms = tuple(dict.fromkeys(alarm for j in found for alarm in j.alarms))
    return Trial(finite, tuple(j.seconds for j in found), alarms)


def _why(judged: Judged) -> str:
    """What a failed run said, in a line."""
    told: str = judged.artifacts.get("why", "").strip() or "it said nothing"
    last = next((t for t in reversed(judged.artifacts.get("output", "").splitlines()) if t.strip()), "")
    return f"{told[:300]}; it printed: {last.strip()[:200]}" if last and last.strip() not in told else told[:300]


def choose_metric(trial: Trial, given: str = "") -> str:
    """The objective's metric: the one that was named, a conventional one, or the only one.

    Raises:
        TaskError: there is no such metric, or several and none is named.
    """
    names = list(trial.metrics)
    if not names:
        raise TaskError("the evaluator gave no number", todo="let it return a dictionary with numbers")
    if given:
        if given not in names:
            raise TaskError("the evaluator has no such metric", value=given, todo=f"its metrics: {', '.join(names)}")
        return given
    likely = next((name for name in METRICS if name in names), "")
    if likely or len(names) == 1:
        return likely or names[0]
    raise TaskError(
        "the evaluator has several metrics", value=names, todo="say which one is to get better: --metric NAME"
    )


def scale_of(trial: Trial, metric: str, direction: str, exact: bool | None = None) -> Scale:
    """The map of a metric to a score.

    Args:
        exact: what a person said of it; ``None`` to go by the runs.

    Raises:
        TaskError: a person said that it repeats exactly, and it did not.
    """
    values = trial.metrics[metric]
    repeats = trial.repeats(metric)
    if exact and not repeats:
        told = sorted(set(values))[:4]
        raise TaskError(f"{metric} did not repeat exactly in {len(values)} runs", value=told, todo="leave out --exact")
    spread = 0.0 if repeats else statistics.stdev(values)
    center = values[0] if repeats else statistics.fmean(values)
    width = max(SHARE * abs(center), SPREADS * spread) or (1.0 if not spread else CALM)
    return Scale(metric, direction, center, _rounded(width), repeats if exact is None else exact, spread)


def time_out(seconds: Sequence[float], told: float | None = None) -> float:
    """Seconds after which a run is ended."""
    longest = max(seconds)
    if told is not None and told >= 2 * longest:
        return told
    return float(math.ceil(max(LEAST_SECONDS, TIMES * longest)))


def _rounded(value: float) -> float:
    """Two digits: a width is no measurement."""
    return float(f"{value:.2g}")
