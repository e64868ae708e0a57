"""The zygote: the first process of a cell. It imports what runs will need, then forks one process for each run.

It never runs foreign code but the modules that the operator named. Inside bubblewrap it keeps one right, to make
mount and process spaces (``CAP_SYS_ADMIN`` of a user namespace that owns nothing else); every run gives it up. It ends
when the pool closes its socket or the pool's process ends, however that happens, and takes the run with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from importlib.machinery import SourceFileLoader
from typing import Any, NoReturn

from . import cell, post, system, tripwire
from .meter import Meter
from .planting import Bait

MOST_COMPILED = 300
TICK = 0.05
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
    try:
        zygote.serve()
    finally:
        zygote.kill()
        os._exit(0)


def _own_process_space() -> None:
    """Go on as process 1 of a new process space; what is left behind waits for its end."""
    system.unshare(system.NEWPID)
    pid = os.fork()
    if pid:
        os.closerange(3, 1024)
        os.waitpid(pid, 0)
        os._exit(0)
    system.unshare(system.NEWNS)
    system.mount("proc", "/proc", "proc", system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC)


class Zygote:
    """Forks runs, one at a time, and watches them.

    Attributes:
        number, pid: of the run under way; 0 when there is none. ``ended``: descriptor of its first process.
        limit: the limit that it passed.
        counter: where the run asks for every new process.
    """

    def __init__(self, link: socket.socket, hello: dict[str, Any], owner: int) -> None:
        self.link, self.owner = link, owner
        self.private, self.role = hello["mode"] == "namespaces", str(hello["role"])
        self.bait = Bait(hello["home"], hello["bait"], hello["mode"])
        if self.private:
            self.space = os.open("/proc/self/ns/pid", os.O_RDONLY)
        else:
            system.adopt_orphans()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where the machine's memory runs out, this goes first
        for name in os.environ.keys() - hello["environment"].keys():
            del os.environ[name]
        os.environ.update({n: text.replace("{root}", "/tmp") for n, text in hello["environment"].items()})
        sys.dont_write_bytecode = True
        for name in hello["imports"]:
            importlib.import_module(name)
        if self.role != "candidate":
            importlib.import_module(f".harness.{hello['harness']}", __package__)
            _compile_ahead(hello["folder"])
        tripwire.home, tripwire.forbidden = hello["home"], tuple(hello["forbidden"])
        connect = self.private or self.role == "evaluator"
        last = system.Filter(last=True, shared=not self.private, connect=connect, counted=True)
        self.meter = Meter(own_space=self.private, ours=1 if self.role == "candidate" else 0)  # the acceptor
        self.ground = cell.Ground(
            hello["mode"], hello["folder"], hello["home"], tuple(hello["readable"]), hello["environment"], last,
            self.meter.data,
        )  # fmt: skip
        with contextlib.suppress(OSError):
            system.Filter(last=False).install()
        self.number, self.pid, self.ended, self.counter, self.limit = 0, 0, -1, -1, ""
        self.poll = select.poll()
        for fd in (link.fileno(), owner):
            self.poll.register(fd, select.POLLIN)
        gc.disable()
        gc.collect()
        gc.freeze()
        post.send(link, {"ready": True}, [os.pidfd_open(os.getpid())])

    def serve(self) -> None:
        """Until the pool is gone."""
        look = 0.0
        while True:
            events = dict(self.poll.poll(TICK * 1000 if self.pid else None))
            if self.owner in events:
                return
            if self.link.fileno() in events:
                try:
                    self._heard(*post.receive(self.link))
                except (EOFError, OSError):
                    return
                look = time.monotonic() + TICK
            if self.counter in events:
                self._count(events[self.counter])
            if self.pid and not self.limit and time.monotonic() >= look:
                self._over(self.meter.over())
                look = time.monotonic() + TICK
            if self.pid and select.select([self.ended], [], [], 0)[0]:
                self._finish()

    def _heard(self, asked: dict[str, Any], fds: list[int]) -> None:
        if asked["do"] == "run":
            self._begin(cell.Order(**asked["order"]), fds)
        elif asked["do"] == "kill" and asked["number"] == self.number and self.pid:
            self.kill()
            self._tell_killed()

    def _begin(self, order: cell.Order, fds: list[int]) -> None:
        self.bait.taken()
        ours, theirs = socket.socketpair()
        if self.private:
            system.unshare(system.NEWPID)
        tripwire.allowed = (order.root, "/dev")
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            cell.enter(order, self.ground, fds, theirs.detach())
        if self.private:
            system.setns(self.space, system.NEWPID)
        for fd in fds:
            os.close(fd)
        self.number, self.pid, self.ended, self.limit = order.number, pid, os.pidfd_open(pid), ""
        self.poll.register(self.ended, select.POLLIN)
        self.meter.begin(pid, order.root, order.limits)
        if not self.private:
            post.send(self.link, {"group": pid})
        theirs.close()
        with ours, contextlib.suppress(OSError):
            _, listeners, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
            if listeners:
                self.counter = listeners[0]
                self.poll.register(self.counter, select.POLLIN)

    def _count(self, event: int) -> None:
        """Somebody in the run asks for another process. One too many ends the run."""
        if not event & select.POLLIN:
            self.poll.unregister(self.counter)
            return
        who = system.asked_for(self.counter)
        if self.meter.may_fork():
            system.granted(self.counter, who)
        else:
            self._over("processes")

    def _over(self, limit: str) -> None:
        if limit and not self.limit:
            self.limit = limit
            self.kill()
            self._tell_killed()

    def kill(self) -> None:
        """Kill the run, if there is one, all of it."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._kill_group()

    def _kill_group(self) -> None:
        if not self.private:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _tell_killed(self) -> None:
        post.send(self.link, {"killed": self.number, "alarms": self.bait.taken(), "limit": self.limit})

    def _finish(self) -> None:
        self.poll.unregister(self.ended)
        self._kill_group()
        _, status = os.waitpid(self.pid, 0)
        if not self.private:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, 0):
                    continue
        if self.counter >= 0:
            with contextlib.suppress(KeyError):
                self.poll.unregister(self.counter)
            os.close(self.counter)
            self.counter = -1
        os.close(self.ended)
        self.pid = 0
        told = {"ended": self.number, "status": status, "limit": self.limit, "alarms": self.bait.taken()}
        post.send(self.link, told)


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
