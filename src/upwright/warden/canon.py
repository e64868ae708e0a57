"""Canonical bytes, digests and durable writes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical_json(data: Any) -> bytes:
    """ASCII JSON with sorted keys and no spaces: the same bytes for the same value.

    Raises:
        ValueError: ``data`` holds NaN or an infinity, which JSON cannot.
    """
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def record_digest(data: Any) -> str:
    """SHA-256 (hex) of UTF-8 canonical JSON: the digest that Upwright's records use for proposals."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def tree_digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) of a tree given as path → SHA-256 of its bytes (the name of a generation)."""
    text = "".join(f"{path}\0{files[path]}\n" for path in sorted(files))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sha256(data: bytes) -> str:
    """SHA-256 (hex) of bytes."""
    return hashlib.sha256(data).hexdigest()


def sync_dir(path: Path) -> None:
    """Make renames and new names in ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace ``path`` in one step: a reader sees the old bytes or the new ones, never a mix.

    Args:
        durable: also ``fsync`` the file and its folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)
    if durable:
        sync_dir(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """``os.write`` until every byte is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
