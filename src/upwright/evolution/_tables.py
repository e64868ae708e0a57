"""The tables of an archive; see :mod:`upwright.evolution.archive`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from upwright.errors import StorageError
from upwright.project import WAL_PAGES

SCHEMA = 1
CACHE_KB = 16_000
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE candidate (
  number INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, files TEXT NOT NULL, same TEXT NOT NULL, near TEXT NOT NULL,
  proposer TEXT NOT NULL, note TEXT NOT NULL, changes TEXT NOT NULL, parents TEXT NOT NULL, island INTEGER NOT NULL,
  length INTEGER NOT NULL, change REAL NOT NULL, event INTEGER, score REAL, squares REAL NOT NULL DEFAULT 0,
  runs INTEGER NOT NULL DEFAULT 0, metrics TEXT NOT NULL DEFAULT '{}', artifacts TEXT NOT NULL DEFAULT '{}',
  kind TEXT NOT NULL DEFAULT '', why TEXT NOT NULL DEFAULT '', alarms TEXT NOT NULL DEFAULT '[]', cell TEXT NOT NULL DEFAULT '',
  seconds REAL NOT NULL DEFAULT 0, clade_right REAL NOT NULL DEFAULT 0, clade_asked INTEGER NOT NULL DEFAULT 0);
CREATE INDEX candidate_same ON candidate (same);
CREATE INDEX candidate_near ON candidate (near);
CREATE INDEX candidate_event ON candidate (event);
CREATE INDEX candidate_open ON candidate (number) WHERE event IS NULL;
CREATE TABLE run (
  candidate INTEGER NOT NULL, number INTEGER NOT NULL, seed TEXT NOT NULL, score REAL, metrics TEXT NOT NULL,
  failure TEXT NOT NULL, artifacts TEXT NOT NULL, alarms TEXT NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (candidate, number)) WITHOUT ROWID;
CREATE TABLE refused (
  event INTEGER PRIMARY KEY, proposer TEXT NOT NULL, files TEXT NOT NULL, note TEXT NOT NULL, changes TEXT NOT NULL,
  parents TEXT NOT NULL, kind TEXT NOT NULL, why TEXT NOT NULL);
CREATE TABLE cell (
  island INTEGER NOT NULL, cell TEXT NOT NULL, candidate INTEGER NOT NULL, PRIMARY KEY (island, cell)) WITHOUT ROWID;
CREATE TABLE blob (digest TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path) -> sqlite3.Connection:
    """The file, opened; made where there is none.

    Raises:
        StorageError: a newer version wrote it.
        sqlite3.Error: it cannot be opened.
    """
    db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(_TABLES + f"PRAGMA user_version={SCHEMA}; COMMIT;")
    elif version > SCHEMA:
        raise StorageError(
            f"the archive has schema {version}; this Upwright reads {SCHEMA}",
            value=str(path),
            todo="use the version that wrote it, or begin another archive",
        )
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(f"PRAGMA cache_size={-CACHE_KB}")
    db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    return db
