"""What a cell can see of the machine: Python, the system's programs and libraries, the evaluator's files; nothing of the user's."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone", "mime.types", "magic")
TOO_WIDE = ("/", "/home", "/root", "/tmp", "/etc", "/var", "/opt", "/srv", "/mnt", "/media")
"""Never shown as a whole, nor is the user's home, wherever Python may be: a cell that lacks its Python does not start."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One cell to be started.

    Attributes:
        folder: the evaluator's files; ``None`` in a candidate's cell. ``hidden``: where they are, to know who looks for them.
        shared: folder of the pool with the sockets between the two cells.
        scratch: folder of the pool below which runs have their own, where mounts are not private.
        memory_mb, processes: the pool's limits, for walls that count by themselves.
    """

    folder: Path | None
    hidden: Path
    shared: Path
    scratch: Path
    memory_mb: int
    processes: int


def python_folders() -> list[str]:
    """Folders that this Python and its packages are in, outermost only."""
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    found |= {path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))}
    link = sys.executable
    while link:
        found.add(os.path.dirname(link))
        target = os.readlink(link) if os.path.islink(link) else ""
        link = os.path.join(os.path.dirname(link), target) if target else ""
    folders = {os.path.realpath(f) for f in found} | {os.path.abspath(f) for f in found}
    kept: list[str] = []
    wide = {*TOO_WIDE, os.path.expanduser("~")}
    for folder in sorted(folders):
        if os.path.isdir(folder) and folder not in wide and not _inside(folder, [*SYSTEM, *kept]):
            kept.append(folder)
    return kept


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(path == f or path.startswith(f + "/") for f in folders)


def environment(home: str, root: str) -> dict[str, str]:
    """The whole environment of a run: nothing of ours, one thread for each mathematical library."""
    cache = os.path.join(root, "cache")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": home,
        "TMPDIR": root,
        "LANG": "C.UTF-8",
        "USER": "nobody",
        "XDG_CACHE_HOME": cache,
        "XDG_CONFIG_HOME": cache,
        "MPLCONFIGDIR": cache,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "MALLOC_ARENA_MAX": "2",
        **dict.fromkeys(threads, "1"),
    }
