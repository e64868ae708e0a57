"""Evaluate: an outcome for every task, failures that are no zeros, and a cache that survives kill -9."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Completion
from upwright.errors import RuntimeFailure, StorageError, TaskError
from upwright.evaluate import EvaluationCache, evaluate, task_key
from upwright.records import Answer, Failure, FailureKind, Finish, Outcome, Task
from upwright.tasks import Pool, Suite, scorers

TASKS = tuple(Task(f"t{i}", f"question {i}", str(i), f"skill{i % 3}", 1 + i % 3) for i in range(60))


class Parrot:
    """Answers a question with its own number, or as ``says`` decides."""

    name, trainable = "parrot", False

    def __init__(self, says=None):
        self.says = says or (lambda n: n)
        self.asked = []

    def generate(self, requests, progress=None):
        made = []
        for i, request in enumerate(requests):
            n = request.messages[-1].content.split()[-1]
            self.asked.append(n)
            said = self.says(n)
            if isinstance(said, Failure):
                made.append([Completion("", None, failure=said)] * request.n)
            else:
                made.append([Completion(said, Finish.STOP, 7, 2, -0.1, 0.5)] * request.n)
            if progress:
                progress(i + 1, len(requests))
        return made

    def describe(self):
        return {}

    def close(self):
        pass


@pytest.fixture
def suite():
    return Suite("numbers", Pool(TASKS), "salt")


@pytest.fixture
def body(tmp_path):
    (tmp_path / "body").mkdir()
    return Body(tmp_path / "body", "d" * 64)


@pytest.fixture
def cache(tmp_path):
    with EvaluationCache(tmp_path / "cache.db") as made:
        yield made


def test_outcomes_come_in_task_order_with_scores_and_costs(suite, body):
    runtime = Parrot(lambda n: n if int(n) % 2 else "wrong")
    card = evaluate(body, TASKS[:10], 3, suite, runtime)
    assert [o.task_id for o in card.outcomes] == [t.id for t in TASKS[:10]]
    assert [o.score for o in card.outcomes] == [float(i % 2) for i in range(10)]
    assert [o.skill for o in card.outcomes] == [t.skill for t in TASKS[:10]]
    assert (card.generation, card.suite, card.seed) == (body.digest, "numbers", 3)
    assert card.tokens == 90
    assert card.seconds == pytest.approx(5.0)
    assert all(o.answer.finish is Finish.STOP for o in card.outcomes)


def test_a_failed_run_is_no_zero_and_is_not_kept(suite, body, cache):
    crash = Failure(FailureKind.CRASH, "out of memory")
    broken = Parrot(lambda n: crash if n == "1" else n)
    card = evaluate(body, TASKS[:4], 0, suite, broken, cache)
    assert card.outcomes[1].score is None
    assert card.outcomes[1].failure == crash
    assert card.failures == 1
    assert card.mean == 1.0
    mended = Parrot()
    again = evaluate(body, TASKS[:4], 0, suite, mended, cache)
    assert mended.asked == ["1"]
    assert again.mean == 1.0
    assert again.failures == 0


def test_a_grader_that_cannot_grade_is_no_zero(body):
    task = Task("t1", "question 1", "many", scorer={"kind": "number"})
    card = evaluate(body, [task], 0, Suite("s", Pool(TASKS), "salt"), Parrot())
    assert card.outcomes[0].score is None
    assert card.outcomes[0].failure is not None
    assert card.outcomes[0].failure.kind is FailureKind.INFRASTRUCTURE
    assert "grader" in card.outcomes[0].failure.message
    assert isinstance(scorers.grade("1", task), Failure)


def test_what_was_answered_once_is_not_run_again(suite, body, cache):
    first = evaluate(body, TASKS[:6], 0, suite, Parrot(), cache)
    runtime = Parrot()
    assert evaluate(body, TASKS[:6], 0, suite, runtime, cache) == first
    assert runtime.asked == []
    seen = []
    evaluate(body, TASKS[:8], 0, suite, runtime, cache, lambda done, total: seen.append((done, total)))
    assert runtime.asked == ["6", "7"]
    assert seen[-1] == (8, 8)
    assert seen[0][0] > 6
    assert seen == sorted(seen)


@pytest.mark.parametrize("change", ["seed", "digest", "input", "answer", "skill"])
def test_another_seed_generation_or_task_is_run(suite, body, cache, change):
    evaluate(body, TASKS[:1], 0, suite, Parrot(), cache)
    runtime, task, seed = Parrot(), TASKS[0], 0
    if change == "seed":
        seed = 1
    elif change == "digest":
        body = Body(body.root, "e" * 64)
    else:
        task = replace(task, **{change: "other 0"})
    evaluate(body, [task], seed, suite, runtime, cache)
    assert runtime.asked == ["0"]


def test_a_scratch_body_is_never_cached(suite, body, cache):
    scratch, runtime = Body(body.root), Parrot()
    for _ in range(2):
        assert evaluate(scratch, TASKS[:2], 0, suite, runtime, cache).generation == "scratch"
    assert runtime.asked == ["0", "1"] * 2


def test_the_same_task_twice_is_an_error(suite, body):
    with pytest.raises(TaskError, match="t0"):
        evaluate(body, [TASKS[0], TASKS[0]], 0, suite, Parrot())


def test_a_runtime_that_dies_raises_and_leaves_nothing(suite, body, cache):
    def die(n):
        raise RuntimeFailure("the worker died")

    with pytest.raises(RuntimeFailure):
        evaluate(body, TASKS[:3], 0, suite, Parrot(die), cache)
    assert cache.get(body.digest, [task_key(t) for t in TASKS], 0) == {}


def test_no_tasks_need_no_runtime(suite, body):
    assert evaluate(body, [], 0, suite).outcomes == ()


def test_one_task_is_cheap(suite, body, cache):
    """A no-op body and one task: well under a millisecond, from the runtime and from the cache."""
    runtime, scratch = Parrot(), Body(body.root)

    def best(*arguments):
        times = []
        for _ in range(200):
            start = time.perf_counter()
            evaluate(*arguments)
            times.append(time.perf_counter() - start)
        return min(times)

    evaluate(body, TASKS[:1], 0, suite, runtime, cache)
    assert best(scratch, TASKS[:1], 0, suite, runtime) < 3e-4
    assert best(body, TASKS[:1], 0, suite, runtime, cache) < 3e-4


# -- the file -------------------------------------------------------------------------------------


def outcome(i):
    return Outcome(f"t{i}", "s", 1, Answer(f"t{i}", "text", Finish.LENGTH, 3, 4, 0.5, -0.25, 0.75, 4), 0.5)


def test_outcomes_come_back_equal_and_the_first_one_stays(tmp_path):
    path = tmp_path / "c.db"
    with EvaluationCache(path) as cache:
        cache.put("g", {"k": outcome(1)}, 2**62)
        cache.put("g", {"k": replace(outcome(1), score=1.0)}, 2**62)
    with EvaluationCache(path) as cache:
        assert cache.get("g", ["k", "absent"], 2**62) == {"k": outcome(1)}
        assert cache.get("g", ["k"], 1) == {}


def test_another_schema_and_a_damaged_file_say_what_to_do(tmp_path):
    path = tmp_path / "c.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StorageError, match="schema 99"):
        EvaluationCache(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="may be deleted"):
        EvaluationCache(path)
    with pytest.raises(StorageError, match="cannot be opened"):
        EvaluationCache(tmp_path / "nowhere" / "c.db")


def test_a_damaged_row_is_an_error_that_says_what_to_do(tmp_path):
    path = tmp_path / "c.db"
    with EvaluationCache(path) as cache:
        cache.put("g", {"k": outcome(1)}, 0)
        with sqlite3.connect(path) as db:
            db.execute("UPDATE batch SET data = '{}'")
        db.close()
        with pytest.raises(StorageError, match="cannot be read"):
            cache.get("g", ["k"], 0)


WRITER = """
import sys
from pathlib import Path
from upwright.evaluate import EvaluationCache
from upwright.records import Answer, Outcome
cache = EvaluationCache(Path(sys.argv[1]))
start = int(sys.argv[2])
for batch in range(start, 10**6):
    cache.put("g", {f"{batch}/{i}": Outcome("t", "s", 1, Answer("t", "x"), 1.0) for i in range(20)}, 0)
    print(batch, flush=True)
"""


def test_kill_9_loses_no_batch_that_was_kept_and_leaves_none_half_written(tmp_path):
    path, start = tmp_path / "c.db", 0
    for pause in (0.0, 0.013):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(15):
            last = int(process.stdout.readline())
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        whole_lines = process.communicate()[0].split("\n")[:-1]
        last = int(whole_lines[-1]) if whole_lines else last
        with EvaluationCache(path) as cache:
            for batch in range(start, last + 1):
                assert len(cache.get("g", [f"{batch}/{i}" for i in range(20)], 0)) == 20
            assert all(
                len(cache.get("g", [f"{batch}/{i}" for i in range(20)], 0)) in (0, 20)
                for batch in range(last, last + 9)
            )
        start = last + 20


def test_two_processes_may_write_at_once(tmp_path):
    path = tmp_path / "c.db"
    with EvaluationCache(path) as one, EvaluationCache(path) as two:
        one.put("g", {"a": outcome(1)}, 0)
        two.put("g", {"b": outcome(2)}, 0)
        assert set(one.get("g", ["a", "b"], 0)) == {"a", "b"}


def test_a_file_of_an_older_version_is_begun_anew(tmp_path):
    path = tmp_path / "c.db"
    with sqlite3.connect(path) as db:
        db.executescript("CREATE TABLE outcome (generation, task, seed, data); PRAGMA user_version=1;")
    db.close()
    for _ in range(2):
        with EvaluationCache(path) as cache:
            cache.put("g", {"k": outcome(1)}, 0)
            assert cache.get("g", ["k"], 0) == {"k": outcome(1)}


def test_what_has_no_score_is_never_kept(tmp_path):
    failed = replace(outcome(2), score=None, failure=Failure(FailureKind.CRASH))
    with EvaluationCache(tmp_path / "c.db") as cache:
        cache.put("g", {"a": outcome(1), "b": failed}, 0)
        cache.put("g", {"b": failed}, 0)
        assert cache.get("g", ["a", "b"], 0) == {"a": outcome(1)}
