"""What a run's processes use together: how many they are, memory, processor time, files. Looked at from the zygote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

_HERTZ = os.sysconf("SC_CLK_TCK")
MB = 1 << 20
MOST_FILES = 16_384


class Meter:
    """Looks at ``/proc``.

    Args:
        own_space: every process here but this one belongs to the run; else those of its process group do.
        ours: processes of a run that are not the program's.

    Attributes:
        base, data: memory that every run has from the zygote.
    """

    def __init__(self, own_space: bool, ours: int) -> None:
        self.own_space, self.ours, self.pid = own_space, ours, os.getpid()
        status = _status(str(self.pid))
        self.base = status.get("RssAnon", 0) + status.get("RssShmem", 0)
        self.data = status.get("VmData", 0)
        self.begin(0, "", {})

    def begin(self, leader: int, root: str, limits: dict[str, Any]) -> None:
        """A run begins, with one process."""
        self.leader, self.root, self.limits, self._most = leader, root, limits, 1

    def may_fork(self) -> bool:
        """Whether the run may have one more process; counts them only where it could be too many."""
        if self._most + 1 - self.ours > self.limits["processes"]:
            self._reap()
            states = [fields[0] for _, fields in self._run()]
            ended = sum(state in "ZX" for state in states)
            if ended > 4 * self.limits["processes"] + 256:
                return False
            self._most = len(states) - ended
        self._most += 1
        return bool(self._most - self.ours <= self.limits["processes"])

    def over(self) -> str:
        """The limit that is passed (``memory``, ``cpu``, ``processes``, ``files``), or ""."""
        memory, ticks, count = 0, 0, 0
        for name, fields in self._run():
            count += fields[0] not in "ZX"
            ticks += sum(int(f) for f in fields[11:15])
            with contextlib.suppress(OSError):
                status = _status(name)
                memory += max(0, status.get("RssAnon", 0) + status.get("RssShmem", 0) - self.base)
        if count - self.ours > self.limits["processes"]:
            return "processes"
        if memory > self.limits["memory_mb"] * MB:
            return "memory"
        if self.limits["cpu_seconds"] is not None and ticks / _HERTZ > self.limits["cpu_seconds"]:
            return "cpu"
        return "files" if not self.own_space and self._files_over() else ""

    def _files_over(self) -> bool:
        """Where the run's folder is no file system of its own, whether there is more in it than there may be."""
        size = count = 0
        for at, folders, names in os.walk(self.root):
            for name in names:
                with contextlib.suppress(OSError):
                    size += os.lstat(os.path.join(at, name)).st_blocks * 512
            count += len(folders) + len(names)
            if size > self.limits["file_mb"] * MB or count > MOST_FILES:
                return True
        return False

    def _reap(self) -> None:
        """Bury orphans of the run that ended, where they became children of this process."""
        if self.own_space:
            return
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid == self.leader:
                    break
                os.waitpid(ended.si_pid, 0)

    def _run(self) -> Iterator[tuple[str, list[str]]]:
        """The run's processes: number, and the fields of ``/proc/NUMBER/stat`` after the name."""
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == self.pid:
                continue
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if self.own_space or int(fields[2]) == self.leader:
                yield name, fields


def _status(pid: str) -> dict[str, int]:
    """Sizes in bytes out of ``/proc/PID/status``."""
    with open(f"/proc/{pid}/status") as file:
        lines = (line.split() for line in file)
        return {line[0][:-1]: int(line[1]) * 1024 for line in lines if len(line) == 3 and line[2] == "kB"}
