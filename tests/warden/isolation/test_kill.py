"""However a pool's owner ends, nothing that it started goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from upwright.warden.isolation.walls import Wall

from .conftest import processes, soon


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "kill"])
def test_nothing_is_left_of_a_pool_whose_owner_was_killed(wall: Wall, folder: Path, number: int) -> None:
    token = f"token-{os.getpid()}-{time.time_ns()}"
    owner = subprocess.Popen([sys.executable, str(Path(__file__).with_name("owner.py")), str(folder), wall.name, token])
    assert soon(lambda: len([p for p in processes(token) if p != owner.pid]) >= 2, 30)
    mine = children(owner.pid)
    assert mine, "the cells are there"
    owner.send_signal(number)
    owner.wait(20)
    assert soon(lambda: not processes(token))
    assert soon(lambda: not any(os.path.exists(f"/proc/{pid}") and not zombie(pid) for pid in mine))


def children(pid: int) -> list[int]:
    """All that descends from a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
