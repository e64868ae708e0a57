"""Files kept once, named by the SHA-256 of their bytes, and how the store touches the disk.

Every write goes to a scratch file and is renamed into place, so that a blob is there in full or not at
all. Large files are cloned (reflink) or hard-linked instead of copied where the disk can.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from upwright.errors import StorageError

_LARGE = 1 << 20  # bytes; from here on files are cloned or linked instead of read into memory
_CHUNK = 1 << 20
_FICLONE = 0x40049409  # ioctl(2) FICLONE: share the blocks of another file (btrfs, XFS)

_ADVICE = {
    errno.ENOSPC: ("the disk is full", "free some space (`upwright gc` drops old candidates) and run again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space (`upwright gc` drops old candidates) and run again"),
    errno.EROFS: ("the disk is read-only", "mount it writable, or move the project to a disk that is"),
    errno.EACCES: ("permission denied", "give your user write access to the project directory"),
    errno.EPERM: ("permission denied", "give your user write access to the project directory"),
}


@contextlib.contextmanager
def guard(doing: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a :class:`StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        text, todo = _ADVICE.get(error.errno or 0, (error.strerror or str(error), "check the disk and run again"))
        raise StorageError(f"cannot {doing}: {text}", value=str(error.filename or path), todo=todo) from error


def fsync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def clone(source: Path, target: Path) -> bool:
    """Share ``source``'s blocks with a new file ``target`` (reflink); ``False`` when the disk cannot."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return False
    with source.open("rb") as src, target.open("wb") as dst:
        try:
            fcntl.ioctl(dst.fileno(), _FICLONE, src.fileno())
        except OSError:
            return False
    return True


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> bool:
    """Hard-link over ``target``; ``False`` where the disk cannot (another device, no links, too many)."""
    try:
        try:
            os.link(source, target)
        except FileExistsError:
            os.unlink(target)
            os.link(source, target)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES):
            return False
        raise
    return True


class Blobs:
    """Content-addressed files.

    Args:
        root: holds ``ab/cdef…``, one read-only file per content.
        scratch: a folder on the same disk for writes under way.
    """

    _count = itertools.count()

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch

    def path(self, digest: str) -> Path:
        """Where the bytes with this digest are, or would be."""
        return Path(f"{self.root}/{digest[:2]}/{digest[2:]}")

    def has(self, digest: str, size: int) -> bool:
        """Whether the blob is there in full (a power cut may have cut one short that was not synced)."""
        try:
            return os.stat(f"{self.root}/{digest[:2]}/{digest[2:]}").st_size == size
        except FileNotFoundError:
            return False

    def new_scratch(self) -> Path:
        """A name in ``scratch`` that nobody uses."""
        return Path(f"{self.scratch}/{os.getpid()}-{next(self._count)}")

    def put(self, data: bytes) -> str:
        """Store bytes; returns their digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest, len(data)):
            self.write(self.path(digest), data, 0o444)
        return digest

    def write(self, target: Path, data: bytes, mode: int = 0o644) -> None:
        """Write any file of the store atomically."""
        tmp = self.new_scratch()
        with guard(f"write {target.name}", target):
            try:
                fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(fd, view) :]
                finally:
                    os.close(fd)
                _place(tmp, target)
            except BaseException:
                tmp.unlink(missing_ok=True)
                raise

    def take(self, source: Path, may_link: bool) -> str:
        """Store a file: small by reading, large by cloning, linking (``may_link``) or copying; returns its digest.

        A linked source becomes read-only, for it is the blob from then on.
        """
        with guard(f"store {source.name}", source):
            size = source.stat().st_size
            if size < _LARGE:
                return self.put(source.read_bytes())
            tmp = self.new_scratch()
            try:
                if clone(source, tmp) or (may_link and link(source, tmp)):
                    digest = hash_file(tmp)
                else:
                    digest = _copy_and_hash(source, tmp)
                if not self.has(digest, tmp.stat().st_size):
                    tmp.chmod(0o444)
                    _place(tmp, self.path(digest))
                return digest
            finally:
                tmp.unlink(missing_ok=True)

    def read(self, digest: str, name: str) -> bytes:
        """Bytes of a blob, checked; ``name`` is what an error calls it."""
        path = self.path(digest)
        with guard(f"read {name}", path):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise _damaged(name, path)
        return data

    def verify(self, digest: str, name: str) -> None:
        """Hash a blob again.

        Raises:
            StorageError: it is missing or does not match.
        """
        path = self.path(digest)
        with guard(f"verify {name}", path):
            if hash_file(path) != digest:
                raise _damaged(name, path)

    def copy_to(self, digest: str, target: Path, read_only: bool) -> None:
        """Materialise a blob at ``target``: a hard link (or copy) when ``read_only``, else a writable copy."""
        blob = self.path(digest)
        if read_only and link(blob, target):
            return
        if not clone(blob, target):
            shutil.copyfile(blob, target)
        target.chmod(0o444 if read_only else 0o644)


def _damaged(path: str, blob: Path) -> StorageError:
    return StorageError(
        f"{path} no longer matches its digest", value=str(blob), todo="restore this file from a backup, or roll back"
    )


def _place(tmp: Path, target: Path) -> None:
    try:
        os.replace(tmp, target)
    except FileNotFoundError:
        target.parent.mkdir(exist_ok=True)
        os.replace(tmp, target)


def _copy_and_hash(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as src, target.open("wb") as dst:
        while chunk := src.read(_CHUNK):
            digest.update(chunk)
            dst.write(chunk)
    return digest.hexdigest()
