"""Starts bubblewrap as a user who is nobody, where the pool itself runs as root.

A process of root's stays root's inside a user namespace, whatever number it is shown: the kernel counts no processes for it, and files of
root's stay its own. So root becomes nobody first. What nobody could not reach (a Python below ``/root``) is mounted
at a place of its own before, in a mount space that only this process has.

Run as ``python launcher.py FOLDER... -- bubblewrap ARGUMENT...``; a folder that an argument binds is replaced by its place.
"""

import ctypes
import os
import sys

NOBODY = 65534
_MS_BIND, _MS_REC, _MS_PRIVATE, _NEWNS = 4096, 16384, 1 << 18, 0x20000


def main(arguments: list[str]) -> None:
    """Stage, drop, exec."""
    cut = arguments.index("--")
    sources, command = arguments[:cut], arguments[cut + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
        if libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), data):
            raise OSError(ctypes.get_errno(), f"cannot mount {source} on {target}")

    if libc.unshare(_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot have a mount space of its own")
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    stage = "/mnt" if os.path.isdir("/mnt") else "/tmp"
    held = [os.open(source, os.O_PATH) for source in sources]
    mount("tmpfs", stage, b"tmpfs", 0, b"mode=755,size=1m")
    places = {}
    for number, (source, fd) in enumerate(zip(sources, held)):
        place = f"{stage}/{number}"
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            os.mkdir(place)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        mount(f"/proc/self/fd/{fd}", place, None, _MS_BIND | _MS_REC)
        os.close(fd)
        places[source] = place
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    before = ["", *command[:-1]]
    os.execv(command[0], [places.get(w, w) if b in BINDS else w for b, w in zip(before, command)])


BINDS = ("--ro-bind", "--bind")
"""The options whose next word is a folder of the host."""

if __name__ == "__main__":
    main(sys.argv[1:])
