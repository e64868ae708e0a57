r"""Edits in a reply: SEARCH/REPLACE blocks, unified diffs, whole files in code fences; any number of files.

::

    path/of/file.py              the file may stand on the line above a block or its fence, or behind SEARCH
    <<<<<<< SEARCH
    lines as they are
    =======
    lines as they should be      (none deletes them)
    >>>>>>> REPLACE

A block whose lines look like marks uses longer marks (five to forty signs, the same number in all three). A fence with neither
blocks nor a diff in it is a whole file; in a reply that has other edits it is one only where it names its file, else it is a
quotation. What cannot be read is refused with its line, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from upwright.evolution._edit import Edit, EditError

_SEARCH = re.compile(r"^(<{5,40}) ?SEARCH(?:[ \t]+(\S+))?[ \t]*$")
_MIDDLE = re.compile(r"^(={5,40})[ \t]*$")
_END = re.compile(r"^(>{5,40}) ?REPLACE[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*(.*?)[ \t]*$")
_HUNK = re.compile(r"^@@(?: -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))?)?(?: .*?)?(?:@@.*)?$")
_LABEL = re.compile(
    r"^[\s#*>:`'\"/-]*(?:(?:file|path|filename)\s*:\s*)?[`'\"*]*([\w.+/@-]+)[`'\"*:]*\s*$", re.IGNORECASE
)
_PATHLIKE = re.compile(r"(?:^|/)[\w+@-][\w.+@-]*\.[A-Za-z]\w*$|/[\w+@-][\w.+@-]*$")


@dataclass(slots=True)
class _Fence:
    """A code fence: lines ``start`` to ``stop`` of the reply are inside."""

    start: int
    stop: int
    info: str
    label: str


def parse_reply(text: str) -> list[Edit]:
    """The edits of a reply, in its order.

    Raises:
        EditError: there are none, or what looks like one cannot be read.
    """
    lines = text.split("\n")
    if len(lines) > 1 and all(line.endswith("\r") for line in lines[:-1]):
        lines = [line.removesuffix("\r") for line in lines]
    taken = [False] * len(lines)
    fences = _fences(lines)
    found = _blocks(lines, taken, fences)
    found += _diffs(lines, taken, fences)
    found += _files(lines, taken, fences, bool(found))
    if not found:
        raise EditError("there is no edit in the reply: no SEARCH/REPLACE block, no unified diff, no code fence")
    return [edit for _, edit in sorted(found, key=lambda pair: pair[0])]


def _fences(lines: Sequence[str]) -> list[_Fence]:
    """Code fences, those inside of SEARCH/REPLACE blocks and diffs left out."""
    found: list[_Fence] = []
    mark, block = "", ""
    for index, line in enumerate(lines):
        if block:
            if (end := _END.match(line)) and len(end[1]) == len(block):
                block = ""
            continue
        if start := _SEARCH.match(line):
            block = start[1]
            continue
        if (fence := _FENCE.match(line)) is None:
            continue
        if not mark:
            if "`" not in fence[2]:
                mark = fence[1]
                found.append(_Fence(index + 1, -1, fence[2], _label_above(lines, index)))
        elif fence[1].startswith(mark) and not fence[2]:
            mark, found[-1].stop = "", index
    return found


def _label(line: str) -> str:
    """The path that a line is, or nothing."""
    match = _LABEL.match(line)
    return match[1].removeprefix("./") if match and _PATHLIKE.search(match[1]) else ""


def _label_above(lines: Sequence[str], index: int) -> str:
    """The path on the line above, one empty line between allowed."""
    for line in reversed(lines[max(0, index - 2) : index]):
        if line.strip():
            return _label(line)
    return ""


def _in(fences: Sequence[_Fence], index: int) -> _Fence | None:
    return next((f for f in fences if f.start <= index and (f.stop < 0 or index < f.stop)), None)


# ---- SEARCH/REPLACE ------------------------------------------------------------------------------


def _blocks(lines: Sequence[str], taken: list[bool], fences: Sequence[_Fence]) -> list[tuple[int, Edit]]:
    found: list[tuple[int, Edit]] = []
    index = 0
    while index < len(lines):
        start = _SEARCH.match(lines[index])
        if start is None:
            if _END.match(lines[index]):
                raise EditError(f"line {index + 1} of the reply is a REPLACE mark without its SEARCH")
            index += 1
            continue
        end = _end_of(lines, index, len(start[1]))
        middle = _middle_of(lines, index, end, len(start[1]))
        fence = _in(fences, index)
        label = (
            (start[2] or "").removeprefix("./")
            or _label_above(lines, index)
            or _info_label(fence)
            or (fence.label if fence else "")
        )
        old, new = tuple(lines[index + 1 : middle]), tuple(lines[middle + 1 : end])
        found.append((index, Edit("lines", label, old, new, creates=bool(label and not old))))
        taken[index : end + 1] = [True] * (end + 1 - index)
        index = end + 1
    return found


def _end_of(lines: Sequence[str], start: int, size: int) -> int:
    """The REPLACE mark of a block: as long as its SEARCH, or the next of any length."""
    other = -1
    for index in range(start + 1, len(lines)):
        if end := _END.match(lines[index]):
            if len(end[1]) == size:
                return index
            other = index if other < 0 else other
        if (again := _SEARCH.match(lines[index])) and len(again[1]) == size:
            break
    if other < 0:
        raise EditError(f"the SEARCH in line {start + 1} of the reply has no REPLACE mark (was the reply cut off?)")
    return other


def _middle_of(lines: Sequence[str], start: int, end: int, size: int) -> int:
    marks = [(i, len(m[1])) for i in range(start + 1, end) if (m := _MIDDLE.match(lines[i]))]
    exact = [index for index, length in marks if length == size]
    middles = exact or [index for index, _ in marks]
    if len(middles) != 1:
        what = "no line of =======" if not middles else f"{len(middles)} lines of ======="
        raise EditError(
            f"the block in line {start + 1} of the reply has {what} between SEARCH and REPLACE"
            + (": use longer marks, the same number of signs in all three" if middles else "")
        )
    return middles[0]


def _info_label(fence: _Fence | None) -> str:
    """The path in a fence's info string: ```` ```python src/a.py ````, ```` ```src/a.py ````, ```` ```python:src/a.py ````."""
    words = re.split(r"[\s:]+|(?:title|file|path|filename)=", fence.info) if fence else []
    return next((path for word in words if (path := _label(word.strip("\"'{}")))), "")


# ---- unified diffs -------------------------------------------------------------------------------


def _diffs(lines: Sequence[str], taken: list[bool], fences: Sequence[_Fence]) -> list[tuple[int, Edit]]:
    found: list[tuple[int, Edit]] = []
    index = 0
    while index < len(lines):
        if taken[index]:
            index += 1
        elif _heads(lines, index):
            index = _file_diff(lines, index, taken, found)
        elif lines[index].startswith("@@") and _HUNK.match(lines[index]):
            fence = _in(fences, index)
            path = _info_label(fence) or (fence.label if fence else "") or _label_above(lines, index)
            index = _hunks(lines, index, taken, Edit("lines", path), found)
        else:
            index += 1
    for fence in fences:
        if fence.info.split(" ")[0].lower() in ("diff", "patch") and not any(taken[fence.start : fence.stop]):
            raise EditError(f"the diff in line {fence.start} of the reply has no hunk: no line begins with @@")
    return found


def _heads(lines: Sequence[str], index: int) -> bool:
    return lines[index].startswith("--- ") and index + 1 < len(lines) and lines[index + 1].startswith("+++ ")


def _file_diff(lines: Sequence[str], index: int, taken: list[bool], found: list[tuple[int, Edit]]) -> int:
    """One file's part of a diff; the index of the line after it."""
    old, new = (lines[index + i][4:].split("\t")[0].strip() for i in (0, 1))
    gone, fresh = new == "/dev/null", old == "/dev/null"
    old, new = old.removeprefix("a/"), new.removeprefix("b/")
    if not gone and not fresh and old != new:
        raise EditError(f"line {index + 1} of the reply renames {old} to {new}: delete the one and write the other")
    taken[index] = taken[index + 1] = True
    hunks: list[tuple[int, Edit]] = []
    after = _hunks(lines, index + 2, taken, Edit("lines", old if gone else new), hunks)
    if gone or fresh:
        if len(hunks) > 1:
            raise EditError(f"line {index + 1} of the reply: a file that comes or goes has one hunk")
        edit = hunks[0][1] if hunks else Edit("lines", old if gone else new)
        if fresh and edit.old:
            raise EditError(f"line {index + 1} of the reply: {new} is new, and the diff takes lines from it")
        hunks = [(index, replace(edit, kind="delete" if gone else "file", at=None, creates=fresh))]
    elif not hunks:
        raise EditError(f"the diff of {new} in line {index + 1} of the reply has no hunk: no line begins with @@")
    found += hunks
    return after


def _hunks(lines: Sequence[str], index: int, taken: list[bool], of: Edit, found: list[tuple[int, Edit]]) -> int:
    """The hunks from a line on; the index of the line after them."""
    while index < len(lines) and lines[index].startswith("@@") and (head := _HUNK.match(lines[index])):
        counts = [int(head[2] or 1), int(head[4] or 1)] if head[1] is not None else None
        body = _body(lines, index + 1, counts)
        old = tuple(line[1:] for line in body if line[0] in " -")
        new = tuple(line[1:] for line in body if line[0] in " +")
        at = None
        if head[1] is not None:
            at = int(head[1]) - (0 if counts and counts[0] == 0 else 1)
        if not body or (not old and at is None):
            raise EditError(f"the hunk in line {index + 1} of the reply has no lines to find its place by")
        found.append((index, replace(of, old=old, new=new, at=at, final=_final(body))))
        stop = index + 1 + len(body)
        taken[index:stop] = [True] * (stop - index)
        index = stop
    return index


def _body(lines: Sequence[str], start: int, counts: list[int] | None) -> list[str]:
    """The lines of a hunk, each with its sign: as many as its head counts, or as far as they go where the head miscounts."""
    body: list[str] = []
    for index in range(start, len(lines)):
        line = lines[index]
        if line.startswith("\\"):
            body.append(line)
            continue
        if counts is not None and _counted(body) == counts:
            if not line or line[0] not in " +-" or line == "-- " or _heads(lines, index):
                return body
            break
        if line and line[0] not in " +-":
            break
        body.append(line or " ")
    else:
        if counts is not None and _counted(body) == counts:
            return body
    return _natural(lines, start)


def _natural(lines: Sequence[str], start: int) -> list[str]:
    body: list[str] = []
    for index in range(start, len(lines)):
        line = lines[index]
        if (line and line[0] not in " +-\\") or _heads(lines, index):
            break
        body.append(line)
    while body and not body[-1]:
        body.pop()
    return [line or " " for line in body]


def _counted(body: Sequence[str]) -> list[int]:
    return [sum(line[0] in " -" for line in body), sum(line[0] in " +" for line in body)]


def _final(body: Sequence[str]) -> bool | None:
    """Whether the file ends with a line end after this hunk; ``None`` where it does not say."""
    signs = {body[i - 1][0] for i, line in enumerate(body) if line[0] == "\\" and i}
    return None if not signs else not signs & {" ", "+"}


# ---- whole files ---------------------------------------------------------------------------------


def _files(
    lines: Sequence[str], taken: Sequence[bool], fences: Sequence[_Fence], others: bool
) -> list[tuple[int, Edit]]:
    found: list[tuple[int, Edit]] = []
    for fence in fences:
        inside = taken[fence.start : fence.stop if fence.stop >= 0 else len(lines)]
        if any(inside):
            continue
        path = _info_label(fence) or fence.label
        if others and not path:
            continue
        if fence.stop < 0:
            raise EditError(f"the code fence in line {fence.start} of the reply does not end (was the reply cut off?)")
        found.append((fence.start, Edit("file", path, new=tuple(lines[fence.start : fence.stop]))))
    nameless = [index for index, edit in found if not edit.path]
    if len(nameless) > 1:
        where = ", ".join(str(index) for index in nameless[:4])
        raise EditError(
            f"the reply has {len(nameless)} code fences (lines {where}) that do not say which file they are"
        )
    return found
