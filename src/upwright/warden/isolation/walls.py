"""What keeps foreign code in: bubblewrap, or sandlock, or, with a signed waiver, nothing.

A wall starts cells. In each of them a :mod:`zygote <upwright.warden.isolation.zygote>` forks the runs, and every run goes
through a second wall of its own before it reads a line of foreign code (:mod:`cell <upwright.warden.isolation.cell>`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Protocol

from upwright.warden.isolation.errors import IsolationError
from upwright.warden.isolation.layout import ETC, HERE, SYSTEM, Plan, environment, python_folders

PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:{home}:/bin/sh\n"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are, seen from inside a cell."""

    code: str
    folder: str
    shared: str
    home: str


@dataclass(slots=True)
class Started:
    """A cell whose zygote is about to speak.

    Attributes:
        link: socket to the zygote; ``places``: what it sees where; ``readable``: what Landlock is to let its runs read.
        stderr: where a zygote that cannot start says why.
        end: waits for the cell's end and clears up; kills what does not end.
        zygote: descriptor of the zygote's process, once it has spoken.
    """

    link: socket.socket
    places: Places
    stderr: IO[bytes]
    end: Callable[[], None]
    readable: tuple[str, ...] = ()
    zygote: int = -1

    def interrupt(self) -> None:
        """Kill the zygote, and with it its run."""
        if self.zygote >= 0:
            with contextlib.suppress(ProcessLookupError, OSError):
                signal.pidfd_send_signal(self.zygote, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the cell, all of it, and wait until it is gone."""
        self.interrupt()
        if self.zygote >= 0:
            os.close(self.zygote)
            self.zygote = -1
        self.link.close()
        self.end()
        self.stderr.close()

    def said(self) -> str:
        """The last line that the cell's processes wrote to their standard error."""
        self.end()
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class Wall(Protocol):
    """Starts cells.

    Attributes:
        name: ``bubblewrap``, ``sandlock`` or ``waiver``.
        mode: how a run is kept from other runs of the same cell: ``namespaces``, ``landlock`` or ``open``.
    """

    name: str
    mode: str

    def start(self, plan: Plan) -> Started:
        """Start a cell.

        Raises:
            IsolationError: it cannot be started.
        """
        ...


def _python(address: str, code: str) -> list[str]:
    return [sys.executable, "-s", "-P", os.path.join(code, "boot.py"), address]


class Bubblewrap:
    """Namespaces: mounts, processes, network, users. The stronger of the two."""

    name, mode = "bubblewrap", "namespaces"

    def start(self, plan: Plan) -> Started:
        """See :class:`Wall`."""
        program = shutil.which("bwrap")
        if program is None:
            raise IsolationError("bubblewrap is not installed", todo="apt-get install bubblewrap")
        ours, theirs = socket.socketpair()
        places = Places("/cell/code", "/cell/evaluator" if plan.folder else "", "/cell/shared", "/home/nobody")
        with theirs:
            theirs.set_inheritable(True)
            sources, words = self._words(plan, places)
            words = [program, *words, *_python(f"fd:{theirs.fileno()}", places.code)]
            if os.geteuid() == 0:
                launcher = str(HERE / "launcher.py")
                words = [sys.executable, "-I", "-S", launcher, *sources, "--", *words]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={},
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        assert process.stderr is not None
        return Started(ours, places, process.stderr, lambda: _reap(process))

    def _words(self, plan: Plan, places: Places) -> tuple[list[str], list[str]]:
        binds = {path: path for path in SYSTEM if os.path.isdir(path) and not os.path.islink(path)}
        binds |= {f"/etc/{name}": f"/etc/{name}" for name in ETC if os.path.exists(f"/etc/{name}")}
        binds |= {path: path for path in python_folders()}
        binds |= {str(HERE): places.code, str(plan.shared): places.shared}
        if plan.folder is not None:
            binds[str(plan.folder)] = places.folder
        words = [
            "--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534",
            "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--hostname", "cell", "--new-session", "--clearenv",
        ]  # fmt: skip
        for path in SYSTEM:
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
        for source, target in binds.items():
            words += ["--ro-bind", source, target]
        words += [
            "--bind",
            "/proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--dir",
            places.home,
            "--remount-ro",
            "/",
        ]
        for name, value in environment(places.home, "/tmp").items():
            words += ["--setenv", name, value]
        return list(binds), [*words, "--"]


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def strongest_wall(waiver: bool = False) -> Wall:
    """TODO."""
    return Bubblewrap()
