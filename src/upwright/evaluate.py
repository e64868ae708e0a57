"""Evaluate (1): a body and tasks make a scorecard, an outcome for every task.

A run that failed (crash, time-out, refusal) or an answer that could not be graded has no score; it
is never a zero. Results of stored generations are kept by content, so the same generation, task and
seed are never run twice.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from upwright.bodies.answer import answer
from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Progress, Runtime
from upwright.errors import StorageError, TaskError
from upwright.project import WAL_PAGES
from upwright.records import (
    Answer,
    Failure,
    FailureKind,
    Finish,
    Outcome,
    Scorecard,
    Task,
)
from upwright.tasks.base import Practice

CACHE_SCHEMA = 2
_KEPT = 1024
THREADS = 8
"""Most programs that are scored at once; how many run at once is for their judge to say."""
_keys: dict[int, tuple[Task, str]] = {}
"""Digests of the last tasks; an exam's are asked for with every candidate."""


def evaluate(
    body: Body,
    tasks: Sequence[Task],
    seed: int,
    practice: Practice,
    runtime: Runtime | None = None,
    cache: EvaluationCache | None = None,
    progress: Progress | None = None,
) -> Scorecard:
    """Answer and score ``tasks``; outcomes come in task order.

    Args:
        seed: sampling seed of every answer; the same body, tasks and seed give the same scorecard.
        practice: whose scorer grades, and whose name the scorecard bears.
        runtime: the body's loaded runtime; ``None`` loads one where the body needs it.
        cache: used only for a stored generation (``body.digest`` is set). What failed is not kept.
        progress: called with the answers done and the total, those from the cache counted as done.

    Raises:
        RuntimeFailure: the whole batch could not be run.
        TaskError: a task's id is there twice.
    """
    if len({task.id for task in tasks}) != len(tasks):
        ids = [task.id for task in tasks]
        raise TaskError("a task is there twice", value=next(i for i in ids if ids.count(i) > 1))
    generation = body.digest or "scratch"
    known: dict[str, Outcome] = {}
    keys: dict[str, str] = {}
    if cache is not None and body.digest is not None:
        keys = {task.id: task_key(task) for task in tasks}
        found = cache.get(body.digest, keys.values(), seed)
        known = {task.id: found[keys[task.id]] for task in tasks if keys[task.id] in found}
    missing = [task for task in tasks if task.id not in known]
    if missing:
        answers = answer(body, [task.question for task in missing], seed, runtime, _from(len(known), progress))
        fresh = _scored(missing, answers, practice)
        if keys and cache is not None and body.digest is not None:
            cache.put(body.digest, {keys[o.task_id]: o for o in fresh}, seed)
        known.update((outcome.task_id, outcome) for outcome in fresh)
    if progress is not None:
        progress(len(tasks), len(tasks))
    return Scorecard(generation, practice.name, seed, tuple(known[task.id] for task in tasks))


def score(task: Task, said: Answer, practice: Practice) -> Outcome:
    """The outcome of one answer: a score, or the failure of the run or of the grader."""
    failure = said.failure
    points: float | None = None
    if failure is None:
        try:
            points = practice.score(said.text, task)
        except TaskError as error:
            failure = Failure(FailureKind.INFRASTRUCTURE, error.what)
    return Outcome(task.id, task.skill, task.difficulty, said, points, failure)


def _scored(tasks: Sequence[Task], answers: Sequence[Answer], practice: Practice) -> list[Outcome]:
    """The outcomes, in task order; scoring a program is running it, which is done for several at a time."""
    if len(tasks) < 2 or any(task.scorer.get("kind") != "program" for task in tasks):
        return [score(task, said, practice) for task, said in zip(tasks, answers, strict=True)]
    with ThreadPoolExecutor(min(THREADS, len(tasks)), "score") as threads:
        return list(threads.map(lambda task, said: score(task, said, practice), tasks, answers))


def task_key(task: Task) -> str:
    """Digest of everything in a task that decides its outcome and how it is reported."""
    known = _keys.get(id(task))
    if known is not None and known[0] is task:
        return known[1]
    key = hashlib.sha256(msgspec.json.encode(task, order="deterministic")).hexdigest()
    if len(_keys) >= _KEPT:
        _keys.clear()
    _keys[id(task)] = task, key
    return key


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    """An outcome that has a score, as it is written: most of its bytes would be names of fields."""

    task_id: str
    skill: str
    difficulty: int
    score: float
    text: str
    finish: Finish | None
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    confidence: float | None
    vote_share: float | None
    samples: int
    money: float

    @classmethod
    def of(cls, outcome: Outcome, score: float) -> _Kept:
        a = outcome.answer
        return cls(
            outcome.task_id, outcome.skill, outcome.difficulty, score, a.text, a.finish, a.prompt_tokens,
            a.completion_tokens, a.seconds, a.confidence, a.vote_share, a.samples, a.money,
        )  # fmt: skip

    def outcome(self) -> Outcome:
        answer = Answer(
            self.task_id, self.text, self.finish, self.prompt_tokens, self.completion_tokens, self.seconds,
            self.confidence, self.vote_share, self.samples, self.money,
        )  # fmt: skip
        return Outcome(self.task_id, self.skill, self.difficulty, answer, self.score)


_BATCH = msgspec.json.Decoder(list[_Kept])


class EvaluationCache:
    """Outcomes by (generation, task content, seed), in SQLite.

    Every batch of :func:`evaluate` is one row: after ``kill -9`` or a power cut the file holds whole
    batches. Several processes may use it at once. A file of an older version is begun anew.

    Raises:
        StorageError: the file cannot be opened, or another version wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version < CACHE_SCHEMA:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.executescript(
                    "BEGIN IMMEDIATE; DROP TABLE IF EXISTS outcome; CREATE TABLE IF NOT EXISTS batch (id INTEGER PRIMARY"
                    " KEY, generation TEXT NOT NULL, seed TEXT NOT NULL, tasks TEXT NOT NULL, data TEXT NOT NULL);"
                    " CREATE INDEX IF NOT EXISTS batch_of ON batch (generation, seed);"
                    f" PRAGMA user_version={CACHE_SCHEMA}; COMMIT;"
                )
            elif version > CACHE_SCHEMA:
                raise StorageError(
                    f"the evaluation cache has schema {version}; this Upwright reads {CACHE_SCHEMA}",
                    value=str(path),
                    todo="delete the file: it only saves time",
                )
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        except sqlite3.Error as error:
            raise self._failed("opened", error) from None

    def __enter__(self) -> EvaluationCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._db.close()

    def get(self, generation: str, keys: Iterable[str], seed: int) -> dict[str, Outcome]:
        """Task key → outcome, for those that are there.

        Raises:
            StorageError: the file cannot be read.
        """
        found: dict[str, Outcome] = {}
        wanted = set(keys)
        query = "SELECT tasks, data FROM batch WHERE generation = ? AND seed = ? ORDER BY id"
        try:
            for tasks, data in self._db.execute(query, (generation, str(seed))):
                if not wanted.isdisjoint(names := tasks.split()):
                    for key, kept in zip(names, _BATCH.decode(data), strict=True):
                        if key in wanted and key not in found:
                            found[key] = kept.outcome()
        except (sqlite3.Error, ValueError, msgspec.ValidationError) as error:
            raise self._failed("read", error) from None
        return found

    def put(self, generation: str, outcomes: Mapping[str, Outcome], seed: int) -> None:
        """Keep outcomes by task key, all or none of them; the first one kept stays. What has no score is not kept.

        Raises:
            StorageError: the disk is full or read-only.
        """
        kept = {key: _Kept.of(o, o.score) for key, o in outcomes.items() if o.score is not None}
        if not kept:
            return
        data = msgspec.json.encode(list(kept.values())).decode()
        try:
            self._db.execute(
                "INSERT INTO batch (generation, seed, tasks, data) VALUES (?, ?, ?, ?)",
                (generation, str(seed), " ".join(kept), data),
            )
        except sqlite3.Error as error:
            raise self._failed("written", error) from None

    def _failed(self, verb: str, error: Exception) -> StorageError:
        return StorageError(
            f"the evaluation cache cannot be {verb}: {error}",
            value=str(self.path),
            todo="free space or make it writable; a damaged file may be deleted, it only saves time",
        )


def _from(done: int, progress: Progress | None) -> Progress | None:
    """``progress`` with ``done`` answers already there."""
    if progress is None or done == 0:
        return progress
    return lambda now, total: progress(done + now, done + total)
