"""OpenEvolve's evaluators: ``evaluate(program_path)`` gives a table of metrics, or an object with ``metrics`` and ``artifacts``.

With thresholds in the job, ``evaluate_stage1`` to ``evaluate_stage3`` run in turn instead, each only where the one before reached its
threshold; later metrics replace earlier ones of the same name. What is measured against a threshold is ``combined_score``, or without one the mean of all
metrics but ``error``. Departure: an error in a later stage is a run that failed, not the metrics of the stages before it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from .loading import load
from .results import plain, result

Stage = Callable[[str], Any]


def run(job: Mapping[str, Any], program_path: str, workdir: str) -> dict[str, Any]:
    """Evaluate. ``job``: ``{"entry", "thresholds"}``."""
    module = load(str(job["folder"]), str(job["entry"]), "evaluation_module")
    stages = [s for i in (1, 2, 3) if callable(s := getattr(module, f"evaluate_stage{i}", None))]
    thresholds = [float(t) for t in job.get("thresholds", ())]
    whole = getattr(module, "evaluate", None)
    if thresholds and stages:
        return cascade(stages, thresholds, program_path)
    if callable(whole):
        return result(*both(whole(program_path)))
    if not stages:
        raise AttributeError(f"{job['entry']} defines neither evaluate(program_path) nor evaluate_stage1(program_path)")
    return cascade(stages, [], program_path)


def cascade(stages: Sequence[Stage], thresholds: Sequence[float], path: str) -> dict[str, Any]:
    """Stage after stage, up to one that misses its threshold; without thresholds, all of them."""
    metrics: dict[Any, Any] = {}
    artifacts: dict[Any, Any] = {}
    for number, stage in enumerate(stages, 1):
        found, more = both(stage(path))
        metrics.update(found)
        artifacts.update(more)
        if number == len(stages):
            break
        if thresholds and (number > len(thresholds) or not passes(metrics, thresholds[number - 1])):
            return result(metrics, artifacts, stage=number)
    return result(metrics, artifacts)


def both(given: Any) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """Metrics and artifacts of what an evaluator gave.

    Raises:
        TypeError: it is neither a table nor an object with a table ``metrics``.
    """
    if isinstance(given, Coroutine):
        import asyncio  # seldom needed, and slow to load

        given = asyncio.run(given)
    if isinstance(given, Mapping):
        return given, {}
    metrics, artifacts = getattr(given, "metrics", None), getattr(given, "artifacts", None)
    if not isinstance(metrics, Mapping):
        raise TypeError(f"an evaluator gives a dict or an EvaluationResult, not {type(given).__name__}")
    return metrics, artifacts if isinstance(artifacts, Mapping) else {}


def passes(metrics: Mapping[Any, Any], threshold: float) -> bool:
    """Whether a stage reached its threshold."""
    score = plain(metrics.get("combined_score"))
    if isinstance(score, int | float):
        return score >= threshold
    numbers = [n for name, v in metrics.items() if name != "error" and isinstance(n := plain(v), int | float)]
    return bool(numbers) and sum(numbers) / len(numbers) >= threshold
