"""Which variables the statements of a function make, change and use: enough to see what is not needed any more.

An approximation that errs on the careful side: only calls of numpy, of ``math`` and of a few built-ins are taken to do nothing but
return, and a name that is written through an index or an attribute is both used and changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import libcst as cst

_PURE = frozenset({
    "range", "len", "zip", "enumerate", "min", "max", "sum", "abs", "float", "int", "list", "tuple", "dict", "set", "sorted", "reversed",
    "round", "bool", "str", "any", "all", "map", "filter", "isinstance", "divmod", "pow",
})  # fmt: skip
_PURE_ROOTS = frozenset({"np", "numpy", "math", "cmath"})
_CHANGING = frozenset({"append", "extend", "insert", "sort", "reverse", "fill", "update", "add"})


@dataclass(slots=True)
class Flow:
    """What a statement does.

    Attributes:
        makes: names bound; ``changes``: names whose object is changed in place; ``uses``: names read.
        acts: whether it may do more than that (return, raise, print, call something unknown).
    """

    makes: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    acts: bool = False


def flow(node: cst.CSTNode) -> Flow:
    """What a statement, or an expression, does."""
    visitor = _Flow()
    node.visit(visitor)
    return visitor.flow


def unneeded(statements: Sequence[cst.CSTNode], alive: set[str]) -> list[cst.CSTNode]:
    """Of statements in order the ones that nothing needs, where ``alive`` are the names that are used after them."""
    alive, dead = set(alive), []
    for statement in reversed(statements):
        does = flow(statement)
        if not does.acts and (does.makes or does.changes) and not (does.makes | does.changes) & alive:
            dead.append(statement)
            continue
        if isinstance(statement, cst.SimpleStatementLine):
            alive -= does.makes - does.changes
        alive |= does.uses | does.changes
    return dead[::-1]


class _Flow(cst.CSTVisitor):
    def __init__(self) -> None:
        self.flow = Flow()

    def visit_Assign(self, node: cst.Assign) -> bool:  # noqa: N802
        for target in node.targets:
            self._target(target.target)
        node.value.visit(self)
        return False

    def visit_AnnAssign(self, node: cst.AnnAssign) -> bool:  # noqa: N802
        self._target(node.target)
        if node.value is not None:
            node.value.visit(self)
        return False

    def visit_AugAssign(self, node: cst.AugAssign) -> bool:  # noqa: N802
        self._target(node.target)
        if isinstance(node.target, cst.Name):
            self.flow.changes.add(node.target.value)
        node.target.visit(self)
        node.value.visit(self)
        return False

    def visit_NamedExpr(self, node: cst.NamedExpr) -> bool:  # noqa: N802
        self._target(node.target)
        node.value.visit(self)
        return False

    def visit_For(self, node: cst.For) -> bool:  # noqa: N802
        self._target(node.target)
        for part in (node.iter, node.body, node.orelse):
            if part is not None:
                part.visit(self)
        return False

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802
        self.flow.uses.add(node.value)

    def visit_Attribute(self, node: cst.Attribute) -> bool:  # noqa: N802
        node.value.visit(self)
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:  # noqa: N802
        node.value.visit(self)
        return False

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802
        name = node.func
        if isinstance(name, cst.Name):
            self.flow.acts |= name.value not in _PURE
            return
        root: cst.BaseExpression = name
        while isinstance(root, cst.Attribute):
            root = root.value
        if isinstance(root, cst.Name) and root.value in _PURE_ROOTS:
            self.flow.acts |= "random" in _dotted(name)
        elif isinstance(name, cst.Attribute) and isinstance(name.value, cst.Name) and name.attr.value in _CHANGING:
            self.flow.changes.add(name.value.value)
        elif not (
            isinstance(name, cst.Attribute)
            and name.attr.value in ("copy", "sum", "min", "max", "mean", "astype", "reshape")
        ):
            self.flow.acts = True

    def _target(self, target: cst.BaseExpression) -> None:
        if isinstance(target, cst.Name):
            self.flow.makes.add(target.value)
        elif isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                self._target(element.value)
        elif isinstance(target, cst.StarredElement):
            self._target(target.value)
        elif isinstance(target, cst.Subscript | cst.Attribute):
            root: cst.BaseExpression = target
            while isinstance(root, cst.Subscript | cst.Attribute):
                root = root.value
            if isinstance(root, cst.Name):
                self.flow.changes.add(root.value)
            else:
                self.flow.acts = True
            target.visit(self)

    def _acts(self, node: cst.CSTNode) -> None:
        self.flow.acts = True

    visit_Return = visit_Raise = visit_Global = visit_Nonlocal = visit_Yield = visit_Await = visit_Del = _acts  # noqa: N815
    visit_Import = visit_ImportFrom = visit_FunctionDef = visit_ClassDef = visit_Assert = visit_With = visit_Try = _acts  # noqa: N815
    visit_Break = visit_Continue = visit_While = _acts  # noqa: N815


def _dotted(node: cst.BaseExpression) -> str:
    return f"{_dotted(node.value)}.{node.attr.value}" if isinstance(node, cst.Attribute) else getattr(node, "value", "")
