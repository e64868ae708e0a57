"""What a run's processes use together: memory, processor time, how many they are. Looked at from the zygote."""

from __future__ import annotations

import os
from typing import Any

_HERTZ = os.sysconf("SC_CLK_TCK")
MB = 1 << 20


class Meter:
    """Looks at ``/proc``.

    Args:
        own_space: every process here but this one belongs to the run; else those of its process group do.
    """

    def __init__(self, own_space: bool) -> None:
        self.own_space, self.pid = own_space, os.getpid()
        status = _status(str(self.pid))
        self.base = status.get("RssAnon", 0) + status.get("RssShmem", 0)
        self.data = status.get("VmData", 0)

    def over(self, leader: int, limits: dict[str, Any], ours: int) -> str:
        """The limit that is passed (``memory``, ``cpu``, ``processes``), or "". ``ours``: processes that are not the run's."""
        memory, ticks, count = 0, 0, 0
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == self.pid:
                continue
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                if not self.own_space and int(fields[2]) != leader:
                    continue
                status = _status(name)
            except (OSError, IndexError):
                continue
            ticks += sum(int(f) for f in fields[11:15])
            count += fields[0] not in "ZX"
            memory += max(0, status.get("RssAnon", 0) + status.get("RssShmem", 0) - self.base)
        if memory > limits["memory_mb"] * MB:
            return "memory"
        if count - ours > limits["processes"]:
            return "processes"
        if limits["cpu_seconds"] is not None and ticks / _HERTZ > limits["cpu_seconds"]:
            return "cpu"
        return ""


def _status(pid: str) -> dict[str, int]:
    """Sizes in bytes out of ``/proc/PID/status``."""
    with open(f"/proc/{pid}/status") as file:
        lines = (line.split() for line in file)
        return {line[0][:-1]: int(line[1]) * 1024 for line in lines if len(line) == 3 and line[2] == "kB"}
