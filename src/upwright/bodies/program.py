"""``program/``: the files of a body that is a program, as one text.

Bytes that are no UTF-8 stand in a text as lone surrogates (``surrogateescape``), so that every file comes back byte for byte; the text
of a program is ASCII, whatever is in its files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from upwright.errors import BodyError

FOLDER = "program/"


def read_program(root: Path) -> dict[str, str]:
    """The files of a body's ``program/``: path inside it → text. ``__pycache__`` is left out, as it is from a stored body.

    Raises:
        BodyError: there is none, or it is empty.
    """
    place = root / FOLDER
    found: dict[str, str] = {}
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(place).as_posix()] = path.read_bytes().decode("utf-8", "surrogateescape")
    if not found:
        raise BodyError("the body has no program", value=str(place), todo="put its files into program/")
    return found


def program_text(program: Mapping[str, str]) -> str:
    """Canonical JSON of a program, in ASCII: keys sorted, no spaces."""
    return json.dumps(dict(program), sort_keys=True, separators=(",", ":"))


def program_changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, bytes | None]:
    """What a child with the program ``after`` changes of a body with ``before``: path inside the body → new bytes, or ``None``."""
    gone: dict[str, bytes | None] = {FOLDER + path: None for path in before if path not in after}
    return gone | {
        FOLDER + path: text.encode("utf-8", "surrogateescape")
        for path, text in after.items()
        if before.get(path) != text
    }
