"""The zygote: the first process of a cell. It imports what runs will need, then forks one process for each run.

It never runs foreign code but the modules that the operator named. Inside bubblewrap it keeps one right, to make
mount and process spaces (``CAP_SYS_ADMIN`` of a user namespace that owns nothing else); every run gives it up. It ends
when the pool closes its socket or the pool's process ends, however that happens, and takes the run with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
from importlib.machinery import SourceFileLoader
from typing import Any, NoReturn

from . import cell, post, system, tripwire
from .meter import Meter

_IN_ACCESS, _IN_OPEN = 0x1, 0x20
MOST_COMPILED = 300
TICK = 0.025
"""Seconds between two looks at what a run uses."""


def main(address: str) -> NoReturn:
    """Serve the pool at ``address``: ``fd:NUMBER`` or ``path:PATH``."""
    kind, _, where = address.partition(":")
    if kind == "fd":
        link = socket.socket(fileno=int(where))
        link.set_inheritable(False)
    else:
        link = socket.socket(socket.AF_UNIX)
        link.connect(where)
    hello, fds = post.receive(link)
    if hello["mode"] == "namespaces":
        _own_process_space()
    try:
        zygote = Zygote(link, hello, fds[0])
    except BaseException as error:
        post.send(link, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    zygote.serve()
    os._exit(0)


def _own_process_space() -> None:
    """Go on as process 1 of a new process space; what is left behind waits and passes the ending on."""
    system.unshare(system.NEWPID)
    pid = os.fork()
    if pid:
        os.closerange(3, 1024)
        os.waitpid(pid, 0)
        os._exit(0)
    system.unshare(system.NEWNS)
    hard = system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC
    system.mount("proc", "/proc", "proc", hard)


class Zygote:
    """Forks runs, one at a time, and watches them."""

    def __init__(self, link: socket.socket, hello: dict[str, Any], owner: int) -> None:
        self.link, self.mode, self.owner = link, str(hello["mode"]), owner
        self.watch, self.names = _plant(hello["home"], hello["bait"], self.mode)
        if self.mode == "namespaces":
            self.space = os.open("/proc/self/ns/pid", os.O_RDONLY)
        else:
            system.prctl(36, 1)  # orphans of a run become ours
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where memory runs out, this goes first
        sys.dont_write_bytecode = True
        for name in hello["imports"]:
            importlib.import_module(name)
        if hello["role"] != "candidate":
            importlib.import_module(f".harness.{hello['harness']}", __package__)
            _compile_ahead(hello["folder"])
        tripwire.home, tripwire.forbidden = hello["home"], tuple(hello["forbidden"])
        private = self.mode == "namespaces"
        self.meter = Meter(own_space=private)
        last = system.Filter(last=True, shared=not private, connect=private or hello["role"] == "evaluator")
        self.ground = cell.Ground(
            self.mode, hello["folder"], hello["home"], tuple(hello["readable"]), last, 4, self.meter.data
        )
        with contextlib.suppress(OSError):
            system.Filter(last=False).install()
        self.run, self.pid, self.ended, self.limit = 0, 0, -1, ""
        self.ours = 1 if hello["role"] == "candidate" else 0  # the acceptor
        self.limits: dict[str, Any] = {}
        gc.collect()
        gc.freeze()
        post.send(link, {"ready": True}, [os.pidfd_open(os.getpid())])

    def serve(self) -> None:
        """Until the pool is gone."""
        poll = select.poll()
        for fd in (self.link.fileno(), self.owner):
            poll.register(fd, select.POLLIN)
        while True:
            events = [fd for fd, _ in poll.poll(TICK * 1000 if self.pid else None)]
            if self.owner in events:
                break
            if self.link.fileno() in events:
                try:
                    asked, fds = post.receive(self.link)
                except (EOFError, OSError):
                    break
                if asked["do"] == "run":
                    self._begin(asked["order"], fds)
                    poll.register(self.ended, select.POLLIN)
                elif asked["do"] == "kill" and asked["number"] == self.run and self.pid:
                    self._kill()
            elif self.pid and not events:
                self.limit = self.meter.over(self.pid, self.limits, self.ours)
                if self.limit:
                    self._kill()
            if self.pid and select.select([self.ended], [], [], 0)[0]:
                poll.unregister(self.ended)
                self._finish()
        if self.pid:
            self._kill()

    def _begin(self, raw: dict[str, Any], fds: list[int]) -> None:
        order = cell.Order(**raw)
        self._opened()
        if self.mode == "namespaces":
            system.unshare(system.NEWPID)
        tripwire.allowed = (order.root, "/dev")
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            cell.enter(order, self.ground, fds)
        if self.mode == "namespaces":
            system.setns(self.space, system.NEWPID)
        for fd in fds:
            os.close(fd)
        self.run, self.pid, self.ended, self.limit = order.number, pid, os.pidfd_open(pid), ""
        self.limits = order.limits
        if self.mode != "namespaces":
            post.send(self.link, {"group": pid})

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._kill_group()
        with contextlib.suppress(OSError):
            post.send(self.link, {"killed": self.run, "alarms": self._opened(), "limit": self.limit})

    def _kill_group(self) -> None:
        if self.mode != "namespaces":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _finish(self) -> None:
        self._kill_group()
        _, status = os.waitpid(self.pid, 0)
        if self.mode != "namespaces":
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, 0):
                    continue
        os.close(self.ended)
        told = {"ended": self.run, "status": status, "limit": self.limit, "alarms": self._opened()}
        self.pid = 0
        post.send(self.link, told)

    def _opened(self) -> list[str]:
        """Planted files that were opened since the last look."""
        if self.watch < 0:
            return []
        found: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.watch, 65536):
                at = 0
                while at < len(data):
                    which, _, _, length = struct.unpack_from("=iIII", data, at)
                    at += 16 + length
                    found.append(f"planted credentials were read: {self.names.get(which, '?')}")
        return list(dict.fromkeys(found))


def _plant(home: str, bait: dict[str, str], mode: str) -> tuple[int, dict[int, str]]:
    """Write false credentials below ``home`` and watch them: whoever opens one, in whatever language, is noticed."""
    if mode == "namespaces":
        system.mount("tmpfs", home, "tmpfs", system.MS_NOSUID | system.MS_NODEV, "mode=755,size=1m")
    for path, text in bait.items():
        where = os.path.join(home, path)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "w") as file:
            file.write(text)
    if mode == "namespaces":
        flags = system.MS_REMOUNT | system.MS_BIND | system.MS_RDONLY | system.MS_NOSUID | system.MS_NODEV
        system.mount("none", home, None, flags)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    names = {}
    for path in bait if fd >= 0 else ():
        which = libc.inotify_add_watch(fd, os.path.join(home, path).encode(), _IN_OPEN | _IN_ACCESS)
        names[int(which)] = f"~/{path}"
    return fd, names


def _compile_ahead(folder: str) -> None:
    """Compile the evaluator's Python files once (no line of them is run), so that no run has to."""
    codes: dict[str, Any] = {}
    paths = sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".py"))
    for path in paths[:MOST_COMPILED]:
        with contextlib.suppress(Exception), open(path, "rb") as file:
            codes[path] = compile(file.read(), path, "exec", dont_inherit=True)
    read = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> Any:
        return codes.get(self.path) or read(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
