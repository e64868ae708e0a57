"""Every candidate of a search, in one SQLite file: one row each, committed before anybody is told of it.

::

    candidate   a program, who made it of what, how it was judged, what it is recognised and placed by
    run         one measurement of a candidate, committed as it comes in, in whatever order
    refused     a draft that was not judged (a duplicate, out of scope), so that a proposer can be told of it again
    cell        which candidate holds a cell of an island's grid
    blob        files, compressed, by their SHA-256; a program is what differs from the first one
    fact        the few numbers of the search itself: its steps, its best, its bandit

A draft is a row before it is judged, its measurements are rows before it is placed, and it is placed in one transaction: after
``kill -9`` nothing that was measured is measured again and nothing that was proposed is lost. A row costs the same whether there
are ten before it or ten thousand: what is looked up has an index, and memory holds the cells and a bounded cache.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from upwright.errors import ProjectError, StorageError
from upwright.evolution._files import Files
from upwright.evolution._tables import connect
from upwright.evolution.elites import Estimate
from upwright.evolution.novelty import Marks
from upwright.evolution.parents import Tally
from upwright.evolution.records import Candidate, Draft, Judged, program_digest

TEXT, TEXTS = 2000, 8
"""Characters that are kept of what an evaluator says besides its metrics, and how many such texts."""
_CANDIDATES = 64


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of a candidate, as it was written; it is a :class:`~upwright.evolution.records.Judged`."""

    score: float | None
    metrics: Mapping[str, float]
    failure: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A candidate that is not placed yet; ``parents`` are numbers."""

    number: int
    draft: Draft
    marks: Marks
    island: int
    parents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """What is written of a candidate once it needs no more measurements.

    Attributes:
        score: ``None`` where it failed; ``squares``, ``runs``: see :class:`~upwright.evolution.elites.Estimate`.
        kind, why: of the failure. ``cell``: where it belongs, empty for one that failed.
        rank: its outcome for its clade, in [0, 1]; ``clade``: numbers of those that hear of it, itself the first.
        holds: (island, cell) that it takes over → its number.
        best: whether it is the best from now on.
    """

    score: float | None
    squares: float = 0.0
    runs: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    why: str = ""
    alarms: tuple[str, ...] = ()
    cell: str = ""
    seconds: float = 0.0
    rank: float = 0.0
    clade: tuple[int, ...] = ()
    holds: Mapping[tuple[int, str], int] = field(default_factory=dict)
    best: bool = False


class Archive:
    """The archive at a path; one process at a time writes to it. A context manager.

    Args:
        identity: what search it belongs to; an archive of another one is not gone on with.

    Attributes:
        count: candidates; ``placed``: those that need no more measurements; ``events``: candidates placed and drafts refused.

    Raises:
        ProjectError: it belongs to another search.
        StorageError: the file cannot be opened, or a newer version wrote it.
    """

    def __init__(self, path: Path, identity: str = "") -> None:
        self.path = path
        self._known: OrderedDict[int, Candidate] = OrderedDict()
        self._parents: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        with self._guard("opened"):
            self._db = connect(path)
        known = self.fact("identity")
        if known is None:
            self.write(identity=identity)
        elif identity and known != identity:
            raise ProjectError(
                "this archive belongs to another search: its program, evaluator or settings differ", value=str(path),
                todo="go on with those, or name another archive",
            )  # fmt: skip
        with self._guard("read"):
            self.count: int
            self.placed: int
            self.count, self.placed = self._db.execute("SELECT count(*), count(event) FROM candidate").fetchone()
            last = self._db.execute(
                "SELECT max(coalesce((SELECT max(event) FROM candidate), -1), coalesce((SELECT max(event) FROM refused), -1))"
            )
            self.events = last.fetchone()[0] + 1
            self._cells: dict[tuple[int, str], tuple[float, int]] = {
                (island, cell): (score, number)
                for island, cell, score, number in self._db.execute(
                    "SELECT cell.island, cell.cell, score, number FROM cell JOIN candidate ON number = candidate"
                )
            }
            first = self._db.execute("SELECT files FROM candidate WHERE number = 0").fetchone()
        self._files = Files(self._db, json.loads(first[0]) if first else {})

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._db.close()

    # ---- the search's own facts --------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """A fact of the search, ``None`` where it was never written."""
        with self._guard("read"):
            row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def write(self, **facts: object) -> None:
        """Write facts, all at once; within :meth:`together` with the rest of it."""
        with self._guard("written"):
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", [(k, str(v)) for k, v in facts.items()])

    @contextmanager
    def together(self) -> Iterator[None]:
        """All writes within are committed at once, or none."""
        with self._guard("written"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # ---- drafts and measurements -------------------------------------------------------------

    def add(self, draft: Draft, marks: Marks, island: int, parents: Sequence[int]) -> Waiting:
        """Take in a draft that is to be judged."""
        number, digest = self.count, program_digest(draft.program)
        with self._guard("written"):
            files = self._files.put(draft.program, first=number == 0)
            self._db.execute(
                "INSERT INTO candidate (number, digest, files, same, near, proposer, note, changes, parents, island, length, change)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    number, digest, files, marks.same, marks.near, draft.proposer, _said(draft.note), _said(draft.changes),
                    json.dumps(list(parents)), island, marks.length, marks.change,
                ),
            )  # fmt: skip
        self.count += 1
        return Waiting(number, draft, marks, island, tuple(parents))

    def refuse(self, draft: Draft, kind: str, why: str) -> None:
        """Write down a draft that is not judged."""
        with self._guard("written"):
            self._db.execute(
                "INSERT INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self.events, draft.proposer, self._files.put(draft.program), _said(draft.note), _said(draft.changes),
                    json.dumps(list(draft.parents)), kind, _said(why),
                ),
            )  # fmt: skip
        self.events += 1

    def measured(self, number: int, run: int, seed: int, judged: Judged) -> Run:
        """Write down a measurement, at once; what was written is what counts."""
        told = {name[:TEXT]: text[-TEXT:] for name, text in list(judged.artifacts.items())[:TEXTS]}
        alarms = tuple(alarm[:TEXT] for alarm in judged.alarms[:TEXTS])
        found = Run(judged.score, dict(judged.metrics), judged.failure, told, alarms, judged.seconds)
        row = (
            json.dumps(found.metrics), found.failure, json.dumps(found.artifacts), json.dumps(found.alarms), found.seconds
        )  # fmt: skip
        with self._guard("written"):
            self._db.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (number, run, str(seed), found.score, *row)
            )
        return found

    def runs(self, number: int) -> dict[int, Run]:
        """Measurements of a candidate by their number."""
        query = "SELECT number, score, metrics, failure, artifacts, alarms, seconds FROM run WHERE candidate = ?"
        with self._guard("read"):
            return {
                run: Run(score, json.loads(m), failure, json.loads(a), tuple(json.loads(w)), seconds)
                for run, score, m, failure, a, w, seconds in self._db.execute(query, (number,))
            }

    def open(self) -> list[Waiting]:
        """The candidates that are not placed yet, in order."""
        query = "SELECT number, island FROM candidate WHERE event IS NULL ORDER BY number"
        with self._guard("read"):
            rows = self._db.execute(query).fetchall()
        return [Waiting(n, self.draft(n), self.marks(n), island, self.parents(n)) for n, island in rows]

    # ---- placing -----------------------------------------------------------------------------

    def place(self, number: int, placed: Placed) -> None:
        """Write what became of a candidate."""
        with self._guard("written"):
            self._db.execute(
                "UPDATE candidate SET event=?, score=?, squares=?, runs=?, metrics=?, artifacts=?, kind=?, why=?, alarms=?,"
                " cell=?, seconds=? WHERE number=?",
                (
                    self.events, placed.score, placed.squares, placed.runs, json.dumps(dict(placed.metrics)),
                    json.dumps(dict(placed.artifacts)), placed.kind, _said(placed.why), json.dumps(placed.alarms),
                    placed.cell, placed.seconds, number,
                ),
            )  # fmt: skip
            self._db.executemany(
                "UPDATE candidate SET clade_right = clade_right + ?, clade_asked = clade_asked + 1 WHERE number = ?",
                [(placed.rank, one) for one in placed.clade],
            )
            self._known.pop(number, None)
            for (island, cell), holder in placed.holds.items():
                self.hold(island, cell, placed.score if placed.score is not None else -math.inf, holder)
            if placed.best:
                self.write(best=number)
        self.events += 1
        self.placed += 1

    def hold(self, island: int, cell: str, score: float, number: int) -> None:
        """Let a candidate hold a cell."""
        with self._guard("written"):
            self._db.execute("INSERT OR REPLACE INTO cell VALUES (?, ?, ?)", (island, cell, number))
        self._cells[island, cell] = (score, number)

    @property
    def best(self) -> int | None:
        """Number of the best, ``None`` where nothing has a score."""
        found = self.fact("best")
        return None if found is None else int(found)

    def elites(self, island: int) -> list[tuple[float, int]]:
        """(score, number) of the candidates that hold a cell of an island, each once."""
        return sorted({one for (where, _), one in self._cells.items() if where == island})

    def top(self, island: int) -> tuple[float, int, str] | None:
        """(score, number, cell) of the best of an island; of equals the oldest."""
        found = [(-score, number, cell) for (where, cell), (score, number) in self._cells.items() if where == island]
        if not found:
            return None
        score, number, cell = min(found)
        return -score, number, cell

    def island(self, number: int) -> int:
        """Where a candidate was born."""
        with self._guard("read"):
            return int(self._db.execute("SELECT island FROM candidate WHERE number = ?", (number,)).fetchone()[0])

    def holder(self, island: int, cell: str) -> tuple[float, int] | None:
        """(score, number) of the candidate that holds a cell."""
        return self._cells.get((island, cell))

    def tally(self, number: int) -> Tally:
        """Outcomes of a candidate's clade; its own rank alone where nothing came of it."""
        with self._guard("read"):
            query = "SELECT clade_right, clade_asked FROM candidate WHERE number = ?"
            right, asked = self._db.execute(query, (number,)).fetchone()
        return Tally(right, asked, asked)

    def parents(self, number: int) -> tuple[int, ...]:
        """Numbers of a candidate's parents."""
        if number not in self._parents:
            with self._guard("read"):
                (row,) = self._db.execute("SELECT parents FROM candidate WHERE number = ?", (number,)).fetchone()
            self._parents[number] = tuple(json.loads(row))
            if len(self._parents) > 64 * _CANDIDATES:
                self._parents.popitem(last=False)
        return self._parents[number]

    # ---- looking up --------------------------------------------------------------------------

    def get(self, number: int) -> Candidate:
        """A candidate with its program.

        Raises:
            KeyError: there is none.
        """
        if number in self._known:
            self._known.move_to_end(number)
            return self._known[number]
        columns = "digest, files, metrics, score, parents, island, proposer, note, squares, runs, why, artifacts, event"
        with self._guard("read"):
            row = self._db.execute(f"SELECT {columns} FROM candidate WHERE number = ?", (number,)).fetchone()
            if row is None:
                raise KeyError(number)
            digest, files, metrics, score, parents, island, proposer, note, squares, runs, why, artifacts, event = row
            found = Candidate(
                digest, self._files.program(files), json.loads(metrics), score, self._digests(json.loads(parents)), island, proposer,
                note, number, math.sqrt(squares / (runs - 1) / runs) if runs > 1 else 0.0, runs, why, json.loads(artifacts),
            )  # fmt: skip
        if event is not None:
            self._known[number] = found
            if len(self._known) > _CANDIDATES:
                self._known.popitem(last=False)
        return found

    def estimate(self, number: int) -> Estimate | None:
        """What is known of a candidate's score; ``None`` where it has none."""
        with self._guard("read"):
            query = "SELECT score, squares, runs FROM candidate WHERE number = ?"
            score, squares, runs = self._db.execute(query, (number,)).fetchone()
        return None if score is None else Estimate(score, squares, runs)

    def marks(self, number: int) -> Marks:
        """What a candidate is recognised and placed by."""
        with self._guard("read"):
            query = "SELECT same, near, length, change FROM candidate WHERE number = ?"
            return Marks(*self._db.execute(query, (number,)).fetchone())

    def by_digest(self, digest: str) -> int | None:
        """Number of the candidate with exactly this program."""
        return self._number("digest", digest)

    def same(self, marks: Marks) -> int | None:
        """Number of the first candidate that means the same."""
        return self._number("same", marks.same)

    def near(self, marks: Marks) -> int | None:
        """Number of the first candidate that nearly means the same."""
        return self._number("near", marks.near)

    def lineage(self, number: int) -> list[Candidate]:
        """A candidate and, along the first parents, all that it came from, itself first."""
        found = [self.get(number)]
        while parents := self.parents(found[-1].number):
            found.append(self.get(parents[0]))
        return found

    def draft(self, number: int) -> Draft:
        """The draft that a candidate was."""
        found = self.get(number)
        with self._guard("read"):
            row = self._db.execute("SELECT changes FROM candidate WHERE number = ?", (number,)).fetchone()
        return Draft(found.program, found.proposer, found.note, found.parents, row[0])

    # ---- inside ------------------------------------------------------------------------------

    def rows(self, query: str, *arguments: object) -> Iterator[tuple[Any, ...]]:
        """Rows of a query; for :mod:`upwright.evolution.history`."""
        with self._guard("read"):
            yield from self._db.execute(query, arguments)

    def program(self, files: str) -> dict[str, str]:
        """A program from what is written of its files."""
        with self._guard("read"):
            return self._files.program(files)

    def digests(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """Digests of candidates."""
        with self._guard("read"):
            return self._digests(numbers)

    def _number(self, column: str, value: str) -> int | None:
        with self._guard("read"):
            query = f"SELECT min(number) FROM candidate WHERE {column} = ?"
            row = self._db.execute(query, (value,)).fetchone()
        return None if row[0] is None else int(row[0])

    def _digests(self, numbers: Sequence[int]) -> tuple[str, ...]:
        query = "SELECT digest FROM candidate WHERE number = ?"
        return tuple(self._db.execute(query, (number,)).fetchone()[0] for number in numbers)

    @contextmanager
    def _guard(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(
                f"the archive cannot be {verb}: {error}", value=str(self.path), todo="free space, or make it writable"
            ) from None


def _said(text: str) -> str:
    """A text that SQLite can hold."""
    return text.encode("utf-8", "replace").decode()
