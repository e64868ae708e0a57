"""Tries to get out of the cell that it runs in, every way that a cell must refuse. For :mod:`upwright.warden.isolation.probe` only."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

NEWUSER, NEWNS = 0x10000000, 0x00020000


def run(job: dict[str, Any], program_path: str, workdir: str) -> Any:
    """``job["attempt"]``: ``all`` returns the holes found, ``crowd`` the processes that could be had, ``linger`` nothing, ever."""
    return {"all": _all, "crowd": _crowd, "linger": _linger}[job["attempt"]](job)


def _all(job: dict[str, Any]) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *args: Any) -> None:
        if getattr(libc, name)(*args) < 0:
            raise OSError(ctypes.get_errno(), name)

    attempts: dict[str, Callable[[], Any]] = {
        "the network of the machine was reached": lambda: socket.create_connection(("127.0.0.1", job["port"]), 1),
        "a datagram was sent": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
        "the kernel's routing was asked": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "a file outside was read": lambda: _read(job["secret"]),
        "a folder outside was listed": lambda: os.listdir(os.path.dirname(job["secret"])),
        "the user's files were listed": lambda: _refuse() if not set(os.listdir(job["home"])) - set(job["fine"]) else 0,
        "the accounts were read": lambda: _read("/etc/shadow"),
        "a file outside was written": lambda: _write(os.path.join(job["open"], "x")),
        "a file outside was replaced": lambda: os.unlink(job["secret"]),
        "the evaluator's folder was written": lambda: _write(os.path.join(job["folder"], "x")),
        "the harness was written": lambda: _write(__file__),
        "Python was written": lambda: _write(os.path.join(os.path.dirname(os.__file__), "upwright-probe")),
        "the planted credentials were written": lambda: _write(os.path.expanduser("~/x")),
        "a process outside was signalled": lambda: os.kill(job["pid"], 0) if _is_other(job["pid"]) else _refuse(),
        "a user namespace was made": lambda: call("unshare", NEWUSER),
        "a mount namespace was made": lambda: call("unshare", NEWNS),
        "a child in a user namespace was made": lambda: call("syscall", _clone(), NEWUSER | signal.SIGCHLD, 0, 0, 0, 0),
        "something was mounted": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "a process was traced": lambda: call("ptrace", 16, os.getppid() or 1, 0, 0),
        "rights were kept": lambda: _refuse() if _rights() == 0 else None,
        "a kernel parameter was written": lambda: _write("/proc/sys/kernel/hostname"),
    }
    found = []
    for hole, attempt in attempts.items():
        try:
            attempt()
            found.append(hole)
        except (OSError, PermissionError):
            continue
    others = _others()
    return [*found, f"other processes were seen: {others}"] if others else found


def _refuse() -> None:
    raise PermissionError


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str) -> None:
    with open(path, "a"):
        pass


def _clone() -> int:
    return 56 if os.uname().machine == "x86_64" else 220


def _is_other(pid: int) -> bool:
    """Whether that number is, from here, some process but this one."""
    return pid not in (os.getpid(), os.getppid(), 0)


def _rights() -> int:
    """Effective, permitted and inheritable capabilities of this process."""
    held = ctypes.create_string_buffer(24)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None).capget(header, held) < 0:
        return -1
    return int.from_bytes(held.raw, "little")


def _others() -> list[int]:
    """Processes that can be seen and are not this one."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return [int(n) for n in names if n.isdigit() and int(n) != os.getpid()]


def _crowd(job: dict[str, Any]) -> int:
    """Start processes until that is refused."""
    for count in range(400):
        try:
            pid = os.fork()
        except OSError:
            return count
        if pid == 0:
            time.sleep(5)
            os._exit(0)
    return 400


def _linger(job: dict[str, Any]) -> None:
    """Hide a process in a session of its own, then sleep past the time limit."""
    code = "import time; time.sleep(30)"
    subprocess.Popen([sys.executable, "-S", "-c", code, job["open"]], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(30)
