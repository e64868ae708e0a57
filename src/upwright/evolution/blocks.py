"""What of a program may change: files by their paths, and in them what stands between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END.

A marker is a line of its own, in the comment syntax of whatever language (``# EVOLVE-BLOCK-START``, ``// …``, ``/* … */``,
``<!-- … -->``, ``REM …``). The markers themselves are fixed. A file without markers may change as a whole, where its path may.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from upwright.errors import BodyError
from upwright.evolution.records import Program

_MARKER = re.compile(r"^(?:\W|_|\b(?:rem|dnl|comment)\b)*EVOLVE-BLOCK-(START|END)(?![\w-])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scope:
    """What may change.

    Attributes:
        paths: globs of files inside ``program/`` that may change, come and go: ``*`` stays within a folder, ``**`` does not, a
            folder ends in ``/``, and what a glob after ``!`` fits may not change after all.
        blocks: whether markers count. Where they do not, a file whose path may change may change as a whole.
    """

    paths: tuple[str, ...] = ("**",)
    blocks: bool = True

    def allows(self, path: str) -> bool:
        """Whether anything in a file of this path may change."""
        fits = [pattern for pattern in self.paths if _glob(pattern.removeprefix("!")).fullmatch(path)]
        return bool(fits) and not any(pattern.startswith("!") for pattern in fits)

    def spans(self, path: str, text: str) -> tuple[range, ...]:
        """Which lines may change: ranges of indices into ``lines_of(text)``, in order; an empty block is an empty range.

        Raises:
            BodyError: the markers do not pair.
        """
        if not self.allows(path):
            return ()
        lines = lines_of(text)
        marked = blocks_of(path, lines) if self.blocks else ()
        return marked or (range(len(lines)),)


def lines_of(text: str) -> list[str]:
    r"""Lines with their ends, which join to the same text; only ``\n`` ends a line. An empty text has none."""
    *whole, rest = text.split("\n")
    return [line + "\n" for line in whole] + ([rest] if rest else [])


def blocks_of(path: str, lines: Sequence[str]) -> tuple[range, ...]:
    """The lines inside of each pair of markers, in order; none where there are no markers.

    Raises:
        BodyError: a marker has no partner, or a block begins inside another.
    """
    found: list[range] = []
    start: int | None = None
    for index, line in enumerate(lines):
        if "EVOLVE-BLOCK" not in line or (marker := _MARKER.match(line)) is None:
            continue
        opens = marker[1].upper() == "START"
        if opens == (start is not None):
            what = "a block begins inside another" if opens else "EVOLVE-BLOCK-END has no start"
            raise BodyError(f"{path}, line {index + 1}: {what}", todo="put one START before each END")
        if start is not None:
            found.append(range(start, index))
        start = index + 1 if opens else None
    if start is not None:
        raise BodyError(f"{path}, line {start}: EVOLVE-BLOCK-START has no end", todo="add EVOLVE-BLOCK-END")
    return tuple(found)


def outside(before: Program, after: Program, scope: Scope) -> list[str]:
    """What changed that may not: a sentence for each file, none when all is well.

    Raises:
        BodyError: the markers of ``before`` do not pair.
    """
    found: list[str] = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if not scope.allows(path):
            verb = "changed" if old is not None and new is not None else ("deleted" if new is None else "added")
            found.append(f"{path} was {verb}, and only {', '.join(scope.paths)} may change")
        elif old is not None and scope.blocks and (why := _fixed_parts(path, old, new)):
            found.append(why)
    return found


def _fixed_parts(path: str, old: str, new: str | None) -> str:
    """Why a file's fixed lines are not what they were, or nothing."""
    lines = lines_of(old)
    spans = blocks_of(path, lines)
    if not spans:
        return ""
    if new is None:
        return f"{path} was deleted, and only what is between its markers may change"
    others = lines_of(new)
    try:
        new_spans = blocks_of(path, others)
    except BodyError as error:
        return f"the markers were damaged: {error.what}"
    if len(new_spans) != len(spans):
        return f"{path} has {len(new_spans)} EVOLVE blocks where it had {len(spans)}"
    for (start, part), (_, other) in zip(_between(lines, spans), _between(others, new_spans), strict=True):
        if part != other:
            return f"{path}: {_first_difference(start, part, other)}"
    return ""


def _between(lines: Sequence[str], spans: Sequence[range]) -> list[tuple[int, Sequence[str]]]:
    """What is not in a block, in order, with the index of its first line; the markers are part of it."""
    starts, stops = [0, *(s.stop for s in spans)], [*(s.start for s in spans), len(lines)]
    return [(start, lines[start:stop]) for start, stop in zip(starts, stops, strict=True)]


def _first_difference(start: int, part: Sequence[str], other: Sequence[str]) -> str:
    for offset, (old, new) in enumerate(zip(part, other)):
        if old != new:
            return f"line {start + offset + 1} is outside of the EVOLVE blocks and was changed from {old!r} to {new!r}"
    more = "lines were added" if len(other) > len(part) else "lines were removed"
    where = start + min(len(part), len(other)) + 1
    return f"{more} outside of the EVOLVE blocks, at line {where}"


@functools.lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    """A path pattern as a regular expression."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", f"{pattern}**" if pattern.endswith("/") else pattern)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)
