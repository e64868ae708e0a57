"""What every engine must do: inherit :class:`EngineContract` and give it a fixture named ``engine``.

::

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self):
            engine = MyEngine()
            yield engine
            engine.close()
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

import pytest

from upwright.engines.base import Engine, Progress
from upwright.errors import (
    BodyError,
    BuildError,
    CharterError,
    LedgerError,
    MissingExtra,
    RuntimeFailure,
    Stopped,
    StorageError,
    TaskError,
    UpwrightError,
)

ERRORS: Mapping[str, UpwrightError] = {
    "body": BodyError("no body", value={"a": 1}, todo="make one"),
    "build": BuildError("no child"),
    "charter": CharterError("not allowed", value="model/"),
    "ledger": LedgerError("entry 3 does not verify", value=3),
    "extra": MissingExtra("torch", "models"),
    "runtime": RuntimeFailure("unreachable", todo="start it"),
    "storage": StorageError("the disk is full"),
    "stopped": Stopped("limit reached"),
    "task": TaskError("tasks.jsonl, line 3: no answer"),
    "unpicklable": UpwrightError("odd value", value=lambda: 0),
}


def add_job(a: int, b: int, *, progress: Progress) -> int:
    """``a + b``, with three progress reports."""
    for done in range(3):
        progress(done + 1, 3, "adding")
    return a + b


def echo_job(data: bytes, *, progress: Progress) -> bytes:
    """The data, backwards."""
    return data[::-1]


def pid_job(*, progress: Progress) -> int:
    """Where it runs."""
    return os.getpid()


def raise_job(name: str, *, progress: Progress) -> None:
    """Raise one of :data:`ERRORS`, or something that is no deliberate error."""
    if name in ERRORS:
        raise ERRORS[name]
    raise ZeroDivisionError(name)


def die_job(*, progress: Progress) -> None:
    """Die as a process that ran out of memory does."""
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def nap_job(seconds: float, *, progress: Progress) -> str:
    """Report progress every 10 ms."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        progress(0, 1, "napping")
        time.sleep(0.01)
    return "rested"


def deaf_job(seconds: float, *, progress: Progress) -> str:
    """Report progress once and then never again."""
    progress(0, 1, "deaf")
    time.sleep(seconds)
    return "done"


def unpicklable_job(*, progress: Progress) -> object:
    """Return what cannot be sent."""
    return lambda: 0


class EngineContract:
    """What every engine does."""

    def test_returns_and_reports(self, engine: Engine) -> None:
        """Results come back and progress is heard, in order."""
        heard: list[tuple[int, int, str]] = []
        assert engine.run(add_job, 2, 3, progress=lambda *a: heard.append(a)) == 5
        assert heard == [(1, 3, "adding"), (2, 3, "adding"), (3, 3, "adding")]
        assert engine.run(add_job, 2, 4) == 6

    def test_large_arguments_and_results(self, engine: Engine) -> None:
        """Far more than a pipe holds."""
        data = os.urandom(1 << 20) * 8
        assert engine.run(echo_job, data) == data[::-1]

    @pytest.mark.parametrize("name", list(ERRORS))
    def test_deliberate_errors_arrive_as_themselves(self, engine: Engine, name: str) -> None:
        """Same type, text, advice and exit code."""
        with pytest.raises(UpwrightError) as caught:
            engine.run(raise_job, name)
        wanted, got = ERRORS[name], caught.value
        assert type(got) is type(wanted)
        assert (got.what, got.todo, got.exit_code) == (wanted.what, wanted.todo, wanted.exit_code)
        if name != "unpicklable":
            assert (str(got), got.value) == (str(wanted), wanted.value)

    def test_bugs_arrive_with_their_traceback(self, engine: Engine) -> None:
        """Anything else is a failure that shows where it was raised."""
        with pytest.raises(RuntimeFailure, match="ZeroDivisionError: bang") as caught:
            engine.run(raise_job, "bang")
        assert "raise_job" in str(caught.value)
        assert engine.run(add_job, 1, 1) == 2

    def test_a_progress_that_raises_stops_the_job(self, engine: Engine) -> None:
        """The caller's exception comes out, soon, and the engine is usable."""

        def refuse(done: int, total: int, note: str) -> None:
            raise Stopped("budget is spent")

        clock = time.monotonic()
        with pytest.raises(Stopped, match="budget is spent"):
            engine.run(nap_job, 30.0, progress=refuse)
        assert time.monotonic() - clock < 10
        assert engine.run(add_job, 1, 1) == 2

    def test_time_out(self, engine: Engine) -> None:
        """A job that takes too long is ended."""
        clock = time.monotonic()
        with pytest.raises(RuntimeFailure, match="out of time"):
            engine.run(nap_job, 30.0, timeout=0.5)
        assert time.monotonic() - clock < 10
        assert engine.run(add_job, 1, 1) == 2

    def test_close_twice(self, engine: Engine) -> None:
        """Closing again is nothing."""
        engine.run(add_job, 1, 1)
        engine.close()
        engine.close()


class ProcessEngineContract(EngineContract):
    """What engines do whose jobs run in processes of their own."""

    def test_workers_stay_warm(self, engine: Engine) -> None:
        """The next job runs in the same process, which is not this one."""
        first = engine.run(pid_job)
        assert first == engine.run(pid_job)
        assert first != os.getpid()

    def test_a_dead_worker_costs_one_job(self, engine: Engine) -> None:
        """The job fails, the next one has a fresh worker."""
        before = engine.run(pid_job)
        with pytest.raises(RuntimeFailure, match="died"):
            engine.run(die_job)
        assert engine.run(pid_job) != before

    def test_a_deaf_job_is_ended_by_time_out(self, engine: Engine) -> None:
        """Even one that never reports progress."""
        with pytest.raises(RuntimeFailure, match="out of time"):
            engine.run(deaf_job, 30.0, timeout=0.5)
        assert engine.run(add_job, 1, 1) == 2

    def test_what_cannot_be_sent_is_said(self, engine: Engine) -> None:
        """Both ways."""
        with pytest.raises(RuntimeFailure, match="sent to a worker"):
            engine.run(lambda progress: 0)
        with pytest.raises(RuntimeFailure, match="sent back"):
            engine.run(unpicklable_job)
        assert engine.run(add_job, 1, 1) == 2
