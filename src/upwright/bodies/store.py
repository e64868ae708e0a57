"""Where generations are kept: every file once, named by the SHA-256 of its bytes.

::

    store/
      blobs/ab/cdef…            bytes of a file, read-only, shared by every generation that has it
      generations/<digest>.json the files, the parent, the proposal and notes of a generation
      checkouts/<digest>/       a generation as a directory (hard links to blobs)
      tmp/                      writes under way; whatever is left here was never part of the store

Every write goes to ``tmp/`` and is renamed into place, blobs before the generation that names them: a
process killed at any moment leaves a store in which every listed generation is whole. ``durable=True``
also survives a power cut; candidates are stored with ``durable=False`` (no fsync) and made durable
by :meth:`Store.sync` before they can be proven. File modes and empty folders are not stored.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from upwright.bodies.blobs import Blobs, fsync, guard
from upwright.bodies.body import PARTS
from upwright.bodies.tree import Changes, changed, files_of
from upwright.errors import BodyError, ProjectError, StorageError
from upwright.records import Generation, Proposal, canonical_json, from_json, to_json, tree_digest

_KNOWN = 16
"""How many records are remembered, as long as their files do not change."""

_TORN = (ValueError, KeyError, TypeError, msgspec.ValidationError)


def _stamp(path: str | Path) -> tuple[int, ...]:
    """What changes when a file is written anew; empty when it is gone."""
    try:
        facts = os.stat(path)
    except OSError:
        return ()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _sizes(places: Iterable[str]) -> dict[str, int]:
    """Bytes of each file; empty when one of them is gone."""
    try:
        return {place: os.stat(place).st_size for place in places}
    except (FileNotFoundError, NotADirectoryError):
        return {}


class Store:
    """The generations of a project.

    Args:
        root: directory of the store; made when missing.

    Any number of processes may write and read at once; only :meth:`gc` must be alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.blobs = Blobs(self.root / "blobs", self.root / "tmp")
        self._generations, self._checkouts = self.root / "generations", self.root / "checkouts"
        self._known: OrderedDict[str, tuple[tuple[int, ...], Generation]] = OrderedDict()
        self._places: OrderedDict[str, tuple[Path, dict[str, int]]] = OrderedDict()
        with guard("make the store", self.root):
            for folder in (self.blobs.root, self.blobs.scratch, self._generations, self._checkouts):
                folder.mkdir(parents=True, exist_ok=True)

    # ---- putting in -------------------------------------------------------------------------

    def put_body(
        self,
        directory: Path,
        parent: str | None = None,
        proposal: Proposal | None = None,
        note: Mapping[str, Any] | None = None,
        durable: bool = True,
    ) -> Generation:
        """Store a body directory; the directory is left as it is.

        Raises:
            BodyError: it is missing or empty, or holds a symbolic link or a name that is no part of a body.
            StorageError: the disk is full, read-only or not ours.
        """
        if not directory.is_dir():
            raise BodyError("there is no body directory", value=str(directory), todo="give a directory with a body")
        files = {inside: self.blobs.take(path, may_link=False) for inside, path in files_of(directory)}
        if not files:
            raise BodyError("the body is empty", value=str(directory), todo=f"add at least one of {', '.join(PARTS)}")
        return self._record(files, parent, proposal, note or {}, durable)

    def derive(
        self,
        parent: Generation,
        changes: Changes,
        proposal: Proposal | None = None,
        note: Mapping[str, Any] | None = None,
        durable: bool = True,
    ) -> Generation:
        """Store ``parent`` with ``changes``; only changed files are read, hashed and written.

        A ``Path`` of a large file is cloned or hard-linked where the disk can, and then becomes
        read-only: write a new file rather than into it. When nothing differs the result is the parent itself.

        Raises:
            BodyError: a path that no body can have, or a source file that is not there.
            StorageError: the disk is full, read-only or not ours.
        """
        files = changed(parent, changes, self._put)
        return self._record(files, parent.digest, proposal, note or {}, durable)

    def sync(self, generation: Generation | str) -> None:
        """Make a generation (or the one of this digest) survive a power cut: fsync blobs, record and folders."""
        generation = self.get(generation) if isinstance(generation, str) else generation
        blobs = [self.blobs.path(d) for d in set(generation.files.values())]
        with guard("make a generation durable", self.root):
            for path in [*blobs, *{b.parent for b in blobs}, self._meta(generation.digest)]:
                fsync(path)
            for folder in (self.blobs.root, self._generations):
                fsync(folder)

    # ---- taking out -------------------------------------------------------------------------

    def get(self, name: str) -> Generation:
        """The generation whose digest is, or uniquely begins with, ``name``.

        Raises:
            ProjectError: none, or several, begin with it.
            StorageError: its record is damaged.
        """
        known = self._known.get(name)
        if known is not None and known[0] == _stamp(f"{self._generations}/{name}.json"):
            return known[1]
        matches = self._matching(name)
        if len(matches) != 1:
            what = "several generations begin with this" if matches else "there is no such generation"
            todo = "give more digits" if matches else "`upwright log` lists them"
            raise ProjectError(what, value=name, todo=todo)
        path = self._meta(matches[0])
        stamp = _stamp(path)
        try:
            generation = from_json(Generation, json.loads(path.read_bytes()))
        except _TORN as error:
            raise StorageError(
                f"the record of a generation is damaged: {error}", value=str(path), todo="restore it from a backup"
            ) from None
        if generation.digest != matches[0] or tree_digest(generation.files) != matches[0]:
            raise StorageError(
                "the record of a generation does not match its digest", value=str(path), todo="restore it from a backup"
            )
        self._remember(generation, stamp)
        return generation

    def list(self) -> tuple[Generation, ...]:
        """Every generation, oldest first. A candidate torn by a power cut before ``sync`` is left out."""
        with guard("list the generations", self._generations):
            paths = sorted(self._generations.glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name))
        found = []
        for path in paths:
            with contextlib.suppress(StorageError):
                found.append(self.get(path.stem))
        return tuple(found)

    def file(self, generation: Generation, path: str) -> bytes:
        """Bytes of one file, checked against its digest.

        Raises:
            BodyError: the generation has no such file.
            StorageError: the blob is missing or damaged.
        """
        if path not in generation.files:
            raise BodyError(
                f"generation {generation.digest[:12]} has no such file",
                value=path,
                todo=f"it has {sorted(generation.files)}",
            )
        return self.blobs.read(generation.files[path], path)

    def checkout(self, name: str) -> Path:
        """A generation as a directory, made once and reused. Its files are read-only hard links: copy to change."""
        if (place := self._places.get(name)) is not None and _sizes(place[1]) == place[1]:
            return place[0]
        generation = self.get(name)
        target = Path(f"{self._checkouts}/{generation.digest}")
        with guard("check out a generation", target):
            if self._whole(generation, target):
                self._remember_place(generation, target)
                return target
            if os.path.lexists(target):
                self._clear(target)
            staged = self._materialise(generation, self.blobs.new_scratch(), read_only=True)
            try:
                staged.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                shutil.rmtree(staged)  # another process was first
        return target

    def discard_checkout(self, name: str) -> None:
        """Remove a generation's directory, if there is one; the generation stays and can be checked out again."""
        generation = self.get(name)
        target = Path(f"{self._checkouts}/{generation.digest}")
        with guard("remove a checkout", target):
            try:  # few calls where it holds what it should and no folders
                for path in generation.files:
                    os.unlink(f"{target}/{path}")
                os.rmdir(target)
            except OSError:
                if os.path.lexists(target):
                    self._clear(target)

    def export(self, name: str, directory: Path) -> Path:
        """Copy a generation, writable, to a new ``directory``.

        Raises:
            ProjectError: the directory exists and is not empty.
        """
        generation = self.get(name)
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ProjectError("the directory to export to is not empty", value=str(directory), todo="give a new one")
        with guard("export a generation", directory):
            return self._materialise(generation, directory, read_only=False)

    # ---- keeping in order -------------------------------------------------------------------

    def verify(self, name: str) -> None:
        """Hash every file of a generation again.

        Raises:
            StorageError: names the first file that is missing or does not match.
        """
        generation = self.get(name)
        for path, digest in sorted(generation.files.items()):
            self.blobs.verify(digest, path)

    def gc(self, keep: Collection[str]) -> int:
        """Remove every generation but those of ``keep`` (digests), blobs that none of them has, and leftovers.

        Returns:
            bytes freed.
        """
        kept = {digest: self.get(digest) for digest in keep}
        needed = {blob for generation in kept.values() for blob in generation.files.values()}
        freed = 0
        with guard("remove what is not needed", self.root):
            for meta in self._generations.glob("*.json"):
                if meta.stem not in kept:
                    meta.unlink()
            for leftover in [
                *self.blobs.scratch.iterdir(),
                *(c for c in self._checkouts.iterdir() if c.name not in kept),
            ]:
                self._clear(leftover)
            for blob in self.blobs.root.glob("*/*"):
                if blob.parent.name + blob.name not in needed:
                    freed += blob.stat().st_size
                    blob.unlink()
        return freed

    # ---- inside -----------------------------------------------------------------------------

    def _put(self, path: str, value: bytes | Path) -> str:
        if isinstance(value, bytes):
            return self.blobs.put(value)
        if value.is_file():
            return self.blobs.take(value, may_link=not value.is_symlink())
        raise BodyError(f"there is no file to take {path} from", value=str(value), todo="the lever must write it")

    def _remember(self, generation: Generation, stamp: tuple[int, ...]) -> None:
        self._known[generation.digest] = stamp, generation
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _remember_place(self, generation: Generation, target: Path) -> None:
        """A checkout that is whole, with the sizes of its files."""
        self._places[generation.digest] = target, _sizes(f"{target}/{path}" for path in generation.files)
        if len(self._places) > _KNOWN:
            self._places.popitem(last=False)

    def _meta(self, digest: str) -> Path:
        return Path(f"{self._generations}/{digest}.json")

    def _matching(self, prefix: str) -> tuple[str, ...]:
        if not prefix or not set(prefix) <= set("0123456789abcdef"):
            return ()
        if len(prefix) == 64:
            return (prefix,) if self._meta(prefix).exists() else ()
        return tuple(p.stem for p in self._generations.glob(f"{prefix}*.json"))

    def _record(
        self,
        files: Mapping[str, str],
        parent: str | None,
        proposal: Proposal | None,
        note: Mapping[str, Any],
        durable: bool,
    ) -> Generation:
        """Write the record, or give back the first generation that had this tree (with its own parent and proposal)."""
        generation = Generation(tree_digest(files), files, parent, proposal, note)
        stored = None
        try:
            if os.path.lexists(f"{self._generations}/{generation.digest}.json"):
                stored = self.get(generation.digest)
        except ProjectError:  # there is none yet
            stored = None
        except StorageError:  # torn by a power cut: write it again
            stored = None
        if stored is not None:
            generation = stored
        else:
            path, plain = self._meta(generation.digest), to_json(generation)
            self.blobs.write(path, canonical_json(plain) + b"\n")
            self._remember(from_json(Generation, plain), _stamp(path))
        if durable:
            self.sync(generation)
        return generation

    def _whole(self, generation: Generation, target: Path) -> bool:
        """Whether a checkout is there and no file of it was removed or cut since."""
        try:
            return all(
                self.blobs.has(digest, os.stat(f"{target}/{path}").st_size) for path, digest in generation.files.items()
            )
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _materialise(self, generation: Generation, target: Path, read_only: bool) -> Path:
        made: set[str] = set()
        for path, digest in generation.files.items():
            place = f"{target}/{path}"
            if (folder := os.path.dirname(place)) not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            self.blobs.copy_to(digest, Path(place), read_only)
        return target

    @staticmethod
    def _clear(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
