"""What a peer's config.yaml harmlessly tells, and what of it was left alone.

Only numbers and names are taken: how long a run may take, the thresholds between quick stages, which metrics are features. Its models,
prompts, keys and population sizes are not Upwright's: they are named, so that nobody thinks they count.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("config.yaml", "config.yml")
MOST = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """What was taken.

    Attributes:
        seconds: longest that one run may take; ``None`` where it does not say.
        cascade: whether quick stages are used; ``None`` where it does not say.
        thresholds: least score after each quick stage.
        features: metrics that tell programs apart.
        ignored: keys that were left alone.
        notes: what a person should know, in sentences.
    """

    seconds: float | None = None
    cascade: bool | None = None
    thresholds: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_config(folder: Path) -> Config:
    """Read the config.yaml of a folder, if there is one. It never is an error: what cannot be read is told."""
    file = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        return Config()
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        return Config(notes=(f"{file.name} was not read: that takes the package pyyaml",))
    try:
        if file.stat().st_size > MOST:
            raise ValueError("it is larger than 1 MB")
        data = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return Config(notes=(f"{file.name} was not read: {' '.join(str(error).split())[:200]}",))
    if not isinstance(data, Mapping):
        return Config(notes=(f"{file.name} was not read: it holds no table",))
    return _taken(data, file.name)


def _taken(data: Mapping[Any, Any], name: str) -> Config:
    used = set[str]()

    def get(table: str, key: str) -> Any:
        inner = data.get(table)
        if isinstance(inner, Mapping) and key in inner:
            used.add(f"{table}.{key}")
            return inner[key]
        return None

    seconds, cascade = _number(get("evaluator", "timeout")), get("evaluator", "cascade_evaluation")
    thresholds = get("evaluator", "cascade_thresholds")
    features = get("database", "feature_dimensions")
    keys = [f"{table}.{key}" for table, inner in data.items() if isinstance(inner, Mapping) for key in inner] + [
        str(key) for key, value in data.items() if not isinstance(value, Mapping)
    ]
    ignored = tuple(key for key in keys if key not in used)
    taken = ", ".join(sorted(used))
    whole = {key.partition(".")[0] for key in used}  # of these tables the keys are named, of others the table
    left = sorted({key if key.partition(".")[0] in whole else key.partition(".")[0] for key in ignored})
    notes = [f"of {name}: {taken or 'nothing'} taken"]
    if left:
        notes.append(f"of {name} ignored: {', '.join(left)} (models, prompts and populations are Upwright's own)")
    return Config(
        seconds if seconds and seconds > 0 else None,
        cascade if isinstance(cascade, bool) else None,
        _numbers(thresholds),
        tuple(str(f) for f in features) if isinstance(features, list) else (),
        ignored,
        tuple(notes),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _numbers(value: Any) -> tuple[float, ...]:
    found = [_number(v) for v in value] if isinstance(value, list) else []
    return tuple(f for f in found if f is not None)
