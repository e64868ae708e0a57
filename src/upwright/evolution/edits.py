"""Changes to a program as people and models write them, applied exactly or refused with the reason.

Four kinds of edit: lines that replace lines (SEARCH/REPLACE blocks and the hunks of a unified diff), a whole file written anew, and a
file deleted. All edits of one reply are looked up in the program as it was, so that their order says nothing. Lines
match as they are; where none do, without regard to white space at their ends; where none do either, indented as a whole.
A place is taken only if it is the only one that may change. What is ambiguous, missing, out of scope or in
another edit's way is refused, all of it in one :class:`EditError` that can be sent back: nothing is applied in part, nothing is left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from upwright.errors import BodyError
from upwright.evolution._edit import Edit, EditError
from upwright.evolution._replies import parse_reply
from upwright.evolution.blocks import Scope, outside
from upwright.evolution.records import Program, checked_path

__all__ = ["Edit", "EditError", "apply", "parse_reply", "rendered", "unified"]

_SHOWN = 4
"""Places named in a reason."""
_LOOKED = 200_000
"""Comparisons of lines that finding the nearest place may take."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A file as lines without their ends."""

    lines: tuple[str, ...]
    final: bool

    @classmethod
    def of(cls, text: str) -> _Text:
        lines = text.split("\n")
        final = lines[-1] == ""
        return cls(tuple(lines[:-1] if final else lines), final)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + ("\n" if self.final and self.lines else "")

    @property
    def returns(self) -> bool:
        """Whether every line ends in CR LF."""
        body = self.lines if self.final else self.lines[:-1]
        return bool(body) and all(line.endswith("\r") for line in body)


@dataclass(frozen=True, slots=True)
class _Span:
    """Lines ``start`` to ``stop`` of a file become ``new``."""

    number: int
    path: str
    start: int
    stop: int
    new: tuple[str, ...]
    final: bool | None

    def meets(self, other: _Span) -> bool:
        """Whether both want the same lines, or both insert at the same place."""
        if self.start == self.stop or other.start == other.stop:
            inside = other.start < self.start < other.stop or self.start < other.start < self.stop
            return inside or (self.start, self.stop) == (other.start, other.stop)
        return self.start < other.stop and other.start < self.stop


def apply(program: Program, edits: Sequence[Edit], scope: Scope) -> dict[str, str]:
    """The program with all edits.

    Raises:
        EditError: what is wrong with which of them.
    """
    wrong: list[str] = []
    spans: list[_Span] = []
    whole: dict[str, str | None] = {}
    for number, edit in enumerate(dict.fromkeys(edits), 1):
        try:
            if edit.kind == "lines" and not edit.creates:
                spans.append(_found(program, edit, number, scope))
                continue
            path, text = _whole(program, edit, scope)
            if path in whole:
                raise EditError(f"{path} is written as a whole twice")
            whole[path] = text
        except EditError as error:
            wrong.append(f"edit {number}: {error.why}")
    wrong += [f"edit {s.number}: {s.path} is written as a whole by another edit" for s in spans if s.path in whole]
    wrong += _collisions(spans)
    if wrong:
        raise EditError("; ".join(wrong))
    after = {**program, **{path: text for path, text in whole.items() if text is not None}}
    for path in {span.path for span in spans}:
        after[path] = _written(program[path], [span for span in spans if span.path == path])
    for path in [path for path, text in whole.items() if text is None]:
        del after[path]
    _check(program, after, scope)
    return after


def _check(before: Program, after: Program, scope: Scope) -> None:
    try:
        for path, text in after.items():
            if before.get(path) != text:
                checked_path(path)
                text.encode("utf-8", "surrogateescape")
        if wrong := outside(before, after, scope):
            raise EditError("; ".join(wrong))
    except UnicodeEncodeError as error:
        raise EditError(f"the new text has a character that cannot be written: {error.reason}") from None
    except BodyError as error:
        raise EditError(str(error).split("\n")[0]) from None
    if after == before:
        raise EditError("the edits change nothing")


def _whole(program: Program, edit: Edit, scope: Scope) -> tuple[str, str | None]:
    """The file that an edit of a whole file is about, and its new text; ``None`` deletes it."""
    path = edit.path or _only(program, scope)
    if edit.creates and program.get(path):
        raise EditError(f"{path} is there already: give the lines that are to be replaced")
    if edit.kind == "delete":
        if path not in program:
            raise EditError(f"there is no file {path} to delete")
        if edit.old and edit.old != _Text.of(program[path]).lines:
            raise EditError(f"{path} is to be deleted, and what it is said to hold is not what it holds")
        return path, None
    lines = edit.new
    if path in program and _Text.of(program[path]).returns:
        lines = _with_returns(lines)
    return path, _Text(lines, edit.final is not False).text


def _only(program: Program, scope: Scope) -> str:
    paths = [path for path in sorted(program) if scope.allows(path)]
    if len(paths) != 1:
        raise EditError(f"it does not say which file it is for; {', '.join(paths[:_SHOWN]) or 'none'} may change")
    return paths[0]


def _found(program: Program, edit: Edit, number: int, scope: Scope) -> _Span:
    """The one place that an edit of lines is for."""
    if edit.path and edit.path not in program:
        raise EditError(f"there is no file {edit.path}; there are {', '.join(sorted(program)[:_SHOWN])}")
    paths = [edit.path] if edit.path else [path for path in sorted(program) if scope.allows(path)]
    if not edit.old and edit.at is None:
        empty = [path for path in paths if not program[path]]
        if len(empty) != 1:
            raise EditError("its SEARCH part is empty: give the lines that are to be replaced")
        return _Span(number, empty[0], 0, 0, edit.new, edit.final)
    places = [span for path in paths for span in _places(path, program[path], edit, number)]
    if not places:
        raise EditError(_nowhere(program, paths, edit))
    free = [span for span in places if _may(span, program[span.path], scope)]
    if not free:
        raise EditError(f"its lines are at {_told(places)}, where nothing may change")
    if len(free) > 1:
        raise EditError(f"its lines are at {len(free)} places, {_told(free)}: give more lines around them")
    return free[0]


def _may(span: _Span, text: str, scope: Scope) -> bool:
    """Whether the lines may change; an edit that changes none may be anywhere."""
    if span.start == span.stop and not span.new and span.final is None:
        return True
    try:
        return any(r.start <= span.start and span.stop <= r.stop for r in scope.spans(span.path, text))
    except BodyError as error:
        raise EditError(error.what) from None


def _places(path: str, text: str, edit: Edit, number: int) -> list[_Span]:
    """Where the old lines are, by the strictest way to compare that finds any; one place where the edit says which."""
    file = _Text.of(text)
    old = [line.removesuffix("\r") for line in edit.old]
    have = [line.removesuffix("\r") for line in file.lines]
    last = len(have) - len(old)
    starts = range(max(0, last), last + 1) if edit.final is not None else range(last + 1)
    if not old:
        assert edit.at is not None
        return [_Span(number, path, edit.at, edit.at, edit.new, edit.final)] if edit.at in starts else []
    for compare in (_same, _same_but_ends, _same_but_indent):
        shifts = {start: compare(have[start : start + len(old)], old) for start in starts}
        found = {start: shift for start, shift in shifts.items() if shift is not None}
        if edit.at in found:
            found = {edit.at: found[edit.at]}
        spans = [_span(path, file, start, edit, shift, number) for start, shift in found.items()]
        if spans:
            return spans
    return []


Shift = tuple[str, str]
"""White space to take off the beginning of each new line, and to put there."""


def _same(have: Sequence[str], old: Sequence[str]) -> Shift | None:
    return ("", "") if have == old else None


def _same_but_ends(have: Sequence[str], old: Sequence[str]) -> Shift | None:
    return ("", "") if all(a.rstrip() == b.rstrip() for a, b in zip(have, old)) else None


def _same_but_indent(have: Sequence[str], old: Sequence[str]) -> Shift | None:
    pairs = [(a.rstrip(), b.rstrip()) for a, b in zip(have, old) if a.strip() or b.strip()]
    if not pairs:
        return None
    a, b = pairs[0]
    more = len(a) - len(b)
    off, on = ("", a[:more]) if more > 0 else (b[:-more], "")
    fits = (off or on) and not (off + on).strip()
    return (off, on) if fits and all(x == on + y.removeprefix(off) and y.startswith(off) for x, y in pairs) else None


def _span(path: str, file: _Text, start: int, edit: Edit, shift: Shift, number: int) -> _Span:
    """The lines that really change: what old and new begin and end with alike stays as it is in the file."""
    old, new = list(edit.old), list(edit.new)
    stop = start + len(old)
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    off, on = shift
    changed = tuple(on + line.removeprefix(off) if line.strip() else line for line in new[head : len(new) - tail])
    final = edit.final if edit.final is not file.final else None
    return _Span(number, path, start + head, stop - tail, changed, final)


def _with_returns(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(line if line.endswith("\r") else line + "\r" for line in lines)


def _collisions(spans: Sequence[_Span]) -> list[str]:
    ordered = sorted((s for s in spans if s.new or s.stop > s.start), key=lambda s: (s.path, s.start, s.stop, s.number))
    ends = {(s.path, s.final) for s in spans if s.final is not None}
    torn = sorted(path for path, final in ends if final and (path, False) in ends)
    return [f"two edits say otherwise about the end of {path}" for path in torn] + [
        f"edits {min(a.number, b.number)} and {max(a.number, b.number)} both change {_told([a, b])}"
        for index, a in enumerate(ordered)
        for b in ordered[index + 1 : index + 2]
        if a.path == b.path and a.meets(b)
    ]


def _written(text: str, spans: Sequence[_Span]) -> str:
    """A file with spans that do not meet."""
    file = _Text.of(text)
    lines, final = list(file.lines), file.final
    for span in sorted(spans, key=lambda s: (s.start, s.stop), reverse=True):
        lines[span.start : span.stop] = span.new
        final = final if span.final is None else span.final
    if file.returns and lines:
        last = lines[-1].removesuffix("\r")
        lines = [*_with_returns(lines[:-1]), last + "\r" if final else last]
    return _Text(tuple(lines), final).text


def _told(spans: Sequence[_Span]) -> str:
    """Places in words, lines counted from 1."""
    said = [
        f"{s.path} line {s.start + 1}" if s.stop <= s.start + 1 else f"{s.path} lines {s.start + 1}–{s.stop}"
        for s in spans[:_SHOWN]
    ]
    return ", ".join(said) + (", …" if len(spans) > _SHOWN else "")


def _nowhere(program: Program, paths: Sequence[str], edit: Edit) -> str:
    """That the lines are nowhere, and where something like them is."""
    if not edit.old:
        return f"line {(edit.at or 0) + 1} is not in {', '.join(paths[:_SHOWN])}"
    old = [line.strip() for line in edit.old]
    best, where = 0, ""
    for path in paths:
        have = [line.strip() for line in _Text.of(program[path]).lines]
        if len(have) * len(old) > _LOOKED:
            continue
        for start in range(-len(old) + 1, len(have)):
            equal = sum(a == b != "" for a, b in zip(have[max(start, 0) :], old[max(-start, 0) :]))
            if equal > best:
                best, first = equal, max(start, 0)
                where = f"{path} lines {first + 1}–{min(start + len(old), len(have))}"
    near = f"; nearest are {where}, where {best} of its {len(old)} lines are" if where else ""
    return f"its lines are nowhere in {', '.join(paths[:_SHOWN]) or 'what may change'}{near}"


def unified(before: Program, after: Program, context: int = 3) -> str:
    """A unified diff of two programs; :func:`apply` of it to ``before`` gives ``after``."""
    return "".join(line for path in sorted({*before, *after}) for line in _diff(path, before, after, context))


def _diff(path: str, before: Mapping[str, str], after: Mapping[str, str], context: int) -> Iterator[str]:
    old, new = before.get(path), after.get(path)
    if old == new:
        return
    yield f"--- {'/dev/null' if old is None else 'a/' + path}\n"
    yield f"+++ {'/dev/null' if new is None else 'b/' + path}\n"
    a, b = (_ended(text or "") for text in (old, new))
    for line in list(difflib.unified_diff(a, b, n=context))[2:]:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _ended(text: str) -> list[str]:
    file = _Text.of(text)
    return [line + "\n" for line in file.lines[:-1]] + [line + "\n" * file.final for line in file.lines[-1:]]


def rendered(edits: Sequence[Edit]) -> str:
    """SEARCH/REPLACE blocks of edits of lines, with marks that none of the lines has."""
    found = []
    for edit in edits:
        size = 7
        while any(line.startswith(("<" * size, "=" * size, ">" * size)) for line in (*edit.old, *edit.new)):
            size += 1
        parts = ("<" * size + " SEARCH", *edit.old, "=" * size, *edit.new, ">" * size + " REPLACE")
        found.append("\n".join([edit.path, *parts] if edit.path else parts) + "\n")
    return "\n".join(found)
