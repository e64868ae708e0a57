"""Processes on this machine: persistent workers, so that loaded models stay warm.

Each worker is a fresh interpreter in its own process group. Ctrl-C reaches only the parent: the first one
asks the running job to stop (its next ``progress`` raises :class:`~upwright.errors.Stopped`), the second
one kills its worker. A worker that dies takes one job with it; the next job gets a fresh worker. A parent
that dies, however it dies, takes its workers with it.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from upwright.engines.base import Progress
from upwright.engines.worker import IN_WORKER, NUMBER, as_upwright_error, stopped
from upwright.errors import RuntimeFailure, UpwrightError

T = TypeVar("T")

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from upwright.engines.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_PULSE = 1.0  # seconds between looks at whether the worker is alive when no message comes
_LOG_TAIL = 1500  # characters of the log shown when a worker dies


class InlineEngine:
    """Runs jobs in this very process: for tests and for bodies that load nothing.

    A time-out takes effect when the job calls ``progress``; a job that kills its process kills this one.
    """

    name = "inline"

    def run(
        self, job: Callable[..., T], *args: Any, progress: Progress | None = None, timeout: float | None = None
    ) -> T:
        """Run ``job(*args, progress=...)`` here."""
        deadline = None if timeout is None else time.monotonic() + timeout

        def report(done: int, total: int, note: str = "") -> None:
            if deadline is not None and time.monotonic() > deadline:
                raise _timed_out(timeout)
            if progress is not None:
                progress(done, total, note)

        try:
            return job(*args, progress=report)
        except KeyboardInterrupt:
            raise stopped() from None
        except UpwrightError:
            raise
        except Exception as error:
            raise as_upwright_error(error) from error

    def close(self) -> None:
        """Nothing to end."""


class LocalEngine:
    """Runs jobs in worker processes.

    Args:
        workers: how many jobs may run at once (``run`` may be called from that many threads); each worker
            is started when first needed. 0 runs jobs in this process.
        log: file that receives what workers print; ``None`` drops it.
        replicas: processes with which one worker answers (:mod:`upwright.bodies.runtimes.replicas`); 0 leaves what
            the environment says.
    """

    name = "local"

    def __init__(self, workers: int = 1, log: Path | None = None, replicas: int = 0) -> None:
        if os.environ.get(IN_WORKER):
            raise RuntimeFailure(
                "a worker tried to start workers of its own",
                todo="put what your script starts under `if __name__ == '__main__':`",
            )
        self._inline = None if workers > 0 else InlineEngine()
        self._closed = False
        self._log = log
        self._slots: queue.LifoQueue[_Slot] = queue.LifoQueue()
        self._all = [_Slot(log, workers, replicas) for _ in range(workers)]
        for slot in reversed(self._all):
            self._slots.put(slot)
        self._finalizer = weakref.finalize(self, _end_all, self._all)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, job: Callable[..., T], *args: Any, progress: Progress | None = None, timeout: float | None = None
    ) -> T:
        """Run ``job(*args, progress=...)`` in a worker and wait for it; ``timeout`` in seconds.

        ``job`` is a module-level function; arguments and result must pickle. When ``progress`` raises, the
        job is asked to stop and the exception is raised here once it has.

        Raises:
            UpwrightError: what the job raised, as itself.
            RuntimeFailure: the worker died, the time ran out, or the job raised anything else.
            Stopped: Ctrl-C.
        """
        if self._inline is not None:
            return self._inline.run(job, *args, progress=progress, timeout=timeout)
        if self._closed:
            raise RuntimeFailure("the engine is closed", todo="make a new one")
        try:
            payload = pickle.dumps((job, args), protocol=5)
        except Exception as error:
            raise RuntimeFailure(
                f"a job or its arguments cannot be sent to a worker: {error}",
                value=job,
                todo="a job is a module-level function and its arguments are plain data",
            ) from error
        slot = self._slots.get()
        try:
            with _interrupts() as presses:
                result: T = _Watch(slot, presses, progress, timeout).follow(payload)
            if presses.count:  # the job finished before it heard
                raise stopped()
            return result
        finally:
            self._slots.put(slot)

    def close(self) -> None:
        """End the workers; may be called twice."""
        self._closed = True
        self._finalizer()


def _end_all(slots: list[_Slot]) -> None:
    for slot in slots:
        slot.end()


def _timed_out(timeout: float | None) -> RuntimeFailure:
    return RuntimeFailure(
        "the job ran out of time and was ended", value=f"{timeout:g} s", todo="allow more time, or give it less to do"
    )


@dataclass(slots=True)
class _Presses:
    """Ctrl-C while a job runs: how often, and a pipe that becomes readable with each."""

    count: int = 0
    pipe: int | None = None


@contextlib.contextmanager
def _interrupts() -> Iterator[_Presses]:
    """Count Ctrl-C instead of raising ``KeyboardInterrupt`` (in the main thread; elsewhere nothing is counted)."""
    presses = _Presses()
    if threading.current_thread() is not threading.main_thread():
        yield presses
        return
    presses.pipe, write = os.pipe()

    def count(_number: int, _frame: FrameType | None) -> None:
        presses.count += 1
        os.write(write, b"!")

    before = signal.signal(signal.SIGINT, count)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(presses.pipe)
        os.close(write)


@dataclass(slots=True)
class _Slot:
    """A place for one worker; starts it when needed and again after it died."""

    log: Path | None
    workers: int
    replicas: int = 0
    process: subprocess.Popen[bytes] | None = None
    jobs: Connection | None = None
    control: int = -1
    number: int = 0

    def ready(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        """The worker's connection and process; a fresh one when there is none alive."""
        if self.process is not None and self.process.poll() is not None:
            self.end()
        if self.process is None or self.jobs is None:
            return self._start()
        return self.jobs, self.process

    def _start(self) -> tuple[Connection, subprocess.Popen[bytes]]:
        ours, theirs = multiprocessing.Pipe()
        control_read, control = os.pipe()
        env = {"PYTHONHASHSEED": "0", **os.environ}
        if self.replicas:
            env["UPWRIGHT_REPLICAS"] = str(self.replicas)
        if self.workers > 1:
            env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.workers)))
        try:
            if self.log is not None:
                self.log.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log or os.devnull, "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno()), str(control_read)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(), control_read),
                    process_group=0,
                    env=env,
                )
        except OSError as error:
            ours.close()
            os.close(control)
            raise RuntimeFailure(f"a worker could not be started: {error}", todo="free memory or processes") from error
        finally:
            theirs.close()
            os.close(control_read)
        self.process, self.jobs, self.control = process, ours, control
        return ours, process

    def ask_to_stop(self) -> None:
        """Make the running job's next ``progress`` raise ``Stopped``."""
        with contextlib.suppress(OSError):
            os.write(self.control, NUMBER.pack(self.number))

    def kill(self) -> int | None:
        """Kill the worker and all that it started; returns its exit code."""
        process, self.process = self.process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        if self.jobs is not None:
            self.jobs.close()
            self.jobs = None
        os.close(self.control)
        return code

    def end(self) -> None:
        """Let the worker finish tidily, then kill what is left of its group."""
        if self.process is None:
            return
        if self.jobs is not None:
            self.jobs.close()
            self.jobs = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        self.kill()

    def died(self, started: float) -> RuntimeFailure:
        """Kill what is left and say how the worker died."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)  # its pipe closes a moment before it is gone
        code = self.kill()
        why = f"exit code {code}"
        if code is not None and code < 0:
            why = signal.Signals(-code).name
        text = f"the worker died after {time.monotonic() - started:.1f} s ({why})"
        if code == -signal.SIGKILL:
            text += "; the system may have run out of memory"
        todo = "the next job gets a fresh worker"
        if self.log is not None and self.log.exists():
            tail = self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip()
            text += f"\n{tail}" if tail else ""
            todo += f"; the worker's log is {self.log}"
        return RuntimeFailure(text, todo=todo)


@dataclass(slots=True)
class _Watch:
    """Follows one job to its end."""

    slot: _Slot
    presses: _Presses
    progress: Progress | None
    timeout: float | None
    started: float = field(default_factory=time.monotonic)
    asked: bool = False
    trouble: BaseException | None = None

    def follow(self, payload: bytes) -> Any:
        """Send the job and bring its result back."""
        jobs, process = self.slot.ready()
        self.slot.number += 1
        main = getattr(sys.modules["__main__"], "__file__", None) if b"__main__" in payload else None
        try:
            jobs.send_bytes(pickle.dumps((self.slot.number, main, payload), protocol=5))
            while True:
                if not jobs.poll(0):
                    self._wait(jobs, process)
                    continue
                kind, value = pickle.loads(jobs.recv_bytes())
                if kind == "progress":
                    self._report(*value)
                elif self.trouble is not None:
                    raise self.trouble
                elif kind == "error":
                    raise stopped() if self.presses.count else value
                else:
                    return value
        except (EOFError, ConnectionError, pickle.UnpicklingError) as error:
            raise self.slot.died(self.started) from error
        except (KeyboardInterrupt, SystemExit):
            self.slot.kill()
            raise

    def _report(self, done: int, total: int, note: str) -> None:
        if self.progress is None or self.trouble is not None:
            return
        try:
            self.progress(done, total, note)
        except BaseException as error:
            self.trouble = error

    def _wait(self, jobs: Connection, process: subprocess.Popen[bytes]) -> None:
        """Wait for a message, a Ctrl-C, the end of the time or of the worker."""
        if self.presses.count > 1:
            self.slot.kill()
            raise stopped()
        if (self.presses.count or self.trouble is not None) and not self.asked:
            self.asked = True
            self.slot.ask_to_stop()
        left = _PULSE
        if self.timeout is not None:
            left = min(left, self.started + self.timeout - time.monotonic())
            if left <= 0:
                self.slot.kill()
                raise _timed_out(self.timeout)
        sources: list[Connection | int] = [jobs]
        if self.presses.pipe is not None:
            sources.append(self.presses.pipe)
        ready = wait(sources, left)
        if self.presses.pipe is not None and self.presses.pipe in ready:
            os.read(self.presses.pipe, 64)
        if not ready and process.poll() is not None:
            raise EOFError
