"""The files of programs in an archive: each once, compressed, and of a program only what differs from the first one."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Mapping

from upwright.evolution.records import Program

CACHED = 32 * 1024 * 1024
"""Characters of files that are kept in memory."""


class Files:
    """Puts programs into the table ``blob`` and takes them out.

    Args:
        first: path → SHA-256 of the first program's files; empty where there is none yet.
    """

    def __init__(self, db: sqlite3.Connection, first: Mapping[str, str]) -> None:
        self._db = db
        self._first = dict(first)
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._size = 0

    def put(self, program: Program, first: bool = False) -> str:
        """What is to be written of a program: its files that differ from the first one's, ``null`` for one that is gone."""
        files: dict[str, str | None] = {}
        for path, text in program.items():
            data = text.encode("utf-8", "surrogatepass")
            digest = hashlib.sha256(data).hexdigest()
            if self._first.get(path) != digest:
                files[path] = digest
                self._db.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (digest, zlib.compress(data, 1)))
        if first:
            self._first = {path: digest for path, digest in files.items() if digest is not None}
        files.update(dict.fromkeys(path for path in self._first if path not in program))
        return json.dumps(files, sort_keys=True)

    def program(self, files: str) -> dict[str, str]:
        """The program of which this was written."""
        merged: dict[str, str | None] = {**self._first, **json.loads(files)}
        return {path: self._text(digest) for path, digest in sorted(merged.items()) if digest is not None}

    def _text(self, digest: str) -> str:
        """A file; those used last are kept, so that programs share them."""
        if digest in self._texts:
            self._texts.move_to_end(digest)
            return self._texts[digest]
        row = self._db.execute("SELECT data FROM blob WHERE digest = ?", (digest,)).fetchone()
        text = self._texts[digest] = zlib.decompress(row[0]).decode("utf-8", "surrogatepass")
        self._size += len(text)
        while self._size > CACHED and len(self._texts) > 1:
            self._size -= len(self._texts.popitem(last=False)[1])
        return text
