"""Several processes that answer side by side, each with its own copy of the weights and its share of the cores.

One process cannot fill a CPU with a small model: between two matrix products it waits for its other threads, and the
interpreter lock lets no second batch in. So a batch is dealt out by turns, its ``k``-th part to the ``k``-th process;
the first part is answered here. Who answers what depends on the requests alone, so the texts do too.

How many: ``UPWRIGHT_REPLICAS`` (the engine sets it from upwright.toml), never more than there are cores or than the
memory holds. A helper that dies or errs is no failure: its part is answered here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Completion, Progress, Request, Runtime

WANTED = "UPWRIGHT_REPLICAS"
"""Environment variable: processes that answer side by side; unset or 1 is this one alone."""
LEAST = 8
"""Completions that a process must get for its part to be worth sending."""
MEMORY = 0.4
"""Share of the free memory that all copies of the weights may take."""
DEATHS = 3
"""A helper that died this often is not started again."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from upwright.bodies.runtimes.replicas import serve; serve(int(sys.argv[2]))"
)


def affordable(model_dir: Path) -> int:
    """How many processes should hold this model: what was asked for, within cores, memory and need (none on CUDA)."""
    wanted = int(os.environ.get(WANTED, "1") or "1")
    if wanted <= 1:
        return 1
    import psutil
    import torch

    if torch.cuda.is_available():
        return 1
    size = sum(f.stat().st_size for f in model_dir.glob("*.safetensors"))
    room = MEMORY * psutil.virtual_memory().available / max(1, 2 * size)  # packed weights stand beside the plain ones
    return max(1, min(wanted, cores(), int(room)))


def cores() -> int:
    """Physical cores that this process may use."""
    import psutil

    count = psutil.cpu_count(logical=False) or 1
    return min(count, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else count


class Replicated:
    """A runtime of this process and its helpers, as one.

    Args:
        own: the runtime loaded in this process.
        root: the body's directory; the helpers load it from there.
        helpers: the other processes.
    """

    def __init__(self, own: Runtime, root: Path, helpers: Sequence[Helper]) -> None:
        self.own, self.root, self.helpers = own, root, helpers
        self.name, self.trainable = own.name, own.trainable

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Complete every request ``n`` times; see :class:`~upwright.bodies.runtimes.base.Runtime`."""
        total = sum(r.n for r in requests)
        parts = min(1 + len(self.helpers), len(requests), max(1, total // LEAST))
        if parts < 2:
            return self.own.generate(requests, progress)
        busy = [h for h, k in zip(self.helpers, range(1, parts)) if h.ask(self.root, list(requests[k::parts]))]
        results: list[list[Completion]] = [[] for _ in requests]

        def report(done: int, _total: int) -> None:
            if progress is not None:
                progress(min(total, done + sum(h.heard() for h in busy)), total)

        try:
            with threads(max(1, cores() // parts)):
                results[::parts] = self.own.generate(requests[::parts], report)
                here = sum(r.n for r in requests[::parts])
                for k, helper in enumerate(self.helpers[: parts - 1], 1):
                    answered = helper.answer(lambda: report(here, total)) if helper in busy else None
                    results[k::parts] = answered or self.own.generate(requests[k::parts])
        except BaseException:
            for helper in busy:  # what they still write is of no use
                helper.close()
            raise
        if progress is not None:
            progress(total, total)
        return results

    def describe(self) -> dict[str, Any]:
        """As the own runtime's, and how many processes answer."""
        return {**self.own.describe(), "processes": 1 + len(self.helpers)}

    def close(self) -> None:
        """Close the own runtime; the helpers go on, for other bodies."""
        self.own.close()


class Helper:
    """Another process that loads bodies and answers; it is started when it is first asked, and again after it died."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._deaths = 0
        self._done = 0
        self._answer: list[list[Completion]] | None = None

    def ask(self, root: Path, requests: list[Request]) -> bool:
        """Send requests; with none, only load the body. False when there is no process to send them to."""
        self._done, self._answer = 0, None
        if self._process is not None and self._process.poll() is not None:
            self._died()
        if self._process is None and not self._start():
            return False
        assert self._pipe is not None
        try:
            self._pipe.send((str(root), requests))
        except OSError:
            self._died()
            return False
        return True

    def heard(self) -> int:
        """Completions done so far, as last told."""
        if self._pipe is not None and self._answer is None:
            with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
                while self._answer is None and self._pipe.poll(0):
                    self._take(self._pipe.recv())
        return self._done

    def answer(self, waiting: Any) -> list[list[Completion]] | None:
        """The completions, or ``None`` when it died or erred. ``waiting()`` is called about once a second."""
        try:
            while self._answer is None and self._pipe is not None:
                if self._pipe.poll(1.0):
                    self._take(self._pipe.recv())
                waiting()
        except (OSError, EOFError, pickle.UnpicklingError):
            self._died()
        return self._answer or None

    def _take(self, message: tuple[str, Any]) -> None:
        kind, value = message
        if kind == "done":
            self._answer = value
        elif kind == "progress":
            self._done = int(value)
        elif kind == "error":
            self._answer = []

    def _start(self) -> bool:
        if self._deaths >= DEATHS:
            return False
        ours, theirs = multiprocessing.Pipe()
        env = {**os.environ, WANTED: "1", "OMP_NUM_THREADS": str(self.threads)}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=env,
            )
            self._pipe = ours
        except OSError:
            ours.close()
            self._deaths = DEATHS
            return False
        finally:
            theirs.close()
        return True

    def _died(self) -> None:
        self._deaths += 1
        self.close()

    def close(self) -> None:
        """End the process; the next request starts another one."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is not None:
            process.kill()
            process.wait()


_helpers: list[Helper] = []


def helpers(count: int) -> list[Helper]:
    """``count`` helpers of this process, shared by all its runtimes."""
    while len(_helpers) < count:
        if not _helpers:
            atexit.register(close_helpers)
        _helpers.append(Helper(max(1, cores() // (count + 1))))
    return _helpers[:count]


def close_helpers() -> None:
    """End all helpers of this process."""
    while _helpers:
        _helpers.pop().close()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with ``count`` threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def serve(pipe: int) -> None:
    """What runs in a helper: load, answer, until the other end is closed."""
    from upwright.bodies.runtimes import load

    os.set_inheritable(pipe, False)
    line = Connection(pipe)
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            root, requests = line.recv()
            message: tuple[str, Any]
            try:
                runtime = load(Body(Path(root)))
                if not requests:
                    continue
                message = ("done", runtime.generate(requests, lambda done, total: line.send(("progress", done))))
            except Exception as error:
                message = ("error", repr(error))
            if requests:
                line.send(message)
