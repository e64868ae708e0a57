"""A project directory on disk.

::

    my-project/
    ├── upwright.toml    how to run: suites, levers, effort, engine (this module)
    ├── charter.toml     the human's document (read by the warden; nothing here writes it)
    ├── constitution.md  principles for answers, where the charter names them (nothing here writes it)
    ├── tasks/           task files and generators
    ├── body/            the body that the run starts from; never written after ``init``
    ├── champion/        the current champion, to look at (a checkout; rebuilt at will)
    └── .upwright/       store/  run.db (the journal)  cache.db  work/  warden/  logs/
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from upwright.errors import ProjectError, StorageError

SCHEMA = 1
WAL_PAGES = 4000
"""Pages (4 KiB) of SQLite's log after which it is written back: one sync of the disk for some thousand rows."""
VERBS = ("evaluate", "diagnose", "propose", "build", "prove", "promote")
PLAN = "plan"
"""The journal's table of plans: a row at the first round of each (see :mod:`upwright.plans`)."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """``[run]`` of upwright.toml.

    Attributes:
        seed: everything random in the run derives from it.
        effort: work of one build; 1.0 is a few CPU minutes.
        practice: practice tasks that the champion is evaluated on in each generation.
        samples: samples per task for headroom (0 = none), drawn on a quarter of the practice tasks.
        screen: practice tasks on which a child is screened against the champion before it may knock.
        goal: stop when the champion's confirmed score reaches it, in (0, 1].
        task_timeout: seconds after which one batch of answers counts as hung.
        frontier: fresh practice tasks per difficulty on which the frontier of every champion is measured, where the
            objective has a difficulty axis; 0 takes the practice exam for it.
    """

    seed: int = 0
    effort: float = 1.0
    practice: int = 96
    samples: int = 4
    screen: int = 64
    goal: float = 1.0
    task_timeout: float = 900.0
    frontier: int = 0


@dataclass(frozen=True, slots=True)
class SuiteSettings:
    """``[suites.NAME]``: where its tasks come from, ``kind:rest`` or a path; or three files."""

    source: str = ""
    practice: str = ""
    sealed: str = ""
    vault: str = ""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """``[engine]``: ``local`` runs jobs in ``workers`` processes of this machine; 0 is in this process.

    ``replicas``: processes that share the answering of one worker, each with its own copy of the weights; fewer where
    cores or memory are.
    """

    kind: str = "local"
    workers: int = 1
    replicas: int = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """upwright.toml, parsed.

    ``levers`` names the levers that may be used; empty means all that are installed. ``judge`` is a directory with a body
    (``model.toml`` of an endpoint, or ``model/``) that levers may ask which of two answers is better; empty means none.
    """

    suites: Mapping[str, SuiteSettings]
    run: RunSettings = field(default_factory=RunSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    levers: tuple[str, ...] = ()
    judge: str = ""


class Project:
    """An opened project directory. Use :meth:`open`; :func:`upwright.loop.init` makes a new one."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.settings = settings
        self.state = root / ".upwright"
        self.work = self.state / "work"
        self.warden = self.state / "warden"
        self.logs = self.state / "logs"
        self.charter_path = root / "charter.toml"
        self.body_path = root / "body"
        self.champion_path = root / "champion"

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    @classmethod
    def open(cls, root: str | Path) -> Project:
        """Open the project at ``root``, or at the nearest parent that has an upwright.toml.

        Raises:
            ProjectError: there is none, or the file is malformed.
        """
        start = Path(root).resolve()
        for folder in (start, *start.parents):
            if (folder / "upwright.toml").is_file():
                return cls(folder, read_settings(folder / "upwright.toml"))
        raise ProjectError(
            "there is no Upwright project here",
            value=str(start),
            todo="make one with `upwright init DIR`, or name it with --project",
        )

    @property
    def journal(self) -> Journal:
        """The run's journal (opened anew at each access; close it)."""
        return Journal(self.state / "run.db")

    def prepare(self) -> None:
        """Make the state directories.

        Raises:
            StorageError: the directory is read-only or the disk is full.
        """
        try:
            for folder in (self.state, self.work, self.logs):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot write the project: {error.strerror}",
                value=str(self.root),
                todo="free space, or make it writable",
            ) from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project so that only one run changes it.

        Raises:
            ProjectError: another run holds it.
        """
        lock = FileLock(self.state / "run.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ProjectError(
                "another run is at work in this project", value=str(self.root), todo="wait for it, or stop it"
            ) from None
        except OSError as error:
            raise StorageError(
                f"cannot lock the project: {error.strerror}", value=str(self.root), todo="make it writable"
            ) from None
        try:
            yield
        finally:
            lock.release()


def refuse_occupied(target: Path, todo: str = "name a new one") -> None:
    """Refuse a place for a new project where something is already.

    Raises:
        ProjectError: the directory is not empty, or it is a file.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ProjectError("the directory is not empty", value=str(target), todo=todo)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A directory beside ``target`` that takes its place when all went well, and is gone when not.

    Raises:
        StorageError: the disk is full or read-only.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield staged
            staged.chmod(0o755)
            if target.exists():
                target.rmdir()
            staged.rename(target)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    except OSError as error:
        raise StorageError(
            f"cannot make the project: {error.strerror or error}",
            value=str(target),
            todo="free space, or name another place",
        ) from None


def read_settings(path: Path) -> Settings:
    """Parse upwright.toml; an unknown key or a wrong type is an error that names it.

    Raises:
        ProjectError: what is wrong, and where.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProjectError(f"{path} cannot be read: {error}", todo="mend the file") from None
    tables: dict[str, tuple[Any, type]] = {
        "": (data, Settings),
        "run": (data.get("run", {}), RunSettings),
        "engine": (data.get("engine", {}), EngineSettings),
    }
    suites = data.get("suites")
    if not isinstance(suites, dict) or not suites:
        raise ProjectError(f"{path} names no suite", todo='add [suites.NAME] with source = "tasks/FILE.jsonl"')
    tables |= {f"suites.{name}": (suite, SuiteSettings) for name, suite in suites.items()}
    for name, (table, cls) in tables.items():
        known = [f.name for f in fields(cls)]
        for key in table if isinstance(table, dict) else ():
            if key not in known:
                where = f"[{name}]" if name else "the top level"
                raise ProjectError(f"{path}: unknown key in {where}", value=key, todo=f"known keys: {', '.join(known)}")
    try:
        return msgspec.convert(data, type=Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ProjectError(f"{path}: {error}", todo="mend the value") from None


class Journal:
    """What the run did, verb by verb, in SQLite: a table for each verb, a row for each round; and one of plans.

    A round is one candidate's way through the verbs. Rows are written once and in order, so that a killed
    run resumes at the first verb that has no row. What took no time to find may be held back, to share a
    transaction with the row after it: on the disk there is at any moment a row with all those before it.
    The journal is the improver's memory; the *evidence* is on the warden's ledger.
    """

    def __init__(self, path: Path) -> None:
        self._held: list[tuple[str, int, float, str]] = []
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA):
                raise ProjectError(
                    f"{path} has schema {version}; this Upwright reads {SCHEMA}", todo="use the version that wrote it"
                )
            for verb in (*VERBS, PLAN):
                self._db.execute(
                    f"CREATE TABLE IF NOT EXISTS {verb} (round INTEGER PRIMARY KEY, at REAL NOT NULL, data TEXT NOT NULL)"
                )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS spend (id INTEGER PRIMARY KEY, at REAL NOT NULL, data TEXT NOT NULL)"
            )
            self._db.execute("CREATE INDEX IF NOT EXISTS build_core ON build (json_extract(data, '$.record.core'))")
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot open the journal: {error}", value=str(path), todo="free space, or make the project writable"
            ) from None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is held back, where the disk takes it, and close the file; may be called twice."""
        with suppress(StorageError):
            self.flush()
        self._db.close()

    def write(self, verb: str, round_: int, data: Mapping[str, Any], hold: bool = False) -> None:
        """Write the row of ``verb`` for ``round_``; writing it again replaces it (a resumed round).

        Args:
            hold: keep it back until the next row, :meth:`flush`, a reading or the end. A killed run then finds it again.

        Raises:
            StorageError: the disk is full or read-only.
        """
        self._held.append((verb, round_, time.time(), msgspec.json.encode(data, order="deterministic").decode()))
        if not hold:
            self.flush()

    def flush(self) -> None:
        """Write the rows that were held back, all or none of them.

        Raises:
            StorageError: the disk is full or read-only.
        """
        if not self._held:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for verb, *row in self._held:
                    self._db.execute(f"INSERT OR REPLACE INTO {verb} VALUES (?, ?, ?)", row)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StorageError(
                f"cannot write the journal: {error}", todo="free space, then run again: it goes on from here"
            ) from None
        self._held.clear()

    def read(self, verb: str, round_: int) -> dict[str, Any] | None:
        """The row of ``verb`` for ``round_``, or ``None``."""
        self.flush()
        row = self._db.execute(f"SELECT data FROM {verb} WHERE round = ?", (round_,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def rows(self, verb: str, after: int = 0, last: int = -1) -> list[tuple[int, float, dict[str, Any]]]:
        """Rows of ``verb`` as ``(round, unix time, data)``, oldest first.

        Args:
            after: only rounds after this one.
            last: only so many of the newest; −1 for all.
        """
        self.flush()
        query = f"SELECT round, at, data FROM {verb} WHERE round > ? ORDER BY round DESC LIMIT ?"
        found = self._db.execute(query, (after, last)).fetchall()
        return [(r, at, msgspec.json.decode(data)) for r, at, data in reversed(found)]

    def built_before(self, core: str, round_: int) -> bool:
        """Whether a round before ``round_`` built a child with this core. What is held back is of ``round_`` or later."""
        query = "SELECT 1 FROM build WHERE json_extract(data, '$.record.core') = ? AND round < ? LIMIT 1"
        return self._db.execute(query, (core, round_)).fetchone() is not None

    def built(self, child: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The first proposal and build whose child's digest begins with ``child``, or ``None``.

        Raises:
            ProjectError: several children's digests begin so.
        """
        self.flush()
        query = (
            "SELECT build.data, propose.data, MIN(build.round) FROM build JOIN propose USING (round) WHERE"
            " substr(json_extract(build.data, '$.child'), 1, ?) = ? GROUP BY json_extract(build.data, '$.child') LIMIT 2"
        )
        found = self._db.execute(query, (len(child), child)).fetchall()
        if len(found) > 1:
            raise ProjectError("several generations begin with this", value=child, todo="give more digits")
        return (msgspec.json.decode(found[0][1]), msgspec.json.decode(found[0][0])) if found else None

    def forget(self, round_: int) -> None:
        """Drop an open round, which then begins anew."""
        self.flush()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for verb in (*VERBS, PLAN):
                self._db.execute(f"DELETE FROM {verb} WHERE round = ?", (round_,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageError(f"cannot write the journal: {error}", todo="free space, then run again") from None

    def next_round(self) -> int:
        """The round to work on: the first one that ``promote`` has not closed (1 is the first)."""
        return int(self._db.execute("SELECT COALESCE(MAX(round), 0) FROM promote").fetchone()[0]) + 1

    def spend(self, seconds: float, tokens: int = 0, money: float = 0.0) -> None:
        """Add to what the run has spent (wall seconds, tokens, money)."""
        data = json.dumps({"seconds": seconds, "tokens": tokens, "money": money})
        try:
            self._db.execute("INSERT INTO spend (at, data) VALUES (?, ?)", (time.time(), data))
        except sqlite3.Error as error:
            raise StorageError(f"cannot write the journal: {error}", todo="free space, then run again") from None

    def spent(self) -> dict[str, float]:
        """Totals of :meth:`spend` over all runs of this project."""
        row = self._db.execute(
            "SELECT COALESCE(SUM(json_extract(data,'$.seconds')),0), COALESCE(SUM(json_extract(data,'$.tokens')),0),"
            " COALESCE(SUM(json_extract(data,'$.money')),0) FROM spend"
        ).fetchone()
        return {"seconds": float(row[0]), "tokens": float(row[1]), "money": float(row[2])}


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file in one step: readers see the old bytes or the new, also after ``kill -9``.

    Raises:
        StorageError: the disk is full or read-only.
    """
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with tmp.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
    except OSError as error:
        with suppress(OSError):
            tmp.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path.name}: {error.strerror}", value=str(path), todo="free space, or make it writable"
        ) from None
