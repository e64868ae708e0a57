"""Where a file can be changed and stay a program: expressions that give a value, operators, calls, and statements of functions.

Targets of assignments, annotations, imports, decorators, f-strings and docstrings are no such places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import libcst as cst

from upwright.evolution.proposers._source import Source

_OPERATORS = (
    cst.BinaryOperation | cst.BooleanOperation | cst.AugAssign | cst.ComparisonTarget
)  # what has an operator between two values


@dataclass(frozen=True, slots=True)
class Place:
    """A node that may change, in a function (empty: at the top of the module)."""

    node: cst.CSTNode
    function: str


@dataclass(frozen=True, slots=True)
class Line:
    """A statement of an indented block: ``block`` counts the blocks of the file, ``at`` the statements in it, of ``size``."""

    node: cst.BaseStatement
    function: str
    block: int
    at: int
    size: int


@dataclass(slots=True)
class Places:
    """All that can be changed in a file.

    Attributes:
        values: expressions; ``operators``: nodes with an ``operator``; ``tests``: conditions of ``if``, ``while`` and ``x if c else y``.
        calls: calls; ``loops``: what ``for`` statements run over; ``lines``: statements.
        names: function → the names that are bound in it, in order.
    """

    values: list[Place] = field(default_factory=list)
    operators: list[Place] = field(default_factory=list)
    tests: list[Place] = field(default_factory=list)
    calls: list[Place] = field(default_factory=list)
    loops: list[Place] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)


@lru_cache(maxsize=16)
def _places(key: _Key) -> Places:
    visitor = _Visitor(key.source)
    key.source.tree.visit(visitor)
    return visitor.found


@dataclass(frozen=True, slots=True)
class _Key:
    """A source, recognised by its text and by what of it may change."""

    path: str
    data: bytes
    free: tuple[object, ...]
    source: Source = field(compare=False)


def places(source: Source) -> Places:
    """Where a file can be changed."""
    return _places(_Key(source.path, source.data, source.free, source))


class _Visitor(cst.CSTVisitor):
    def __init__(self, source: Source) -> None:
        self.source, self.found = source, Places()
        self._functions: list[str] = []
        self._blocks = 0

    @property
    def _function(self) -> str:
        return self._functions[-1] if self._functions else ""

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Take what may change; what may not as a whole may in its parts."""
        if isinstance(node, cst.BaseExpression) and self.source.may_change(node) and self._is_value(node):
            self.found.values.append(Place(node, self._function))
        if isinstance(node, _OPERATORS) and self.source.may_change(node):
            self.found.operators.append(Place(node, self._function))
        return super().on_visit(node)

    @staticmethod
    def _is_value(node: cst.BaseExpression) -> bool:
        return not isinstance(node, cst.BaseString | cst.StarredElement | cst.Yield | cst.Await)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:  # noqa: N802
        self._functions.append(node.name.value)
        params = node.params
        for param in (*params.posonly_params, *params.params, *params.kwonly_params):
            self._bind(param.name)
            if param.default is not None:
                param.default.visit(self)
        node.body.visit(self)
        self._functions.pop()
        return False

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:  # noqa: N802
        node.body.visit(self)
        return False

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:  # noqa: N802
        self._blocks += 1
        for at, statement in enumerate(node.body):
            if self._function and self.source.may_change(statement) and not _is_text(statement):
                self.found.lines.append(Line(statement, self._function, self._blocks, at, len(node.body)))

    def visit_Assign(self, node: cst.Assign) -> bool:  # noqa: N802
        for target in node.targets:
            self._bind(target.target)
        node.value.visit(self)
        return False

    def visit_AnnAssign(self, node: cst.AnnAssign) -> bool:  # noqa: N802
        self._bind(node.target)
        if node.value is not None:
            node.value.visit(self)
        return False

    def visit_AugAssign(self, node: cst.AugAssign) -> bool:  # noqa: N802
        node.value.visit(self)
        return False

    def visit_For(self, node: cst.For) -> bool:  # noqa: N802
        self._bind(node.target)
        self._take(self.found.loops, node.iter)
        node.iter.visit(self)
        node.body.visit(self)
        if node.orelse is not None:
            node.orelse.visit(self)
        return False

    def visit_CompFor(self, node: cst.CompFor) -> bool:  # noqa: N802
        node.iter.visit(self)
        for condition in node.ifs:
            condition.visit(self)
        if node.inner_for_in is not None:
            node.inner_for_in.visit(self)
        return False

    def visit_If(self, node: cst.If) -> None:  # noqa: N802
        self._take(self.found.tests, node.test)

    def visit_While(self, node: cst.While) -> None:  # noqa: N802
        self._take(self.found.tests, node.test)

    def visit_IfExp(self, node: cst.IfExp) -> None:  # noqa: N802
        self._take(self.found.tests, node.test)

    def visit_Call(self, node: cst.Call) -> bool:  # noqa: N802
        self._take(self.found.calls, node)
        if isinstance(node.func, cst.Attribute):
            node.func.value.visit(self)
        for arg in node.args:
            arg.value.visit(self)
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:  # noqa: N802
        node.value.visit(self)
        return False

    def _skip(self, node: cst.CSTNode) -> bool:
        return False

    visit_Annotation = visit_Import = visit_ImportFrom = visit_Decorator = visit_FormattedString = _skip  # noqa: N815
    visit_Global = visit_Nonlocal = visit_Del = visit_Lambda = visit_NamedExpr = visit_WithItem = _skip  # noqa: N815
    visit_ExceptHandler = visit_Match = _skip  # noqa: N815

    def _take(self, into: list[Place], node: cst.BaseExpression) -> None:
        if self.source.may_change(node):
            into.append(Place(node, self._function))

    def _bind(self, target: cst.BaseExpression) -> None:
        if isinstance(target, cst.Name):
            names = self.found.names.setdefault(self._function, [])
            if target.value not in names:
                names.append(target.value)
        elif isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                self._bind(element.value)


def _is_text(statement: cst.BaseStatement) -> bool:
    """Whether a statement is a docstring or a text that stands alone."""
    first: Sequence[cst.BaseSmallStatement] = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
    return len(first) == 1 and isinstance(first[0], cst.Expr) and isinstance(first[0].value, cst.BaseString)
