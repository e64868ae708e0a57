"""Numbers in a program's source: where they stand, how each may move, and the program with others in their places.

Left alone are integers in subscripts (they say *where*, not *how much*) and in exponents, 0 and 1 and -1 as integers, keyword arguments that name an axis or
a kind, and whatever feeds a random number generator: no seed is searched.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import libcst as cst

from upwright.evolution.blocks import Scope
from upwright.evolution.proposers._source import Source, Span, sources, spliced
from upwright.evolution.records import Program

LEAST_DISPLAY = 4
"""A list with this many numbers in it, at any depth, is data: its numbers may change their sign."""
_KEYWORDS = frozenset(
    {"axis", "dtype", "ndim", "ndmin", "seed", "random_state", "keepdims", "indent", "file", "sep", "end"}
)
_SEEDING = ("seed", "rng", "random_state", "randomstate", "randomgenerator", "pcg64", "generator")


@dataclass(frozen=True, slots=True)
class Literal:
    """A number in the source.

    Attributes:
        span: where it stands, its minus sign included.
        whole: whether it is an integer and stays one.
        display: number of the list of data that it is an item of, counted over the program; -1 for none.
        row: number of the innermost list that it stands in.
    """

    path: str
    span: Span
    value: float
    whole: bool
    display: int = -1
    row: int = -1


def literals(program: Program, scope: Scope, most: int = 1000) -> tuple[Literal, ...]:
    """The numbers that may be tuned, in order of path and position; of more than ``most`` the floats first, then the earliest."""
    found: list[Literal] = []
    displays = 0
    for source in sources(program, scope):
        finder = _Finder(source, displays)
        source.tree.visit(finder)
        displays = finder.displays
        found += finder.found
    if len(found) > most:
        ranked = sorted(range(len(found)), key=lambda i: (found[i].whole, i))[:most]
        found = [found[i] for i in sorted(ranked)]
    return tuple(found)


def written(program: Program, numbers: Sequence[Literal], values: Sequence[float]) -> dict[str, str]:
    """The program with other values at its literals."""
    return _replaced(program, ((n, spelled(n, value)) for n, value in zip(numbers, values, strict=True)))


def spelled(literal: Literal, value: float) -> str:
    """A value as it is written in the place of a literal: twelve significant digits, which read back to the same float."""
    if literal.whole:
        text = str(round(value))
    else:
        text = repr(float(f"{value:.12g}"))
    return f"({text})" if text.startswith("-") and literal.display < 0 and literal.value >= 0 else text


def skeleton(program: Program, numbers: Sequence[Literal]) -> str:
    """A digest of everything but the numbers: programs that differ in their literals alone have the same."""
    bare = _replaced(program, ((n, "0" if n.whole else "0.0") for n in numbers))
    return hashlib.sha256("\0".join(f"{path}\0{text}" for path, text in sorted(bare.items())).encode()).hexdigest()


def _replaced(program: Program, texts: Iterable[tuple[Literal, str]]) -> dict[str, str]:
    changes: dict[str, list[tuple[Span, str]]] = {}
    for literal, text in texts:
        changes.setdefault(literal.path, []).append((literal.span, text))
    return {path: spliced(text.encode(), changes[path]) if path in changes else text for path, text in program.items()}


class _Finder(cst.CSTVisitor):
    """Collects the literals of one file."""

    def __init__(self, source: Source, displays: int) -> None:
        self.source, self.displays = source, displays
        self.found: list[Literal] = []
        self._subscripts = self._display = self._rows = 0
        self._row: list[int] = []
        self._powers: set[cst.CSTNode] = set()

    def visit_UnaryOperation(self, node: cst.UnaryOperation) -> bool:  # noqa: N802
        if isinstance(node.operator, cst.Minus) and isinstance(node.expression, cst.Integer | cst.Float):
            if not node.expression.lpar:
                self._take(node, node.expression, -1)
            return False
        return True

    def visit_Integer(self, node: cst.Integer) -> None:  # noqa: N802
        self._take(node, node, 1)

    def visit_Float(self, node: cst.Float) -> None:  # noqa: N802
        self._take(node, node, 1)

    def visit_SubscriptElement(self, node: cst.SubscriptElement) -> None:  # noqa: N802
        self._subscripts += 1

    def leave_SubscriptElement(self, original_node: cst.SubscriptElement) -> None:  # noqa: N802
        self._subscripts -= 1

    def visit_Arg(self, node: cst.Arg) -> bool:  # noqa: N802
        return node.keyword is None or node.keyword.value not in _KEYWORDS

    def visit_Call(self, node: cst.Call) -> bool:  # noqa: N802
        return not _name(node.func).lower().endswith(_SEEDING)

    def visit_Assign(self, node: cst.Assign) -> bool:  # noqa: N802
        return not any(_name(t.target).lower().endswith(("seed", "random_state")) for t in node.targets)

    def visit_Param(self, node: cst.Param) -> bool:  # noqa: N802
        return node.name.value not in _KEYWORDS

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:  # noqa: N802
        if isinstance(node.operator, cst.Power) and isinstance(node.right, cst.Integer):
            self._powers.add(node.right)

    def visit_Annotation(self, node: cst.Annotation) -> bool:  # noqa: N802
        return False

    def visit_List(self, node: cst.List) -> None:  # noqa: N802
        self._enter(node)

    def leave_List(self, original_node: cst.List) -> None:  # noqa: N802
        self._leave()

    def visit_Tuple(self, node: cst.Tuple) -> None:  # noqa: N802
        self._enter(node)

    def leave_Tuple(self, original_node: cst.Tuple) -> None:  # noqa: N802
        self._leave()

    def _enter(self, node: cst.List | cst.Tuple) -> None:
        if self._display or numbers_in(node) >= LEAST_DISPLAY:
            self._display += 1
            self.displays += self._display == 1
        self._rows += 1
        self._row.append(self._rows)

    def _leave(self) -> None:
        self._row.pop()
        self._display = max(0, self._display - 1)

    def _take(self, node: cst.BaseExpression, number: cst.Integer | cst.Float, sign: int) -> None:
        whole = isinstance(number, cst.Integer)
        value = sign * number.evaluated_value
        dull = whole and not self._display and (self._subscripts or abs(value) < 2 or node in self._powers)
        if dull or not self.source.may_change(node) or abs(value) > 1e15 or not math.isfinite(value):
            return
        if whole and not number.value.isdigit():
            return  # hexadecimal and the like are bits, not quantities
        display = self.displays if self._display else -1
        self.found.append(
            Literal(
                self.source.path,
                self.source.spans[node],
                float(value),
                whole,
                display,
                self._row[-1] if self._display else -1,
            )
        )


def numbers_in(node: cst.BaseExpression) -> int:
    """How many numbers a display holds, at any depth; 0 where it holds anything else."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        node = node.expression
    if isinstance(node, cst.Integer | cst.Float):
        return 1
    if isinstance(node, cst.List | cst.Tuple):
        counts = [numbers_in(element.value) for element in node.elements]
        return sum(counts) if all(counts) else 0
    return 0


def _name(node: cst.CSTNode) -> str:
    """The last name of a dotted one."""
    if isinstance(node, cst.Name):
        return node.value
    return node.attr.value if isinstance(node, cst.Attribute) else ""
