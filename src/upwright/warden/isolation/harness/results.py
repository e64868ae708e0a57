"""What an evaluator measured, as JSON data that says which values are numbers.

A plain finite number is a metric. A number that is not plain or not finite (NaN, an infinity, a subclass of ``float`` or ``int``, a complex one)
is *refused*, and a run with one has no score. Anything else, truth values among it, is something to tell people.
Exactly numpy's own scalars count as the plain numbers that they hold.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

MOST_NAMES = 512
MOST_TEXT = 8 * 1024
"""Longest text of an artifact, in characters."""


def result(found: Any, artifacts: Any = None, *, stage: int = 0, error: str = "") -> dict[str, Any]:
    """JSON data of one run.

    ``{"metrics": {name: number}, "refused": {name: what it was}, "artifacts": {name: text}, "stage": k, "error": text}``; stage 0 is a whole
    evaluation, k > 0 one that the cascade ended after stage k.

    Args:
        found: metric → value, as the evaluator gave it; tables in it are flattened to ``table.name``.
        artifacts: name → text or bytes.
        error: why the evaluator itself says that there is no result. Text under the metric ``error`` says the same.

    Raises:
        TypeError: ``found`` is no table.
    """
    if not isinstance(found, Mapping):
        raise TypeError(f"an evaluator gives a table of metrics, not {type(found).__name__}")
    metrics: dict[str, float | int] = {}
    refused: dict[str, str] = {}
    told: dict[str, str] = {}
    for name, value in flat(found):
        number = plain(value)
        if number is None:
            if value is not None:
                told[name] = text_of(value)
        elif isinstance(number, str):
            refused[name] = number
        else:
            metrics[name] = number
    said = found.get("error")
    error = error or (said if isinstance(said, str) else "")
    more = artifacts if isinstance(artifacts, Mapping) else {}
    told |= {str(k)[:200]: text_of(v) for k, v in list(more.items())[:MOST_NAMES] if v is not None}
    return {"metrics": metrics, "refused": refused, "artifacts": told, "stage": stage, "error": error[:MOST_TEXT]}


def flat(table: Mapping[Any, Any], before: str = "", depth: int = 0) -> list[tuple[str, Any]]:
    """``(name, value)`` of a table and of the tables in it, at most :data:`MOST_NAMES`."""
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{before}{str(key)[:200]}"
        if isinstance(value, Mapping) and depth < 3:
            found += flat(value, f"{name}.", depth + 1)
        else:
            found.append((name, value))
        if len(found) >= MOST_NAMES:
            break
    return found[:MOST_NAMES]


def plain(value: Any) -> float | int | str | None:
    """The plain finite number that a value is; what it is instead, for a number that is not; ``None`` for no number at all."""
    if type(value) is bool:
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if type(value) is numpy.ndarray and value.shape == ():
            value = value[()]
        if isinstance(value, numpy.generic) and type(value) is getattr(numpy, type(value).__name__, None):
            if isinstance(value, numpy.bool_ | numpy.character | numpy.void | numpy.object_):
                return None
            if isinstance(value, numpy.integer):
                value = int(value)
            elif isinstance(value, numpy.floating):
                value = float(value)
    if type(value) not in (int, float):
        counts = isinstance(value, int | float | complex) or hasattr(value, "as_integer_ratio")
        return f"{type(value).__name__}, no plain number" if counts else None
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    return value if finite else f"{value!r:.40}, not a finite number"


def text_of(value: Any) -> str:
    """A value as text for people, cut at :data:`MOST_TEXT`."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        try:
            value = json.dumps(value, default=str)
        except (TypeError, ValueError, RecursionError):
            value = repr(value)
    return str(value[:MOST_TEXT])
