"""One run's process inside a cell, from the fork to its last line.

The zygote forks; the child takes namespaces, folders and limits of its own, gives up every right, says that it is ready, and only then
runs foreign code. It is process 1 of its own process space, so when it is killed the kernel kills all that it started.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import resource
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from . import candidate, plaindata, proxy, seeding, system, tripwire

READY = b"R"
MB = 1 << 20
ERROR_TEXT, MOST_WHY = 20_000, 2000
MOST_TASKS = 1024
"""Threads, and processes that ended and were not waited for; living processes are counted one by one."""
OPEN_FILES = 512


@dataclass(frozen=True, slots=True)
class Order:
    """What a pool asks of a zygote; all of it JSON.

    Attributes:
        role: ``evaluator``, ``candidate``, or ``both`` for a run in one cell.
        job, harness: for the evaluator.
        files, main: the candidate's files, and which of them the evaluator is to be given.
        link: path of the socket between the cells ("" in one cell).
        root: folder that is this run's own; ``/tmp`` in a mount space of its own.
        marks: planted credentials, looked for in what the candidate says.
    """

    number: int
    role: str
    harness: str
    job: dict[str, Any]
    files: dict[str, str]
    main: str
    seed: int
    limits: dict[str, Any]
    link: str
    root: str
    marks: list[str]


@dataclass(frozen=True, slots=True)
class Ground:
    """What a zygote knows about the cell that it is in.

    Attributes:
        mode: ``namespaces`` (mounts and process numbers of its own for every run), ``landlock`` (neither), ``open`` (no wall at all).
        folder: the evaluator's files ("" in a candidate's cell); ``readable``: what Landlock lets a run read.
        environment: all variables of a run, with ``{root}`` for its own folder.
        memory: data that every process has from the zygote.
    """

    mode: str
    folder: str
    home: str
    readable: tuple[str, ...]
    environment: dict[str, str]
    seccomp: system.Filter
    memory: int = 0


def enter(order: Order, ground: Ground, fds: list[int], counter: int) -> NoReturn:
    """Become the run.

    ``fds``: printed text, ready, then result, or alarms and listener, or result and alarms. ``counter``: where to send the descriptor on
    which this run's processes ask for more of them.
    """
    output, ready, *rest = fds
    try:
        try:
            _separate(order, ground)
            program = _lay_files(order, ground)
            _redirect(output, keep=[ready, *rest, counter])
            _limit(order, ground)
            _give_up_rights(order, ground, counter)
        except BaseException as error:
            os.write(ready, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        gc.enable()
        os.write(ready, READY)
        os.close(ready)
        if order.role == "candidate":
            candidate.serve(socket.socket(fileno=rest[1]), program, order.seed, rest[0])
        if order.role == "both":
            tripwire.stretch(rest[1])
        _evaluate(order, ground, program, rest[0])
    finally:
        os._exit(1)


def _separate(order: Order, ground: Ground) -> None:
    if ground.mode != "namespaces":
        os.setpgid(0, 0)
        system.end_with_parent()
        return
    system.unshare(system.NEWNS | system.NEWIPC)
    hard = system.MS_NOSUID | system.MS_NODEV
    system.mount("tmpfs", "/tmp", "tmpfs", hard, f"mode=1777,size={order.limits['file_mb']}m,nr_inodes=16k")
    system.mount("proc", "/proc", "proc", hard | system.MS_NOEXEC | system.MS_RDONLY)


def _lay_files(order: Order, ground: Ground) -> str:
    """Write what the role needs; return the path of the program (or of its stub)."""
    folder = os.path.join(order.root, "program")
    for name in ("program", "work", "cache", "shm"):
        os.mkdir(os.path.join(order.root, name), 0o755)
    files = order.files
    main = os.path.join(folder, order.main)
    if order.role == "evaluator":
        boot = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boot.py")
        alarms = os.path.join(order.root, "alarms")
        stub = proxy.STUB.format(boot=boot, link=order.link, alarms=alarms, marks=order.marks)
        files = {f"source/{path}": text for path, text in order.files.items()} | {order.main: stub}
    for path, text in files.items():
        where = os.path.join(folder, path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "w", encoding="utf-8", newline="") as file:
            file.write(text)
    os.chdir(os.path.join(order.root, "work"))
    return main


def _redirect(output: int, keep: list[int]) -> None:
    """Only ``keep`` and the standard streams stay open."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    kept = sorted(keep)
    start = 3
    for fd in kept:
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, start + 1024)
    sys.stdout, sys.stderr = _printed(1), _printed(2)


def _printed(fd: int) -> io.TextIOWrapper:
    """A stream that passes every line on at once."""
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _limit(order: Order, ground: Ground) -> None:
    limits = order.limits
    most = {
        resource.RLIMIT_DATA: limits["memory_mb"] * MB + ground.memory,
        resource.RLIMIT_FSIZE: limits["file_mb"] * MB,
        resource.RLIMIT_NPROC: MOST_TASKS + limits["processes"],
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if limits["cpu_seconds"] is not None:
        most[resource.RLIMIT_CPU] = int(limits["cpu_seconds"]) + 1
    for what, value in most.items():
        before = resource.getrlimit(what)[1]
        value = value if before == resource.RLIM_INFINITY else min(value, before)
        if ground.mode == "namespaces" or what != resource.RLIMIT_NPROC:  # else it counts what is not ours
            resource.setrlimit(what, (value, value))
    for name, text in ground.environment.items():  # in a mount space of its own, the zygote's serves as it is
        if os.environ.get(name) != (text := text.replace("{root}", order.root)):
            os.environ[name] = text


def _give_up_rights(order: Order, ground: Ground, counter: int) -> None:
    def wall_off_files() -> None:
        readable = [*ground.readable, *([ground.folder] if ground.folder else [])]
        writable = [order.root, "/dev/null", *(["/dev/shm"] if order.role == "evaluator" else [])]  # for its locks
        system.landlock(readable, writable)

    def filter_calls() -> None:
        with socket.socket(fileno=counter) as way:
            listener = ground.seccomp.install()
            socket.send_fds(way, [b"C"], [listener])
            os.close(listener)

    steps: list[Callable[[], None]] = [system.no_new_privileges]
    if ground.mode == "namespaces" or os.geteuid() == 0:
        steps.append(system.drop_capabilities)
    if ground.mode != "namespaces":
        steps.append(wall_off_files)
    for step in [*steps, filter_calls]:
        try:
            step()
        except OSError:
            if ground.mode != "open":
                raise


def _evaluate(order: Order, ground: Ground, program: str, result: int) -> NoReturn:
    """Run the harness and write what it returned."""
    seeding.plant(order.seed)
    sys.path.append(os.path.dirname(program))
    told: dict[str, Any]
    try:
        harness = importlib.import_module(f".harness.{order.harness}", __package__)
        job = {**order.job, "folder": ground.folder, "seed": order.seed}
        data = plaindata.dumps(harness.run(job, program, os.getcwd()))
        told = {"ending": "ok"}
    except plaindata.NotPlain as error:
        told, data = {"ending": "protocol", "why": str(error)}, b"null"
    except BaseException as error:
        told, data = _raised(error), b"null"
    told["alarms"] = _alarms(order)
    sys.stdout.flush()
    sys.stderr.flush()
    head = plaindata.dumps(told)
    _write_all(result, len(head).to_bytes(4, "big") + len(data).to_bytes(4, "big") + head + data)
    os._exit(0)


def _raised(error: BaseException) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))[-ERROR_TEXT:]
    print(text, file=sys.stderr)
    ending = "memory" if isinstance(error, MemoryError) else "crash"
    if isinstance(error, proxy.CandidateBroken):
        ending = "protocol"
    text = str(error).strip()
    return {"ending": ending, "why": f"{type(error).__name__}{': ' if text else ''}{text}"[:MOST_WHY]}


def _alarms(order: Order) -> list[str]:
    try:
        with open(os.path.join(order.root, "alarms")) as file:
            return list(dict.fromkeys(file.read(10_000).splitlines()))
    except OSError:
        return []


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
