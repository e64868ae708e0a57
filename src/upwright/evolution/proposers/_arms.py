"""Changes that give a program numbers to tune: an array that it computes is frozen, or gets a companion of numbers.

A companion changes nothing as it is put in: a ceiling or a floor as high as the array itself, a factor of ones, an offset of
zeros. What it is good for, tuning shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst import matchers

from upwright.evolution.proposers._dataflow import flow, unneeded
from upwright.evolution.proposers._literals import LEAST_DISPLAY, numbers_in
from upwright.evolution.proposers._source import Source, Span, compiles, functions, spliced
from upwright.evolution.proposers._trace import Seen, Site, Trace
from upwright.evolution.records import Program

COMPANIONS = {
    "ceiling": "{np}.minimum({name}, {array})", "floor": "{np}.maximum({name}, {array})",
    "factor": "{name} * {array}", "offset": "{name} + {array}",
}  # fmt: skip
"""How an array and its companion go together."""
KINDS = ("freeze", *COMPANIONS)
LARGEST = 256
"""Numbers in an array that is frozen or gets a companion."""
WIDTH = 110
"""Characters in a line of numbers."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One such change, at a site."""

    kind: str
    site: Site

    @property
    def name(self) -> str:
        """The same for the same change of programs that differ in their numbers alone."""
        return f"{self.kind} {self.site.variable} in {self.site.function}, place {self.site.number}"


def sites_of(source: Source) -> list[Site]:
    """Every place just after a statement of a function's own block that made or changed a variable which is used later.

    Where the variable is given by numbers of the source, in the statement or in the next, there is none.
    """
    found: list[Site] = []
    for function in functions(source):
        if not isinstance(function.body, cst.IndentedBlock):
            continue
        statements = list(function.body.body)
        flows = [flow(s) for s in statements]
        given = [f.makes if _has_data(s) else set() for s, f in zip(statements, flows, strict=True)] + [set()]
        counts: dict[str, int] = {}
        for index, statement in enumerate(statements[:-1]):
            used = {name for f in flows[index + 1 :] for name in f.uses | f.changes}
            for name in sorted(flows[index].makes | flows[index].changes):
                counts[name] = counts.get(name, 0) + 1
                if name in used - given[index] - given[index + 1] and source.may_change(statement):
                    at = source.lines(statement).stop
                    found.append(Site(function.name.value, name, counts[name], at, source.indent(statement)))
    return found


def _has_data(statement: cst.CSTNode) -> bool:
    """Whether a simple statement holds a list of data."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    return bool(matchers.findall(statement, matchers.List())) and any(
        numbers_in(node) >= LEAST_DISPLAY
        for node in matchers.findall(statement, matchers.List())
        if isinstance(node, cst.List)
    )


def arms(source: Source, trace: Trace) -> Iterator[tuple[Arm, Seen]]:
    """What can be done with what a trace saw: sites that were passed once, or always with the same in them."""
    numpy = numpy_name(source)
    for site in sites_of(source):
        seen = trace.sites.get(site.name)
        if seen is None or seen.varied or _count(seen.value) > LARGEST or (seen.array and not numpy):
            continue
        yield Arm("freeze", site), seen
        if seen.array:
            yield from ((Arm(kind, site), seen) for kind in COMPANIONS)


def changed(source: Source, program: Program, arm: Arm, seen: Seen) -> dict[str, str] | None:
    """The program with an arm's change; ``None`` where that is no Python any more."""
    site, numpy = arm.site, numpy_name(source)
    value = seen.value
    if arm.kind in ("factor", "offset"):
        value = _filled(value, 1.0 if arm.kind == "factor" else 0.0)
    shown = display(value, site.indent)
    array = f"{numpy}.array({shown})" if seen.array else shown
    right = array if arm.kind == "freeze" else COMPANIONS[arm.kind].format(np=numpy, name=site.variable, array=array)
    changes = [(Span(site.at, site.at), f"{site.indent}{site.variable} = {right}\n")]
    if arm.kind == "freeze":
        changes += [(span, "") for span in _left_over(source, site)]
    text = spliced(source.data, changes)
    return {**program, source.path: text} if compiles(text) else None


def numpy_name(source: Source) -> str:
    """What a file calls numpy, or nothing."""
    for line in source.tree.body:
        for statement in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(statement, cst.Import):
                for alias in statement.names:
                    if isinstance(alias.name, cst.Name) and alias.name.value == "numpy":
                        return str(alias.evaluated_alias or "numpy")
    return ""


def display(value: Sequence[Any], indent: str) -> str:
    """Nested lists of numbers as Python's source, broken into lines where they are long."""
    flat = _written(value)
    if len(flat) + len(indent) + 12 <= WIDTH:
        return flat
    inner = indent + "    "
    items = [_written(item) for item in value]
    lines, line = [], ""
    for item in items:
        joined = f"{line} {item}," if line else f"{item},"
        if line and len(inner) + len(joined) > WIDTH:
            lines.append(line)
            joined = f"{item},"
        line = joined
    return "[\n" + "".join(f"{inner}{part}\n" for part in [*lines, line]) + f"{indent}]"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return repr(float(f"{float(value):.12g}"))


def _left_over(source: Source, site: Site) -> list[Span]:
    """The lines before a site that nothing needs once its variable is given there."""
    function = next(f for f in functions(source) if f.name.value == site.function)
    statements = list(function.body.body)
    before = [s for s in statements if source.lines(s).stop <= site.at]
    after = [s for s in statements if source.lines(s).start >= site.at]
    flows = [flow(s) for s in after]
    alive = {name for f in flows for name in f.uses | f.changes} - {site.variable}
    return [source.lines(s) for s in unneeded(before, alive) if source.may_change(s)]


def _count(value: Any) -> int:
    return sum(map(_count, value)) if isinstance(value, list) else 1


def _filled(value: Any, number: float) -> Any:
    return [_filled(item, number) for item in value] if isinstance(value, list) else number
