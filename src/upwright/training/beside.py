"""Several trainings side by side, each in a process of its own on its share of the cores.

A small network cannot fill two cores: between two products it waits for the other thread, and for the interpreter. So networks that are trained
for the same purpose are trained at the same time: the first here, the others in processes that stay for the next time. The weights are those that
one after the other would give: what a training comes to depends on its own arguments, and its threads are the same in both cases.

Only a worker of an engine starts such processes (:data:`upwright.engines.worker.IN_WORKER`): its process group ends with it, however it ends.
Elsewhere, and on CUDA, the trainings come one after the other.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from upwright.bodies.body import Training
from upwright.bodies.runtimes.replicas import cores, threads
from upwright.engines.worker import IN_WORKER
from upwright.errors import Stopped, UpwrightError
from upwright.training.loop import train
from upwright.training.records import Step, TrainedWeights
from upwright.training.rows import Row

Train = Callable[[Path, Sequence[Row], Training, Path, int, Step], TrainedWeights]
Tell = Callable[[int, int, int, str], None]
"""``tell(number of the training, steps done, steps in all, note)``; may raise to stop."""

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from upwright.training.beside import serve; serve(int(sys.argv[2]))"
)


@dataclass(frozen=True, slots=True)
class Work:
    """The arguments of one training; see :func:`upwright.training.loop.train`."""

    model: Path
    rows: Sequence[Row]
    recipe: Training
    scratch: Path
    seed: int


def train_all(works: Sequence[Work], tell: Tell, one: Train = train) -> list[TrainedWeights]:
    """Every training, in the order given.

    Args:
        one: what trains where they come one after the other.

    Raises:
        Stopped: ``tell`` asked for it; all trainings left a checkpoint, and the same call goes on from there.
        UpwrightError: as of :func:`upwright.training.loop.train`; the first training's trouble before the others'.
    """
    share = max(1, cores() // len(works))
    if len(works) < 2 or not _may_start():
        with threads(share):
            return [
                one(w.model, w.rows, w.recipe, w.scratch, w.seed, _step(tell, number)) for number, w in enumerate(works)
            ]
    found: list[TrainedWeights] = []
    most = cores()
    with threads(share):
        for start in range(0, len(works), most):
            found += _together(works[start : start + most], start, share, tell)
    return found


def _together(works: Sequence[Work], first: int, share: int, tell: Tell) -> list[TrainedWeights]:
    own, *others = works
    busy = []
    try:
        for place, work in enumerate(others):
            process = _process(place, share)
            process.give(work)
            busy.append(process)

        def step(done: int, total: int, note: str) -> None:
            for process in busy:
                process.hear()
            tell(first, done, total, note)

        found = [_here(own, step)]
        for number, (process, work) in enumerate(zip(busy, others, strict=True), first + 1):
            found.append(process.result(_step(tell, number)) or _here(work, _step(tell, number)))
        return found
    except Stopped:
        for process in busy:
            process.stop()
        raise
    except BaseException:
        for process in busy:
            process.close()
        raise


def _here(work: Work, step: Step) -> TrainedWeights:
    return train(work.model, work.rows, work.recipe, work.scratch, work.seed, step)


def _step(tell: Tell, number: int) -> Step:
    return lambda done, total, note: tell(number, done, total, note)


def _may_start() -> bool:
    if IN_WORKER not in os.environ or cores() < 2:
        return False
    import torch

    return not torch.cuda.is_available()


class _Process:
    """Another process that trains; its end of the pipe is closed when this one ends."""

    def __init__(self, share: int) -> None:
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())], stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), env={**os.environ, "OMP_NUM_THREADS": str(share)},
            )  # fmt: skip
        self.share, self._pipe, self._busy = share, ours, False
        self._last: tuple[int, int, str] = (0, 0, "waiting")
        self._said: tuple[str, Any] | None = None

    @property
    def idle(self) -> bool:
        """Whether it lives and waits for work."""
        return self._popen.poll() is None and not self._busy

    def give(self, work: Work) -> None:
        """Begin; a process that is dead shows at :meth:`result`."""
        self._busy = True
        with contextlib.suppress(OSError):
            self._pipe.send(work)

    def hear(self) -> None:
        """Take what it has said so far; one whose messages nobody takes would soon wait for that instead of training."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while self._said is None and self._pipe.poll(0):
                self._take(self._pipe.recv())

    def result(self, step: Step) -> TrainedWeights | None:
        """What it came to, or ``None`` where the process died; ``step`` is told about once a second meanwhile.

        Raises:
            BaseException: what the training or ``step`` raised.
        """
        try:
            while self._said is None:
                if self._pipe.poll(1.0):
                    self._take(self._pipe.recv())
                step(*self._last)
        except (EOFError, OSError, pickle.UnpicklingError):
            return None
        (kind, value), self._said, self._busy = self._said, None, False
        if kind == "error":
            raise value
        trained: TrainedWeights = value
        return trained

    def _take(self, message: tuple[str, Any]) -> None:
        if message[0] == "progress":
            self._last = message[1]
        else:
            self._said = message

    def stop(self) -> None:
        """Ask for a checkpoint, and wait until it is there."""
        with contextlib.suppress(OSError):
            self._pipe.send("stop")
        with contextlib.suppress(UpwrightError):
            self.result(lambda done, total, note: None)

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._popen.kill()
        self._popen.wait()


_processes: dict[int, _Process] = {}


def _process(place: int, share: int) -> _Process:
    """The process of a place, started where there is none that is idle and has this share of the cores."""
    if not _processes:
        atexit.register(close)
    known = _processes.get(place)
    if known is not None and not (known.idle and known.share == share):
        _processes.pop(place).close()
    if place not in _processes:
        _processes[place] = _Process(share)
    return _processes[place]


def close() -> None:
    """End all processes that train beside this one."""
    while _processes:
        _processes.popitem()[1].close()


def serve(pipe: int) -> None:
    """What runs in such a process: train what comes, until the other end is closed."""
    import torch

    os.set_inheritable(pipe, False)
    line = Connection(pipe)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def step(done: int, total: int, note: str) -> None:
        if line.poll(0) and line.recv() == "stop":
            raise Stopped("stopped on request")
        line.send(("progress", (done, total, note)))

    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            work: Any = line.recv()
            if not isinstance(work, Work):
                continue  # a stop that came too late
            try:
                line.send(("done", train(work.model, work.rows, work.recipe, work.scratch, work.seed, step)))
            except (EOFError, OSError):
                raise
            except Exception as error:
                line.send(("error", error))
