"""What keeps foreign code in: bubblewrap, or Landlock with seccomp, or, with a signed waiver, nothing.

A wall starts cells. In each of them a :mod:`zygote <upwright.warden.isolation.zygote>` forks the runs, and every run goes
through a second wall of its own before it reads a line of foreign code (:mod:`cell <upwright.warden.isolation.cell>`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

from upwright.warden.isolation.errors import IsolationError
from upwright.warden.isolation.layout import ETC, HERE, SYSTEM, Plan, environment, python_folders

START_SECONDS, END_SECONDS = 60.0, 2.0
ALONE = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534", "--hostname", "cell",
    "--new-session", "--clearenv", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN",
)  # fmt: skip
"""Nothing is shared. The one right is the zygote's, to make mount and process spaces; no run has it."""
DEV = (
    "--bind", "/proc", "/proc", "--tmpfs", "/dev", "--symlink", "/tmp/shm", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd",
)  # fmt: skip
"""The machine's ``/proc`` is there for the zygote only, which mounts its own over it, as every run does: the kernel allows
that to those who have a whole one."""
DEVICES = ("null", "zero", "full", "random", "urandom")


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
        zygote: descriptor of the zygote's process, once it has spoken; ``group``: process group of its run, where that is no space of its own.
    """

    link: socket.socket
    places: Places
    stderr: IO[bytes]
    end: Callable[[], None]
    readable: tuple[str, ...] = ()
    zygote: int = -1
    group: int = 0

    def interrupt(self) -> None:
        """Kill the zygote and its run."""
        if self.group > 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGKILL)
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
        name: ``bubblewrap``, ``landlock`` or ``waiver``.
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
        binds[str(HERE)] = places.code
        if plan.folder is not None:
            binds |= {str(plan.folder): places.folder, str(plan.shared): places.shared}
        words = [*ALONE]
        for path in SYSTEM:
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
        for source, target in binds.items():
            words += ["--ro-bind", source, target]
        words += DEV
        for name in DEVICES:
            words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        words += ["--remount-ro", "/dev", "--tmpfs", "/tmp", "--dir", places.home, "--remount-ro", "/"]
        for name, value in environment(places.home, "/tmp").items():
            words += ["--setenv", name, value]
        return list(binds), [*words, "--"]


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Landlock:
    """Landlock and seccomp around each run, by our own calls (:mod:`upwright.warden.isolation.system`). Needs no package, no root, Linux 6.12.

    Weaker than bubblewrap: no mount or process space of a run's own. ``/tmp`` itself cannot be written (``TMPDIR`` can), the candidate has no
    ``/dev/shm`` (so no locks between processes) and may connect no socket, files are counted by looking, and whether a process number is in
    use outside can be found out.

    Why not the package ``sandlock`` (0.9.0), which was tried here: its supervisor is a thread of the process that starts it, which would be
    the warden; it opens files on behalf of what it supervises, past the further rules of each run (the zygote showed in a run's ``/proc``); it
    closes what descriptors it is to inherit; and each file that is opened costs 0.18 ms, each fork 4 ms instead of 2.
    """

    name, mode = "landlock", "landlock"

    def start(self, plan: Plan) -> Started:
        """See :class:`Wall`."""
        places, readable = _shared_places(plan)
        with _listening(plan) as listener:
            process = subprocess.Popen(
                _python(f"path:{listener.getsockname()}", places.code), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(places.home, str(plan.scratch)),
                start_new_session=True,
            )  # fmt: skip
            link = _accepted(listener)
        assert process.stderr is not None
        return Started(link, places, process.stderr, lambda: _reap(process), readable)


class Waiver(Landlock):
    """No wall: a signed waiver lets foreign code run as the pool's own user. What Landlock and seccomp there are is used."""

    name, mode = "waiver", "open"


def _shared_places(plan: Plan) -> tuple[Places, tuple[str, ...]]:
    """Where things are in a cell that has no mounts of its own, and what its runs may read."""
    home = plan.scratch / "home"
    home.mkdir(exist_ok=True)
    places = Places(str(HERE), str(plan.folder or ""), str(plan.shared), str(home))
    readable = [*SYSTEM, *(f"/etc/{name}" for name in ETC), *(f"/dev/{name}" for name in DEVICES), *python_folders()]
    return places, (*readable, str(HERE), str(plan.shared), str(home))


@contextlib.contextmanager
def _listening(plan: Plan) -> Iterator[socket.socket]:
    path = plan.shared / f"zygote-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        try:
            listener.listen(1)
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _accepted(listener: socket.socket) -> socket.socket:
    """The zygote's connection; one that is closed already when none comes."""
    listener.settimeout(START_SECONDS)
    try:
        link = listener.accept()[0]
    except TimeoutError:
        link, other = socket.socketpair()
        other.close()
    link.setblocking(True)
    return link


@functools.lru_cache
def strongest_wall(waiver: bool = False) -> Wall:
    """The strongest wall that a probe shows to hold, here and now; asked once in a process.

    Args:
        waiver: the operator signed that foreign code may run without one, if none holds.

    Raises:
        IsolationError: none holds, and there is no waiver.
    """
    from upwright.warden.isolation.probe import holes

    if sys.platform != "linux":
        raise IsolationError("cells need Linux", value=sys.platform, todo="run it on Linux, or in a virtual machine")
    reasons = []
    for wall in (Bubblewrap(), Landlock()):
        try:
            found = holes(wall)
        except (IsolationError, OSError) as error:
            found = [str(error).partition("\n")[0]]
        if not found:
            return wall
        reasons.append(f"{wall.name}: {'; '.join(found)}")
    if waiver:
        return Waiver()
    raise IsolationError(
        "nothing on this machine keeps foreign code in",
        value=reasons,
        todo="apt-get install bubblewrap (0.8 or newer; on Ubuntu also: sysctl kernel.apparmor_restrict_unprivileged_userns=0),"
        " or use Linux 6.12 or newer with Landlock; or sign a waiver",
    )
