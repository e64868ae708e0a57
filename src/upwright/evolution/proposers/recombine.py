"""Crossover between programs of the archive: what two of them do differently, mixed.

Both come from one origin and differ in places. Of the differences, line by line within what may change, a part is taken over from the other
one (uniform crossover); or whole functions are, with the imports and helpers of the other that they need. So a
program inherits two improvements that were found apart. What does not compile, or is one of the two again, is not proposed.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import libcst as cst

from upwright.evolution.blocks import lines_of
from upwright.evolution.proposers._source import Source, Span, compiles, source_of, spliced
from upwright.evolution.proposers.base import Brief, Candidate, Draft, Program, Result
from upwright.evolution.records import program_digest

TRIES = 6
"""Attempts for each draft that is wanted."""
LINES, FUNCTIONS, FILES = "lines", "functions", "files"


class Recombine:
    """The ``recombine`` proposer."""

    name = "recombine"
    cost = 0.01

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """Mixtures of the parent with its inspirations."""
        others = [other for other in brief.inspirations if other.digest != brief.parent.digest]
        drafts: dict[str, Draft] = {}
        for _ in range(TRIES * brief.n if others else 0):
            if len(drafts) == brief.n:
                break
            other = brief.rng.choice(others)
            way = brief.rng.choice((LINES, LINES, FUNCTIONS, FILES))
            made = {LINES: _lines, FUNCTIONS: _functions, FILES: _files}[way](brief, other)
            if made is None:
                continue
            program, changes = made
            digest = program_digest(program)
            if digest in drafts or digest in (brief.parent.digest, other.digest):
                continue
            note = f"{way} of candidate {other.number} put into candidate {brief.parent.number}"
            drafts[digest] = Draft(program, self.name, note, (brief.parent.digest, other.digest), changes)
        return list(drafts.values())

    def told(self, draft: Draft, result: Result) -> None:
        """There is nothing to learn: what can be mixed is in the brief."""


Made = tuple[Program, str] | None


def _pair(brief: Brief, other: Candidate) -> tuple[str, str, str] | None:
    """A file that both have and that they do not have alike: path, the parent's text, the other's."""
    mine = brief.parent.program
    paths = [p for p, text in sorted(mine.items()) if other.program.get(p, text) != text and brief.scope.allows(p)]
    if not paths:
        return None
    path = brief.rng.choice(paths)
    return path, mine[path], other.program[path]


def _lines(brief: Brief, other: Candidate) -> Made:
    """Some of the places in which a file differs, as they are in the other."""
    if (pair := _pair(brief, other)) is None:
        return None
    path, mine, theirs = pair
    ours, others = lines_of(mine), lines_of(theirs)
    ranges, other_ranges = brief.scope.spans(path, mine), brief.scope.spans(path, theirs)
    if len(ranges) != len(other_ranges):
        return None
    hunks: list[tuple[int, int, list[str]]] = []
    for a, b in zip(ranges, other_ranges, strict=True):
        matcher = difflib.SequenceMatcher(None, ours[a.start : a.stop], others[b.start : b.stop], autojunk=False)
        hunks += [
            (a.start + i, a.start + j, others[b.start + k : b.start + m])
            for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"
        ]  # fmt: skip
    if len(hunks) < 2:
        return None
    share = brief.rng.choice((0.25, 0.5, 0.75))
    taken = [hunk for hunk in hunks if brief.rng.random() < share]
    if not taken or len(taken) == len(hunks):
        return None
    for start, stop, lines in sorted(taken, reverse=True):
        ours[start:stop] = lines
    text = "".join(ours)
    if path.endswith(".py") and not compiles(text):
        return None
    return {**brief.parent.program, path: text}, f"{len(taken)} of {len(hunks)} places of {path}"


def _files(brief: Brief, other: Candidate) -> Made:
    """Some whole files of the other one, of those that have no fixed parts."""
    mine = brief.parent.program
    paths = [
        p for p in sorted({*mine, *other.program})
        if brief.scope.allows(p) and mine.get(p) != other.program.get(p) and _is_free(brief, mine.get(p))
    ]  # fmt: skip
    if len(paths) < 2:
        return None
    taken = brief.rng.sample(paths, brief.rng.randrange(1, len(paths)))
    program = dict(mine)
    for path in taken:
        if path in other.program:
            program[path] = other.program[path]
        else:
            del program[path]
    return program, f"{', '.join(sorted(taken))} as a whole"


def _is_free(brief: Brief, text: str | None) -> bool:
    return text is None or not (brief.scope.blocks and "EVOLVE-BLOCK" in text)


def _functions(brief: Brief, other: Candidate) -> Made:
    """Some functions of a file as the other has them, with its imports and helpers where they are missing here."""
    pair = _pair(brief, other)
    mine = source_of(pair[0], pair[1], brief.scope) if pair and pair[0].endswith(".py") else None
    theirs = source_of(pair[0], pair[2], brief.scope) if pair else None
    if mine is None or theirs is None or not mine.free:
        return None
    ours, others = _defined(mine), _defined(theirs)
    differ = [
        n for n in ours if n in others and mine.may_change(ours[n]) and _text(mine, ours[n]) != _text(theirs, others[n])
    ]
    if len(differ) < 2:
        return None
    taken = brief.rng.sample(differ, brief.rng.randrange(1, len(differ)))
    needed = _needed(theirs, {others[n] for n in taken}, set(ours) | _names(mine))
    first = min(mine.lines(ours[n]).start for n in taken)
    added = "".join(_text(theirs, node) + "\n\n\n" * isinstance(node, cst.FunctionDef) for node in needed)
    edits = [(mine.lines(ours[n]), _text(theirs, others[n])) for n in taken]
    text = spliced(mine.data, [(Span(first, first), added), *edits] if added else edits)
    return (
        ({**brief.parent.program, mine.path: text}, f"{', '.join(sorted(taken))} of {mine.path}")
        if compiles(text)
        else None
    )


def _defined(source: Source) -> dict[str, cst.FunctionDef | cst.ClassDef]:
    """Functions and classes at the top of a module, by name."""
    return {node.name.value: node for node in source.tree.body if isinstance(node, cst.FunctionDef | cst.ClassDef)}


def _text(source: Source, node: cst.CSTNode) -> str:
    """The whole lines of a statement."""
    span = source.lines(node)
    text = source.data[span.start : span.stop].decode()
    return text if text.endswith("\n") else text + "\n"


def _names(source: Source) -> set[str]:
    """Names that the top of a module binds by imports and assignments."""
    return {name for node in source.tree.body for name in _binds(node)}


def _binds(node: cst.CSTNode) -> set[str]:
    """Names that a line at the top of a module binds."""
    found: set[str] = set()
    for statement in node.body if isinstance(node, cst.SimpleStatementLine) else ():
        if isinstance(statement, cst.Import | cst.ImportFrom) and not isinstance(statement.names, cst.ImportStar):
            for alias in statement.names:
                found.add(str(alias.evaluated_alias or alias.evaluated_name.split(".")[0]))
        elif isinstance(statement, cst.Assign):
            found |= {t.target.value for t in statement.targets if isinstance(t.target, cst.Name)}
    return found


class _Used(cst.CSTVisitor):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802
        self.names.add(node.value)


def _needed(source: Source, nodes: set[cst.FunctionDef | cst.ClassDef], known: set[str]) -> list[cst.CSTNode]:
    """What else of a module these functions use and the other module does not have, in the module's order."""
    makers: dict[str, cst.CSTNode] = dict(_defined(source))
    for node in source.tree.body:
        makers.update(dict.fromkeys(_binds(node), node))
    open_, found = list[cst.CSTNode](nodes), set[cst.CSTNode]()
    while open_:
        used = _Used()
        open_.pop().visit(used)
        for name in used.names - known:
            maker = makers.get(name)
            if maker is not None and maker not in found and maker not in nodes:
                found.add(maker)
                open_.append(maker)
    return [node for node in source.tree.body if node in found]
