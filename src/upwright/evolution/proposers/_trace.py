"""Programs that are watched, or climb over their own numbers, when they are run: made here as text, and what they print is read here.

A program is run under its own evaluator, wherever candidates run (:class:`Bench`), so that functions get the arguments that they get
there. What a run prints is data from a program that nobody trusts; it is checked for its form, and all it can bring about is a
draft, which is judged like every other.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

import libcst as cst
import msgspec

from upwright.evolution.proposers import _climb, _probe
from upwright.evolution.proposers._literals import Literal
from upwright.evolution.proposers._source import Source, Span, functions, spliced
from upwright.evolution.records import Program

_MARK = "upwright:{nonce:032x}:"
_NAME = "_upwright"
Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Printed:
    """How a run on the bench ended.

    Attributes:
        output: what the program printed.
        why: one sentence when the run did not end well, else empty.
    """

    output: str
    why: str = ""


class Bench(Protocol):
    """Runs a program once under the evaluator, isolated as every candidate is; its score, if it gets one, is not kept."""

    def __call__(self, program: Program, seconds: float) -> Printed:
        """Run a program for at most ``seconds`` seconds; may be called from several threads at once; raises nothing of the program's."""
        ...


class Seen(msgspec.Struct, frozen=True):
    """A list or an array at a site: how often it was there, whether it varied, the first value, and whether it is numpy's."""

    times: int
    varied: bool
    value: list[Any]
    array: bool


class Trace(msgspec.Struct, frozen=True):
    """What a watched run showed.

    Attributes:
        sites: site → what was there.
        calls: public functions that the evaluator called, each with the numbers that it returned, as (path, number).
    """

    sites: dict[str, Seen]
    calls: list[tuple[str, list[tuple[list[int | str], float]]]]


class Climbed(msgspec.Struct, frozen=True):
    """Where a climb ended: its best point and value, the value that it began with, evaluations, and whether that is a local maximum.

    ``done`` is false where the run was ended before the climb was.
    """

    point: list[float]
    value: float
    start: float
    used: int
    settled: bool
    done: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that a function returns, as what to climb by: more is better where ``sign`` is 1."""

    function: str
    path: tuple[int | str, ...]
    sign: int


@dataclass(frozen=True, slots=True)
class Climb:
    """How to climb.

    Attributes:
        rows: the arrays among the numbers, as (first number, row's width, rows).
        limits: evaluations, and seconds of the processor.
        settled: whether the numbers are at a local maximum already.
    """

    measure: Measure
    numbers: Sequence[Literal]
    steps: Sequence[float]
    rows: Sequence[tuple[int, int, int]]
    limits: tuple[int, float]
    settled: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a function just after a statement that made or changed a variable.

    Attributes:
        function: the function's name; ``number``: counts the variable's sites in it, from 1.
        at: the byte at which the next line begins; ``indent``: of the statement.
    """

    function: str
    variable: str
    number: int
    at: int
    indent: str

    @property
    def name(self) -> str:
        """What a trace calls it."""
        return f"{self.function}:{self.variable}:{self.number}"


def watched(source: Source, sites: Sequence[Site], nonce: int) -> str:
    """A file that tells what is in the variable of each site."""
    changes = [(Span(s.at, s.at), f"{s.indent}{_NAME}.see({s.name!r}, {s.variable})\n") for s in sites]
    return _around(source, changes, nonce, None)


def climbing(source: Source, how: Climb, nonce: int) -> str:
    """A file that climbs over its numbers in the first call of the measured function, and tells where it came to."""
    changes = [(n.span, f"{_NAME}.numbers[{k}]") for k, n in enumerate(how.numbers)]
    plan = {
        "entry": how.measure.function, "path": list(how.measure.path), "sign": how.measure.sign, "steps": list(how.steps),
        "numbers": [n.value for n in how.numbers], "rows": [list(r) for r in how.rows], "limits": list(how.limits),
        "settled": how.settled, "seed": how.seed,
    }  # fmt: skip
    return _around(source, changes, nonce, plan)


def read_trace(printed: Printed, nonce: int) -> Trace | None:
    """What a watched run told; ``None`` where it told nothing."""
    return _read(printed, nonce, Trace)


def read_climb(printed: Printed, nonce: int, numbers: int) -> Climbed | None:
    """Where a climb came to; ``None`` where it does not say, or the numbers are not finite."""
    found = _read(printed, nonce, Climbed)
    if found is None or len(found.point) != numbers or not all(map(math.isfinite, found.point)):
        return None
    return found


def _read(printed: Printed, nonce: int, kind: type[Told]) -> Told | None:
    mark = _MARK.format(nonce=nonce)
    for line in reversed(printed.output.splitlines()):
        if line.startswith(mark):
            try:
                return msgspec.json.decode(line[len(mark) :], type=kind)
            except msgspec.DecodeError:
                return None
    return None


def _around(source: Source, changes: list[tuple[Span, str]], nonce: int, plan: Mapping[str, Any] | None) -> str:
    """The file with changes, the probe before its first statement and a wrapper for each public function at its end."""
    mark = _MARK.format(nonce=nonce)
    inserted = f"{_inserted(_climb)}\n{_inserted(_probe)}"
    head = (
        f"{_NAME}_space = {{'__name__': 'probe'}}\nexec({inserted!r}, {_NAME}_space)\n"
        f"{_NAME} = {_NAME}_space['UpwrightProbe']({mark!r}, {json.dumps(plan)!r})\n"
    )
    tail = "".join(
        f"\n\n{_NAME}_{name} = {name}\n\n\ndef {name}(*args, **kwargs):\n"
        f"    return {_NAME}.outer({name!r}, {_NAME}_{name}, args, kwargs)\n"
        for name in (f.name.value for f in functions(source)) if not name.startswith("_")
    )  # fmt: skip
    start, stop = _first(source), len(source.data)
    return spliced(source.data, [(Span(start, start), head), *changes, (Span(stop, stop), "\n" + tail)])


def _first(source: Source) -> int:
    """The byte at which the first line begins that is neither the docstring nor an import from ``__future__``."""
    for index, statement in enumerate(source.tree.body):
        if not isinstance(statement, cst.SimpleStatementLine):
            return source.lines(statement).start
        first = statement.body[0]
        docstring = index == 0 and isinstance(first, cst.Expr) and isinstance(first.value, cst.SimpleString)
        future = (
            isinstance(first, cst.ImportFrom)
            and isinstance(first.module, cst.Name)
            and first.module.value == "__future__"
        )
        if not docstring and not future:
            return source.lines(statement).start
    return len(source.data)


@cache
def _inserted(module: Any) -> str:
    """A module's text as it is put into programs, with what it imports."""
    text = inspect.getsource(module)
    head, body, _ = text.split("\n##########\n")
    imports = [line for line in head.splitlines() if line.startswith("import ")]
    return "\n".join([*imports, body])
