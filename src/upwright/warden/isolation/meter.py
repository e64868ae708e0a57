"""What a run's processes use together: memory, processor time, how many they are. Looked at from the zygote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

_HERTZ = os.sysconf("SC_CLK_TCK")
MB = 1 << 20


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
        self.fits, self._most = True, 1
        status = _status(str(self.pid))
        self.base = status.get("RssAnon", 0) + status.get("RssShmem", 0)
        self.data = status.get("VmData", 0)

    def begin(self) -> None:
        """A run begins, with one process."""
        self._most = 1

    def may_fork(self, leader: int, limits: dict[str, Any]) -> bool:
        """Whether the run may have one more process; counts them only where it could be too many."""
        if self._most + 1 - self.ours > limits["processes"]:
            self._most = sum(1 for _ in self._run(leader))
        self._most += 1
        return bool(self._most - self.ours <= limits["processes"])

    def over(self, leader: int, limits: dict[str, Any]) -> str:
        """The limit that is passed (``memory``, ``cpu``, ``processes``), or ""."""
        memory, ticks, count = 0, 0, 0
        for name, fields in self._run(leader):
            count += 1
            ticks += sum(int(f) for f in fields[11:15])
            try:
                status = _status(name)
            except OSError:
                continue
            memory += max(0, status.get("RssAnon", 0) + status.get("RssShmem", 0) - self.base)
        if count - self.ours > limits["processes"]:
            return "processes"
        if memory > limits["memory_mb"] * MB:
            return "memory"
        if limits["cpu_seconds"] is not None and ticks / _HERTZ > limits["cpu_seconds"]:
            return "cpu"
        return ""

    def _run(self, leader: int) -> Iterator[tuple[str, list[str]]]:
        """The run's processes: number, and the fields of ``/proc/NUMBER/stat`` after the name."""
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == self.pid:
                continue
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if self.own_space or int(fields[2]) == leader:
                yield name, fields


def _status(pid: str) -> dict[str, int]:
    """Sizes in bytes out of ``/proc/PID/status``."""
    with open(f"/proc/{pid}/status") as file:
        lines = (line.split() for line in file)
        return {line[0][:-1]: int(line[1]) * 1024 for line in lines if len(line) == 3 and line[2] == "kB"}
