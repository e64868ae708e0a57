"""The few system calls that Python has no function for: namespaces, mounts, capabilities, Landlock, seccomp.

Used by a cell's own processes before they run foreign code. Constants are from the kernel's uapi headers.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import struct
from collections.abc import Iterable, Sequence

NEWNS, NEWIPC, NEWPID = 0x00020000, 0x08000000, 0x20000000
NEW_ANYTHING = 0x7E020080
"""Every CLONE_NEW flag, of time namespaces too."""
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)

(
    _PR_SET_PDEATHSIG,
    _PR_SET_DUMPABLE,
    _PR_SET_CHILD_SUBREAPER,
    _PR_SET_NO_NEW_PRIVS,
    _PR_CAP_AMBIENT,
    _PR_CAP_AMBIENT_CLEAR_ALL,
) = 1, 4, 36, 38, 47, 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags`` for new ones."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter the namespace behind ``fd``."""
    _checked(_libc.setns(fd, flags), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """``mount(2)``."""
    done = _libc.mount(
        source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), data.encode() or None
    )
    _checked(done, f"mount {kind or source} on {target}")


def prctl(option: int, *args: int) -> int:
    """``prctl(2)``."""
    padded = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(option, *padded), f"prctl {option}")


def hide_memory(hidden: bool = True) -> None:
    """Whether other processes of the same user are kept from this process's memory."""
    prctl(_PR_SET_DUMPABLE, 0 if hidden else 1)


def end_with_parent() -> None:
    """This process is killed when the one that forked it ends."""
    prctl(_PR_SET_PDEATHSIG, 9)


def adopt_orphans() -> None:
    """Descendants whose parents end become children of this process."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """No program that is started from here on gains rights."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)), "capset")


# Landlock: files and, from ABI 4 on, TCP; from ABI 6 on, signals and abstract sockets.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_FS_BY_ABI = {1: 13, 2: 14, 3: 15, 5: 16}
READ = (1 << 0) | (1 << 2) | (1 << 3)
"""Execute, read files, read folders."""
LEAST_LANDLOCK = 6


def landlock_abi() -> int:
    """Version of Landlock in this kernel; 0 where there is none."""
    return int(max(0, _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1))))


def landlock(readable: Iterable[str], writable: Iterable[str]) -> None:
    """Nothing but these paths can be opened, no TCP, no signals to processes outside.

    Raises:
        OSError: the kernel's Landlock is missing or too old.
    """
    abi = landlock_abi()
    if abi < LEAST_LANDLOCK:
        raise OSError(f"Landlock ABI {abi} is older than {LEAST_LANDLOCK}")
    handled = (1 << max(bits for since, bits in _FS_BY_ABI.items() if since <= abi)) - 1
    attribute = struct.pack("=QQQ", handled, 3, 3)
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attribute, ctypes.c_size_t(24), ctypes.c_uint(0)), "landlock")
    try:
        for access, paths in ((READ, readable), (handled, writable)):
            for path in paths:
                _allow_beneath(ruleset, path, access & handled)
        no_new_privileges()
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


_FILE_ACCESS = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)


def _allow_beneath(ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            access &= _FILE_ACCESS
        rule = struct.pack("=Qi", access, fd)
        _checked(_libc.syscall(_ADD_RULE, ruleset, 1, rule, ctypes.c_uint(0)), f"landlock rule for {path}")
    finally:
        os.close(fd)


# seccomp: a filter in classic BPF.
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN, _AND = 0x20, 0x15, 0x35, 0x45, 0x06, 0x54
_ALLOW, _ERRNO, _KILL, _NOTIFY = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
_NEW_LISTENER, _NOTIFY_RECEIVE, _NOTIFY_SEND, _CLONE_THREAD = 8, 0xC0502100, 0xC0182101, 0x10000
_EPERM, _ENOSYS, _EAFNOSUPPORT, _PRETEND = 1, 38, 97, 0
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_AF_UNIX, _SOCK_DGRAM, _TIOCSTI, _TIOCLINUX = 1, 2, 0x5412, 0x541C

_REFUSED: dict[str, tuple[int, int]] = {
    # name: number on x86_64, on aarch64
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_tree_attr": (467, 467), "swapon": (167, 224),
    "swapoff": (168, 225), "reboot": (169, 142), "sethostname": (170, 161), "setdomainname": (171, 162),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "bpf": (321, 280), "perf_event_open": (298, 241), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "fanotify_init": (300, 262), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "vhangup": (153, 58), "lookup_dcookie": (212, 18),
    "mq_open": (240, 180), "msgget": (68, 186),
}  # fmt: skip
_OURS = ("unshare", "setns", "mount")
"""What a zygote needs itself, and the runs that it forks until they are ready."""
_X86_ONLY = {"iopl": 172, "ioperm": 173, "modify_ldt": 154, "uselib": 134, "ustat": 136, "sysfs": 139, "_sysctl": 156}
_NO_NAMESPACES: dict[str, tuple[int, int]] = {
    # where mounts and process numbers are not private: groups cannot be left, files' attributes cannot be changed
    "setsid": (112, 157), "setpgid": (109, 154), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, -1), "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54),
    "utime": (132, -1), "utimes": (235, -1), "futimesat": (261, -1), "utimensat": (280, 88),
}  # fmt: skip
_SHARED_REFUSED: dict[str, tuple[int, int]] = {
    # where what the user owns elsewhere could be changed, or something left behind
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463), "removexattrat": (466, 466),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_unlink": (241, 181), "setpriority": (141, 140), "ioprio_set": (251, 30), "process_mrelease": (448, 448),
}  # fmt: skip
_SELF_ONLY: dict[str, tuple[int, int]] = {
    # where the first argument is a process: this one only
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
_SECCOMP, _FORKS = (317, 277), (57, 58)
_CLONE, _CLONE3, _SOCKET, _CONNECT, _IOCTL = (56, 220), (435, 435), (41, 198), (42, 203), (16, 29)


class Filter:
    """A seccomp filter, made ready once and installed in many processes.

    Args:
        last: refuse what only a cell's own preparations need (``unshare``, ``setns``, ``mount``); else all the others.
        shared: mounts and process numbers are shared with the host (no namespaces): pretend to change groups,
            modes and owners, without doing it, so that the run's process group cannot be left.
        connect: whether sockets may be connected by path.
        counted: every new process has to be allowed by whoever holds the descriptor that :meth:`install` gives (:func:`asked_for`).
    """

    def __init__(self, *, last: bool, shared: bool = False, connect: bool = True, counted: bool = False) -> None:
        machine = platform.machine()
        which = list(_ARCH).index(machine)
        steps = [_op(_LOAD, 4), _op(_JUMP_EQUAL, _ARCH[machine], 1, 0), _op(_RETURN, _KILL), _op(_LOAD, 0)]
        if which == 0:
            steps += [_op(_JUMP_AT_LEAST, 0x40000000, 0, 1), _op(_RETURN, _ERRNO | _ENOSYS)]
        refused = [n[which] for name, n in _REFUSED.items() if (name in _OURS) == last]
        if shared and last:
            steps += _answers([n[which] for n in _NO_NAMESPACES.values()], _ERRNO | _PRETEND)
            refused += [n[which] for n in _SHARED_REFUSED.values()]
            for number in (n[which] for n in _SELF_ONLY.values()):
                steps += _on_argument(number, 0, [_op(_JUMP_EQUAL, 0, 1, 0), _op(_RETURN, _ERRNO | _EPERM)])
        if not connect:
            refused.append(_CONNECT[which])
        if not last:
            refused += _X86_ONLY.values() if which == 0 else ()
            steps += _on_arguments(which)
        steps += _answers(refused, _ERRNO | _EPERM)
        if shared and last:
            datagram = [_op(_AND, 0xF), _op(_JUMP_EQUAL, _SOCK_DGRAM, 0, 1), _op(_RETURN, _ERRNO | _EPERM)]
            steps += _on_argument(_SOCKET[which], 1, datagram)
        if counted:
            ask = _op(_RETURN, _NOTIFY)
            steps += _on_argument(_CLONE[which], 0, [_op(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0), ask])
            steps += [step for n in _FORKS if which == 0 for step in (_op(_JUMP_EQUAL, n, 0, 1), ask)]
        steps.append(_op(_RETURN, _ALLOW))
        self._flags, self._call = _NEW_LISTENER if counted else 0, _SECCOMP[which]
        self._code = ctypes.create_string_buffer(b"".join(steps))
        self._program = _Program(len(steps), ctypes.cast(self._code, ctypes.c_void_p))

    def install(self) -> int:
        """On this process, and on all that it starts; for good. Gives a descriptor, if it is ``counted``."""
        no_new_privileges()
        done = _libc.syscall(self._call, ctypes.c_uint(1), ctypes.c_uint(self._flags), ctypes.byref(self._program))
        return _checked(int(done), "seccomp")


def asked_for(listener: int) -> bytes:
    """Who asks for another process; nothing when that one is gone."""
    asked = bytearray(80)
    try:
        fcntl.ioctl(listener, _NOTIFY_RECEIVE, asked)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINTR):
            raise
        return b""
    return bytes(asked[:8])


def granted(listener: int, who: bytes) -> None:
    """Let them have it."""
    with contextlib.suppress(FileNotFoundError):
        fcntl.ioctl(listener, _NOTIFY_SEND, struct.pack("=8sqiI", who, 0, 0, 1))


def _on_arguments(which: int) -> list[bytes]:
    """What depends on arguments: namespaces by ``clone``, sockets but Unix ones, keystrokes for a terminal."""
    refuse = _op(_RETURN, _ERRNO | _EPERM)
    steps = _answers([_CLONE3[which]], _ERRNO | _ENOSYS)
    steps += _on_argument(_CLONE[which], 0, [_op(_JUMP_ANY_BIT, NEW_ANYTHING, 0, 1), refuse])
    steps += _on_argument(_SOCKET[which], 0, [_op(_JUMP_EQUAL, _AF_UNIX, 1, 0), _op(_RETURN, _ERRNO | _EAFNOSUPPORT)])
    for request in (_TIOCSTI, _TIOCLINUX):
        steps += _on_argument(_IOCTL[which], 1, [_op(_JUMP_EQUAL, request, 0, 1), refuse])
    return steps


def _op(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, k)


def _answers(numbers: Sequence[int], answer: int) -> list[bytes]:
    return [step for n in numbers if n >= 0 for step in (_op(_JUMP_EQUAL, n, 0, 1), _op(_RETURN, answer))]


def _on_argument(number: int, index: int, steps: list[bytes]) -> list[bytes]:
    """Run ``steps`` with argument ``index`` (its low half) loaded, when the call is ``number``; then load the number again."""
    return [_op(_JUMP_EQUAL, number, 0, len(steps) + 2), _op(_LOAD, 16 + 8 * index), *steps, _op(_LOAD, 0)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
