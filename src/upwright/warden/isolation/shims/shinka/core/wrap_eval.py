"""``run_shinka_eval``: run a program's function several times, validate every result, aggregate, leave two JSON files.

Departures: runs follow each other (``run_workers`` is taken and does nothing), none is left out (the early-stopping arguments likewise), nothing is plotted or
pickled (``extra_data`` is dropped), and a program whose evaluator gives no keyword arguments gets seeds that follow from the run's own, so that
every run is another one; ShinkaEvolve counts them from 1.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import statistics
import time
import types
from collections.abc import Callable
from typing import Any

FIRST_SEED = 1
"""Seed of the first run; the harness sets it."""
Kwargs = Callable[[int], dict[str, Any]]


def load_program(program_path: str) -> types.ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("program", program_path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load the program at {program_path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_json_results(
    results_dir: str, metrics: dict[str, Any], correct: bool, error: str | None = None, verbose: bool = True
) -> None:
    """Write ``metrics.json`` and ``correct.json``."""
    os.makedirs(results_dir, exist_ok=True)
    for name, data in (("metrics.json", metrics), ("correct.json", {"correct": bool(correct), "error": error})):
        with open(os.path.join(results_dir, name), "w") as file:
            json.dump(data, file, default=_plain)


def run_shinka_eval(  # noqa: PLR0913
    program_path: str,
    results_dir: str,
    experiment_fn_name: str,
    num_runs: int,
    get_experiment_kwargs: Kwargs | None = None,
    aggregate_metrics_fn: Callable[[list[Any]], dict[str, Any]] | None = None,
    validate_fn: Callable[[Any], tuple[bool, str | None]] | None = None,
    plotting_fn: Any = None,
    default_metrics_on_error: dict[str, Any] | None = None,
    **ignored: Any,
) -> tuple[dict[str, Any], bool, str | None]:
    """Evaluate a program; ``(metrics, correct, first error)``, which are also written to ``results_dir``."""
    try:
        function = getattr(load_program(program_path), experiment_fn_name)
        given, seconds = _runs(function, num_runs, get_experiment_kwargs)
        metrics = dict(aggregate_metrics_fn(given)) if aggregate_metrics_fn else {"num_successful_runs": len(given)}
        metrics |= {"execution_time_mean": _mean(seconds), "execution_time_std": _spread(seconds)}
        wrong = _validated(given, validate_fn, metrics)
        error = wrong[0] if wrong else _not_finite(metrics)
    except Exception as e:
        metrics, error = {"combined_score": 0.0, **(default_metrics_on_error or {})}, f"{type(e).__name__}: {e}"
    metrics.pop("extra_data", None)
    save_json_results(results_dir, metrics, error is None, error)
    return metrics, error is None, error


def _runs(function: Callable[..., Any], runs: int, kwargs: Kwargs | None) -> tuple[list[Any], list[float]]:
    given, seconds = [], []
    for i in range(runs):
        asked = kwargs(i) if kwargs else {"seed": FIRST_SEED + i}
        start = time.perf_counter()
        given.append(function(**asked))
        seconds.append(time.perf_counter() - start)
    return given, seconds


def _validated(given: list[Any], validate: Any, metrics: dict[str, Any]) -> list[str]:
    """Why results are not valid, each reason once; counts go into ``metrics``."""
    if validate is None:
        return []
    told = [validate(one) for one in given]
    wrong = [str(why or "a result is not valid") for good, why in told if not good]
    reasons = list(dict.fromkeys(wrong))
    metrics["num_valid_runs"], metrics["num_invalid_runs"] = len(told) - len(wrong), len(wrong)
    metrics["all_validation_errors"] = reasons
    return [f"Validation failed: {why}" for why in reasons]


def _not_finite(metrics: dict[str, Any]) -> str | None:
    score = metrics.get("combined_score")
    if score is None or math.isfinite(score):
        return None
    return f"combined_score is {score}"


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _spread(values: list[float]) -> float:
    return statistics.pstdev(values) if values else 0.0


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays as JSON data; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
