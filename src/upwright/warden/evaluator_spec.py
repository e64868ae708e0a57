"""``evaluator.toml``: how a folder's evaluator is run, and how what it measures is read."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from upwright.warden.errors import GraderError
from upwright.warden.isolation import Limits
from upwright.warden.parcel import plain_path

FILE = "evaluator.toml"
KINDS = ("evaluate", "shinka", "command")
ENTRIES = {"evaluate": "evaluator.py", "shinka": "evaluate.py"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How a metric becomes a score in [0, 1], higher is better.

    ``1/2 + atan(sign · (metric − center) / width) / π``, or the metric itself where it is ``bounded`` (then 1 minus it, where less is better).

    Attributes:
        direction: ``max`` or ``min``: whether more or less of the metric is better.
        exact: the metric is the same in every run of the same program, whatever the seed.
    """

    direction: str = "max"
    center: float = 0.0
    width: float = 1.0
    bounded: bool = False
    exact: bool = False

    @property
    def sign(self) -> int:
        """+1 where more is better, −1 where less is."""
        return 1 if self.direction == "max" else -1

    def score(self, metric: float) -> float:
        """Score in [0, 1].

        Raises:
            ValueError: a bounded metric outside [0, 1].
        """
        if self.bounded:
            if not 0.0 <= metric <= 1.0:
                raise ValueError(f"a bounded metric lies in [0, 1], got {metric!r}")
            return metric if self.sign > 0 else 1.0 - metric
        return 0.5 + math.atan(self.sign * (metric - self.center) / self.width) / math.pi


@dataclass(frozen=True, slots=True)
class EvaluatorSpec:
    """``evaluator.toml``: how a folder's evaluator is run and read.

    Attributes:
        kind: ``evaluate`` (``evaluate(program_path)`` gives metrics), ``shinka`` (``main(program_path, results_dir)`` leaves them in files) or
            ``command`` (a command prints or writes them).
        entry: the evaluator's file in the folder; for ``command`` the command line, a list of words.
        program: path inside ``program/`` of the file that the evaluator is given.
        metric: the objective's metric.
        direction, center, width, bounded, exact: that metric's :class:`Scale`.
        metrics: scales of other metrics, ``[metrics.NAME]`` with the same keys.
        together: the program runs in the evaluator's own process, which it may then reach into. Weaker; for evaluators that need the
            program's own objects.
        thresholds: with ``cascade``, what ``evaluate_stage1`` (2, …) must reach for the next stage to run. This saves time in a search;
            what counts is always judged whole.
        output: for ``command``, the file that it writes its metrics to, inside the program's folder; empty for the last line printed.
        imports: modules that the cells have loaded before a run.
    """

    kind: str = "evaluate"
    entry: str | tuple[str, ...] = "evaluator.py"
    program: str = "program.py"
    metric: str = "combined_score"
    direction: str = "max"
    center: float = 0.0
    width: float = 1.0
    bounded: bool = False
    exact: bool = False
    metrics: Mapping[str, Scale] = field(default_factory=dict)
    together: bool = False
    cascade: bool = True
    thresholds: tuple[float, ...] = ()
    output: str = ""
    imports: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @staticmethod
    def read(folder: Path) -> EvaluatorSpec:
        """The folder's spec.

        Raises:
            GraderError: the file is missing, or malformed: names the key, its value and what is known.
        """
        try:
            text = (folder / FILE).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise GraderError(
                f"the evaluator has no readable {FILE}", value=str(folder), todo="write one; kind and metric are enough"
            ) from e
        return EvaluatorSpec.parse(text)

    @staticmethod
    def parse(text: str) -> EvaluatorSpec:
        """The spec that a text of evaluator.toml gives.

        Raises:
            GraderError: as :meth:`read`.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as e:
            raise GraderError(f"{FILE} is not TOML", value=str(e), todo="correct that line") from e
        _known(table, (*TOP, *SCALE, "limits", "metrics"), "the top level")
        keys = {name: value for name in TOP if name in table for value in [_one(table, name, TOP)]}
        kind = keys.get("kind", "evaluate")
        keys.setdefault("entry", ENTRIES.get(kind, ""))
        if not keys["entry"] or isinstance(keys["entry"], tuple) != (kind == "command"):
            wanted = "a list of words" if kind == "command" else "the name of a file in the folder"
            raise GraderError(f"{FILE}: entry must be {wanted} for kind {kind}", value=table.get("entry"))
        if keys.get("output") and kind != "command":
            raise GraderError(f"{FILE}: output is for kind command only", value=keys["output"], todo="leave it out")
        scale = {name: _one(table, name, SCALE) for name in SCALE if name in table}
        tables = {name: _table(table.get("metrics", {}), name, "metrics.") for name in _table(table, "metrics")}
        others = {name: Scale(**_section(found, SCALE, f"[metrics.{name}]")) for name, found in tables.items()}
        limits = Limits(**_section(_table(table, "limits"), LIMITS, "[limits]"))
        spec = EvaluatorSpec(**keys, **scale, metrics=others, limits=limits)
        if spec.metric in others:
            todo = "put direction, center, width, bounded and exact at the top level"
            raise GraderError(f"{FILE}: the objective's metric needs no table", value=spec.metric, todo=todo)
        return spec

    def of(self, metric: str | None = None) -> Scale:
        """The scale of a metric; of the objective's for ``None``. One that has no table of its own is read as the objective's is."""
        own = Scale(self.direction, self.center, self.width, self.bounded, self.exact)
        return self.metrics.get(metric or self.metric, own)

    def score(self, value: float, metric: str | None = None) -> float:
        """Score in [0, 1] of a metric's value.

        Raises:
            ValueError: a bounded metric outside [0, 1].
        """
        return self.of(metric).score(value)


def finite(value: object) -> float | None:
    """A plain finite number as ``float``; ``None`` for anything else: truth values, subclasses, NaN, infinities."""
    if type(value) not in (int, float):
        return None
    try:
        number = float(cast(float, value))
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _number(v: Any) -> bool:
    return finite(v) is not None


def _amount(v: Any) -> bool:
    return _number(v) and v > 0


def _count(v: Any) -> bool:
    return type(v) is int and v > 0


def _texts(v: Any) -> bool:
    return isinstance(v, list) and all(isinstance(x, str) and x for x in v)


Rule = tuple[str, Any]
TOP: dict[str, Rule] = {
    "kind": ("one of " + ", ".join(KINDS), lambda v: v in KINDS),
    "entry": ("the name of a file in the folder, or a list of words", lambda v: _texts(v) or plain_path(v)),
    "program": ("a path inside program/", plain_path),
    "metric": ("the name of a metric", lambda v: isinstance(v, str) and bool(v)),
    "together": ("true or false", lambda v: isinstance(v, bool)),
    "cascade": ("true or false", lambda v: isinstance(v, bool)),
    "thresholds": ("a list of numbers", lambda v: isinstance(v, list) and all(map(_number, v))),
    "output": ("a path inside the program's folder", plain_path),
    "imports": ("a list of modules", _texts),
}
SCALE: dict[str, Rule] = {
    "direction": ("max or min", lambda v: v in ("max", "min")),
    "center": ("a number", _number),
    "width": ("a number above 0", _amount),
    "bounded": ("true or false", lambda v: isinstance(v, bool)),
    "exact": ("true or false", lambda v: isinstance(v, bool)),
}
LIMITS: dict[str, Rule] = {
    f.name: ("a whole number above 0", _count)
    if f.name not in ("seconds", "cpu_seconds")
    else ("seconds above 0", _amount)
    for f in fields(Limits)
}


def _known(table: Mapping[str, object], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise GraderError(
                f"{FILE}: unknown key at {where}: {key}", value=table[key], todo="known keys: " + ", ".join(known)
            )


def _one(table: Mapping[str, Any], name: str, rules: Mapping[str, Rule]) -> Any:
    """The value of a key, checked; a list becomes a tuple."""
    said, good = rules[name]
    value = table[name]
    if not good(value):
        raise GraderError(f"{FILE}: {name} must be {said}", value=value, todo=f"change {name}")
    return tuple(value) if isinstance(value, list) else value


def _table(table: Mapping[str, Any], name: str, before: str = "") -> dict[str, Any]:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise GraderError(f"{FILE}: {before}{name} must be a table", value=found, todo=f"write [{before}{name}]")
    return found


def _section(table: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> dict[str, Any]:
    _known(table, tuple(rules), where)
    return {name: _one(table, name, rules) for name in table}
