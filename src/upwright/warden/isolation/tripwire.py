"""An audit hook in the candidate's process that tells of what no honest program does.

It is a tripwire, not a wall: foreign code in the same process can get around it (through ``ctypes``, say). What it names, the
wall refuses anyway; it makes attempts visible.
"""

from __future__ import annotations

import os
import sys
from typing import Any

MAX_ALARMS = 20
_HEAP = {"gc.get_objects", "gc.get_referrers", "sys._current_frames", "sys._current_exceptions"}
_CHANGES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
}
_SOCKETS = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
home: str = ""
allowed: tuple[str, ...] = ("/tmp", "/dev")
forbidden: tuple[str, ...] = ()


def stretch(alarms: int) -> None:
    """Tell of suspicious acts of this process on the descriptor ``alarms``, a line each."""
    seen: set[str] = set()
    busy = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or len(seen) >= MAX_ALARMS:
            return
        busy = True
        try:
            told = _suspicious(event, args)
            if told and told not in seen:
                seen.add(told)
                os.write(alarms, (told[:300].replace("\n", " ") + "\n").encode(errors="replace"))
        except Exception:
            pass
        finally:
            busy = False

    sys.addaudithook(hook)


def _suspicious(event: str, args: tuple[Any, ...]) -> str:
    if event == "open":
        return _opened(args)
    if event in _HEAP:
        return f"the program walked the interpreter's memory ({event})"
    if event in _CHANGES and isinstance(args[0], str | bytes):
        path = _absolute(args[0])
        return "" if _inside(path, allowed) else f"the program tried to change {path} ({event})"
    if event in _SOCKETS:
        address = args[1] if event != "socket.getaddrinfo" else args[:2]
        if not isinstance(address, str | bytes):
            return f"the program tried to reach the network ({address!r:.80})"
    return ""


def _opened(args: tuple[Any, ...]) -> str:
    path, _mode, flags = args
    if not isinstance(path, str | bytes):
        return ""
    where = _absolute(path)
    if _inside(where, forbidden):
        return f"the program looked for what belongs to the evaluator ({where})"
    if home and _inside(where, (home,)):
        return f"the program opened {where}, in the home folder where credentials would be"
    if where.startswith("/proc/") and where.rsplit("/", 1)[-1] in ("mem", "environ", "maps", "smaps"):
        return f"the program opened {where}"
    if flags & _WRITES and not _inside(where, allowed):
        return f"the program tried to write {where}"
    return ""


def _absolute(path: str | bytes) -> str:
    return os.path.abspath(os.fsdecode(path))


def _inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == f or path.startswith(f + "/") for f in folders)
