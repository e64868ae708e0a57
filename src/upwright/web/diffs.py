"""What differs between two bodies, file by file, as a person reads it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from upwright.bodies.store import Store
from upwright.errors import StorageError
from upwright.records import Generation

MOST_TEXT = 512 * 1024
"""Larger files are told by size and digest alone, in bytes."""
MOST_LINES = 400
"""Longest diff shown of one file."""
MOST_WIDE = 240
"""Characters shown of one line: a program may hold a table of numbers in one."""
_HUNK = re.compile(r"@@ -(\d+)")
_PYTHON = re.compile(r"\s*(?:async def|def|class)\s+\w")
_OTHER = re.compile(r"[A-Za-z_$\[]|#+ ")


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file that differs.

    Attributes:
        lines: unified diff, or ``None`` for what is not text (weights): then sizes and digests say it.
        before, after: SHA-256 of the contents, ``None`` where the file does not exist; sizes in bytes.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    lines: tuple[str, ...] | None
    before: str | None
    after: str | None
    before_size: int | None
    after_size: int | None


def compare(store: Store, old: Generation, new: Generation) -> tuple[FileDiff, ...]:
    """Every file that differs, text parts first."""
    paths = [p for p in sorted({*old.files, *new.files}) if old.files.get(p) != new.files.get(p)]
    found = [_file(store, old, new, path) for path in paths]
    return tuple(sorted(found, key=lambda f: (f.lines is None, f.path)))


def _file(store: Store, old: Generation, new: Generation, path: str) -> FileDiff:
    before, after = old.files.get(path), new.files.get(path)
    kind: Literal["added", "removed", "changed"] = (
        "added" if before is None else "removed" if after is None else "changed"
    )
    sizes = [None if d is None else _size(store, d) for d in (before, after)]
    texts = [_text(store, generation, path, size) for generation, size in ((old, sizes[0]), (new, sizes[1]))]
    lines = None if None in texts else _unified(texts[0] or "", texts[1] or "", path)
    return FileDiff(path, kind, lines, before, after, sizes[0], sizes[1])


def _size(store: Store, digest: str) -> int:
    try:
        return store.blobs.path(digest).stat().st_size
    except OSError:
        return 0


def _text(store: Store, generation: Generation, path: str, size: int | None) -> str | None:
    """The file's text, empty when it does not exist, ``None`` when it is not text."""
    if path not in generation.files:
        return ""
    if path.startswith("model/") or (size or 0) > MOST_TEXT:
        return None
    try:
        text = store.file(generation, path).decode()
    except (UnicodeDecodeError, StorageError):
        return None
    return None if "\0" in text else text


def _unified(before: str, after: str, path: str) -> tuple[str, ...]:
    old = before.splitlines()
    lines = []
    for line in list(difflib.unified_diff(old, after.splitlines(), n=2, lineterm=""))[2:]:
        line = line.rstrip("\n")
        if path.startswith("program/") and (hunk := _HUNK.match(line)):
            line = f"{line} {_place(old[: int(hunk[1])], path)}".rstrip()
        lines.append(
            line if len(line) <= MOST_WIDE else f"{line[:MOST_WIDE]}… and {len(line) - MOST_WIDE} more characters"
        )
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"… and {len(lines) - MOST_LINES} more lines"]
    return tuple(lines)


def _place(above: list[str], path: str) -> str:
    """In which function or section a change is: the last line above it that begins one."""
    begins = _PYTHON if path.endswith(".py") else _OTHER
    return next((line.strip()[:80] for line in reversed(above) if begins.match(line)), "")
