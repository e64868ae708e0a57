"""Small changes of a program's structure, one function each: they say which spans become which text, or that they do not fit here.

What a change makes need not be sensible, only Python: whether it is any good is for the evaluator to say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import libcst as cst

from upwright.evolution.proposers._places import Line, Place, Places
from upwright.evolution.proposers._source import Source, Span

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("+", "-", "*", "/"), ("//", "%", "/"), ("<", "<=", ">", ">="), ("==", "!="), ("and", "or"), ("&", "|", "^"), ("<<", ">>"),
    ("+=", "-=", "*=", "/="), ("in", "not in"), ("is", "is not"),
)  # fmt: skip
"""Operators that can stand in one another's place."""
KIN: tuple[tuple[str, ...], ...] = (
    ("min", "max"), ("minimum", "maximum"), ("sin", "cos", "tanh"), ("floor", "ceil", "round"), ("sqrt", "cbrt", "log1p", "abs"),
    ("sum", "mean", "median", "max", "min"), ("argmin", "argmax"), ("zeros", "ones"), ("any", "all"), ("exp", "log", "sqrt"),
    ("append", "insert"), ("fmin", "fmax"), ("amin", "amax"), ("cumsum", "cumprod"), ("normal", "uniform"),
)  # fmt: skip
"""Functions and methods that take the same."""
FACTORS = (0.5, 0.8, 0.95, 1.05, 1.25, 2.0)
TIMES = (2, 3, 5, 10, 30)
_ATOMS = cst.Name | cst.Integer | cst.Float | cst.Call | cst.Subscript | cst.Attribute
Edits = list[tuple[Span, str]]


@dataclass(frozen=True, slots=True)
class Spot:
    """A file that is to be changed, and where in it."""

    source: Source
    places: Places
    rng: random.Random

    def one(self, of: list[Place]) -> Place | None:
        """Some place, if there is any."""
        return self.rng.choice(of) if of else None

    def text(self, node: cst.CSTNode) -> str:
        """A value so that it can stand anywhere in an expression."""
        text = self.source.text(node)
        return text if isinstance(node, _ATOMS) else f"({text})"

    def put(self, node: cst.CSTNode, text: str) -> Edits:
        """A node replaced."""
        return [(self.source.spans[node], text)]


Change = Callable[[Spot], Edits | None]


def operator(spot: Spot) -> Edits | None:
    """Another operator."""
    place = spot.one(spot.places.operators)
    node = getattr(place.node, "operator", None) if place else None
    if node is None or node not in spot.source.spans:
        return None
    text = spot.source.text(node).strip()
    others = [other for family in FAMILIES if text in family for other in family if other != text]
    return spot.put(node, spot.rng.choice(others)) if others else None


def kin(spot: Spot) -> Edits | None:
    """Another function in the place of one that takes the same."""
    fitting: list[tuple[cst.CSTNode, list[str]]] = []
    for place in spot.places.calls:
        function = place.node.func if isinstance(place.node, cst.Call) else None
        name = function.attr if isinstance(function, cst.Attribute) else function
        if isinstance(name, cst.Name):
            others = [other for family in KIN if name.value in family for other in family if other != name.value]
            fitting += [(name, others)] if others else []
    if not fitting:
        return None
    node, others = spot.rng.choice(fitting)
    return spot.put(node, spot.rng.choice(others))


def argument(spot: Spot) -> Edits | None:
    """Two arguments of a call change places."""
    calls = [p.node for p in spot.places.calls if isinstance(p.node, cst.Call)]
    plain = [[a.value for a in call.args if a.keyword is None and not a.star] for call in calls]
    plain = [values for values in plain if len(values) > 1]
    if not plain:
        return None
    a, b = spot.rng.sample(spot.rng.choice(plain), 2)
    return [*spot.put(a, spot.text(b)), *spot.put(b, spot.text(a))]


def name(spot: Spot) -> Edits | None:
    """A variable in the place of another of the same function."""
    used = [p for p in spot.places.values if isinstance(p.node, cst.Name) and p.node.value in _bound(spot, p)]
    place = spot.one(used)
    others = [other for other in _bound(spot, place) if other != spot.source.text(place.node)] if place else []
    return spot.put(place.node, spot.rng.choice(others)) if place and others else None


def expression(spot: Spot) -> Edits | None:
    """A value in the place of another of the same function."""
    place = spot.one(spot.places.values)
    if place is None:
        return None
    others = [p.node for p in spot.places.values if p.function == place.function and p.node is not place.node]
    return spot.put(place.node, spot.text(spot.rng.choice(others))) if others else None


def factor(spot: Spot) -> Edits | None:
    """A value with a factor, which can be tuned."""
    place = spot.one([p for p in spot.places.values if isinstance(p.node, _ATOMS | cst.BinaryOperation)])
    return spot.put(place.node, f"({spot.text(place.node)} * {spot.rng.choice(FACTORS)})") if place else None


def step(spot: Spot) -> Edits | None:
    """A whole number one more or one less."""
    place = spot.one([p for p in spot.places.values if isinstance(p.node, cst.Integer)])
    if place is None or not isinstance(place.node, cst.Integer):
        return None
    value = place.node.evaluated_value + spot.rng.choice((-1, 1))
    return spot.put(place.node, str(value) if value >= 0 else f"({value})")


def simpler(spot: Spot) -> Edits | None:
    """One side of an operation in the place of all of it."""
    place = spot.one([p for p in spot.places.values if isinstance(p.node, cst.BinaryOperation | cst.BooleanOperation)])
    if place is None or not isinstance(place.node, cst.BinaryOperation | cst.BooleanOperation):
        return None
    return spot.put(place.node, spot.text(spot.rng.choice((place.node.left, place.node.right))))


def negate(spot: Spot) -> Edits | None:
    """The contrary of a condition."""
    place = spot.one(spot.places.tests)
    return spot.put(place.node, f"not ({spot.source.text(place.node)})") if place else None


def order(spot: Spot) -> Edits | None:
    """A loop the other way round, or in order of size."""
    place = spot.one(spot.places.loops)
    way = spot.rng.choice(("reversed(list({}))", "sorted({})", "sorted({}, reverse=True)"))
    return spot.put(place.node, way.format(spot.source.text(place.node))) if place else None


def delete(spot: Spot) -> Edits | None:
    """A statement less."""
    line = _line(spot, lambda line: not isinstance(line.node, cst.FunctionDef | cst.ClassDef))
    if line is None:
        return None
    alone = f"{spot.source.indent(line.node)}pass\n" if line.size == 1 else ""
    return [(spot.source.lines(line.node), alone)]


def swap(spot: Spot) -> Edits | None:
    """Two neighbouring statements change places."""
    lines = {(line.block, line.at): line for line in spot.places.lines}
    pairs = [(line, lines[b, at + 1]) for (b, at), line in lines.items() if (b, at + 1) in lines]
    if not pairs:
        return None
    first, second = (spot.source.lines(line.node) for line in spot.rng.choice(pairs))
    return [(first, _whole(spot.source, second)), (second, _whole(spot.source, first))]


def move(spot: Spot) -> Edits | None:
    """A copy of a statement after another one of the same function, as far indented as that."""
    line, to = _line(spot, _plain(spot)), _line(spot)
    if line is None or to is None or line.function != to.function:
        return None
    text = _indented(spot.source, line, spot.source.indent(to.node))
    stop = spot.source.lines(to.node).stop
    return [(Span(stop, stop), text if spot.source.data[:stop].endswith(b"\n") else "\n" + text)]


def repeat(spot: Spot) -> Edits | None:
    """A statement several times."""
    line = _line(spot, _plain(spot))
    if line is None:
        return None
    indent = spot.source.indent(line.node)
    head = f"{indent}for _ in range({spot.rng.choice(TIMES)}):\n"
    return [(spot.source.lines(line.node), head + _indented(spot.source, line, indent + "    "))]


def guard(spot: Spot) -> Edits | None:
    """A statement only under a condition of the same function."""
    line = _line(spot, _plain(spot))
    tests = [p.node for p in spot.places.tests if line and p.function == line.function]
    if line is None or not tests:
        return None
    indent = spot.source.indent(line.node)
    head = f"{indent}if {spot.source.text(spot.rng.choice(tests))}:\n"
    return [(spot.source.lines(line.node), head + _indented(spot.source, line, indent + "    "))]


CHANGES: Mapping[str, Change] = {
    change.__name__: change
    for change in (
        operator, kin, argument, name, expression, factor, step, simpler, negate, order, delete, swap, move, repeat, guard,
    )
}  # fmt: skip
"""All of them, by name."""


def _bound(spot: Spot, place: Place) -> list[str]:
    return spot.places.names.get(place.function, [])


def _line(spot: Spot, fits: Callable[[Line], bool] = lambda line: True) -> Line | None:
    lines = [line for line in spot.places.lines if fits(line)]
    return spot.rng.choice(lines) if lines else None


def _plain(spot: Spot) -> Callable[[Line], bool]:
    """Statements that can be indented otherwise: no text in them goes over several lines, and they leave nothing."""

    def fits(line: Line) -> bool:
        text = spot.source.text(line.node)
        return '"""' not in text and "'''" not in text and "\\\n" not in text and not text.startswith("return")

    return fits


def _whole(source: Source, span: Span) -> str:
    """Whole lines, the last one ended."""
    text = source.data[span.start : span.stop].decode()
    return text if text.endswith("\n") else text + "\n"


def _indented(source: Source, line: Line, indent: str) -> str:
    """A statement's lines with another indentation."""
    old = source.indent(line.node)
    lines = _whole(source, source.lines(line.node)).splitlines(keepends=True)
    return "".join(indent + text.removeprefix(old) if text.strip() else text for text in lines)
