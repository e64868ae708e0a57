"""Whether a wall really holds: tries to get out of it, from inside a run, and looks from outside at what came of it."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from upwright.warden.isolation.layout import python_folders
from upwright.warden.isolation.records import Ending, Limits
from upwright.warden.isolation.walls import Wall

LIMITS = Limits(seconds=10.0, memory_mb=512, processes=4, file_mb=8, output_kb=16)
SHORT = Limits(seconds=0.5, memory_mb=512, processes=4, file_mb=8, output_kb=16)


def holes(wall: Wall) -> list[str]:
    """What a run behind this wall could do and must not, a phrase each; nothing when it holds.

    Raises:
        IsolationError: a cell cannot be started.
    """
    from upwright.warden.isolation.pool import Pool

    with tempfile.TemporaryDirectory(prefix="upwright-probe-") as name, socket.socket() as listener:
        outside = Path(name)
        outside.chmod(0o755)
        inside = outside / "inside"
        inside.mkdir()
        inside.chmod(0o777)
        (outside / "open").mkdir()
        (outside / "open").chmod(0o777)
        secret = outside / "secret"
        secret.write_text("a secret")
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        job: dict[str, Any] = {
            "attempt": "all", "program": "program.py", "secret": str(secret),
            "home": str(Path.home()), "fine": [part for path in python_folders() for part in Path(path).parts],
            "open": str(outside / "open"), "port": listener.getsockname()[1], "pid": os.getpid(),
        }  # fmt: skip
        with Pool(inside, "escape", [], LIMITS, together=True, wall=wall, size=1) as pool:
            files = {"program.py": ""}
            ran = pool.run(job, files, 0)
            if ran.ending is not Ending.OK:
                return [f"the probe did not run ({ran.ending}: {ran.why})"]
            found = [str(hole) for hole in ran.value]
            crowd = pool.run({**job, "attempt": "crowd"}, files, 0)
            if crowd.ending is Ending.OK and crowd.value > 4 * LIMITS.processes + 64:
                found.append(f"{crowd.value} processes where {LIMITS.processes} are allowed")
            late = pool.run({**job, "attempt": "linger"}, files, 0, SHORT)
            if late.ending is not Ending.TIMEOUT:
                found.append(f"a run that should have been ended for its time ended with {late.ending}")
        if list((outside / "open").iterdir()) or list(inside.iterdir()) or secret.read_text() != "a secret":
            found.append("a file outside was written")
        found += [f"process {pid} was left behind" for pid in _left(job["open"])]
        return found


def _left(token: str) -> list[int]:
    """Processes whose command line has the token."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and token.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
        except OSError:
            continue
    return found
