"""A folder as one file: the same bytes for the same content, so that a SHA-256 pins all of it.

Canonical JSON: path → ``[base64 of its bytes, whether it may be executed]``. Compiled files (``__pycache__``, ``*.pyc``), and files and folders whose name begins with
a dot are left out.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from upwright.warden.canon import canonical_json
from upwright.warden.errors import VaultError

MOST_BYTES = 256 * 1024 * 1024
"""Most bytes of all files together."""


def pack(folder: Path) -> bytes:
    """The folder as one file.

    Raises:
        VaultError: it cannot be read, holds a link or a device, or is too large.
    """
    files: dict[str, tuple[str, bool]] = {}
    total = 0
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise VaultError(
                f"{folder.name}/{name} is no plain file", value=str(path), todo="put the file itself there"
            )
        try:
            data = path.read_bytes()
        except OSError as e:
            raise VaultError(f"{folder.name}/{name} cannot be read", value=e.strerror, todo="make it readable") from e
        total += len(data)
        if total > MOST_BYTES:
            raise VaultError(
                f"the folder {folder.name} holds more than {MOST_BYTES >> 20} MB", todo="keep large data elsewhere"
            )
        files[name] = base64.b64encode(data).decode(), os.access(path, os.X_OK) and bool(path.stat().st_mode & 0o100)
    if not files:
        raise VaultError(f"the folder {folder.name} holds no file", value=str(folder), todo="check the path")
    return canonical_json(files)


def unpack(data: bytes, target: Path) -> None:
    """Write the files of :func:`pack` into ``target``, which must not exist; any user may read it, who can get there.

    Raises:
        VaultError: the data is not a packed folder.
    """
    target.mkdir(parents=True)
    target.chmod(0o755)
    for name, content, runs in _entries(data):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(target).parents:
            (target / folder).chmod(0o755)
        path.write_bytes(content)
        path.chmod(0o755 if runs else 0o644)


def plain_path(name: object) -> bool:
    """Whether a name is a plain relative path: no empty, ``.`` or ``..`` part, no control character, no backslash."""
    if not isinstance(name, str) or any(ord(c) < 32 or c in "\\\x7f" for c in name):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
        linked = [f for f in folders if (Path(here) / f).is_symlink()]
        for name in sorted([*linked, *names]):
            if not name.startswith(".") and not name.endswith(".pyc"):
                yield Path(here) / name


def _entries(data: bytes) -> Iterator[tuple[str, bytes, bool]]:
    try:
        files = json.loads(data)
        if not isinstance(files, Mapping) or not all(plain_path(name) for name in files):
            raise ValueError("not a table of plain paths")
        for name, (content, runs) in files.items():
            yield name, base64.b64decode(content, validate=True), bool(runs)
    except (ValueError, TypeError, binascii.Error, RecursionError) as e:
        raise VaultError("this is not a packed folder", value=str(e)) from e
