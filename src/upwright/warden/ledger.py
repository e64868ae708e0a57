"""The ledger: append-only, every byte covered.

Departure from the architecture: the source of truth is a text file, ``ledger.jsonl``, not SQLite.
An SQLite file has pages, free space and counters that no hash of the entries covers; here a line is one
entry in canonical JSON with its own checkpoint, the file is nothing but such lines, and so a change
to any byte is found. People can read and diff it, too.

A line is ``{"entry", "leaf", "root", "sig", "size"}``: the entry; its RFC 6962 leaf hash
``SHA-256(0x00 ‖ entry)``; the root of the Merkle tree over all leaves so far (nodes
``SHA-256(0x01 ‖ left ‖ right)``); an Ed25519 signature of (size, root, time); the tree's size. Each
entry also names the leaf hash before it. ``head.json`` repeats the newest checkpoint, so a cut tail is found.

An append is one ``write`` and one ``fsync``. A last line without its newline was never acknowledged
and is dropped when the warden next starts. What this does *not* stop: someone who holds the signing key, or who puts
back an older ledger together with the older head. Keep a copy of the head elsewhere to find that.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from upwright.warden.canon import canonical_json, write_all, write_atomic
from upwright.warden.errors import LedgerFault

SCHEMA = 1
FILE, HEAD, PUBLIC = "ledger.jsonl", "head.json", "ledger.pub"
EMPTY = hashlib.sha256(b"").hexdigest()
"""Root of the empty tree, and ``prev`` of the first entry (RFC 6962)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. ``time`` is ISO 8601 in UTC; ``prev`` is the leaf hash of the entry before."""

    index: int
    kind: str
    data: Mapping[str, Any]
    time: str
    prev: str
    schema: int = SCHEMA

    def canonical(self) -> bytes:
        """The bytes that the leaf hash covers."""
        return canonical_json(self.plain())

    def plain(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "index": self.index,
            "kind": self.kind,
            "data": self.data,
            "time": self.time,
            "prev": self.prev,
            "schema": self.schema,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of :func:`verify`: ``ok``, or the first broken entry and what does not match."""

    ok: bool
    entries: int
    root: str
    index: int | None = None
    kind: str | None = None
    problem: str = ""


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962 §2.1: hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 §2.1: hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Tree:
    """Merkle tree that only grows: the roots of its full subtrees, largest first (O(log n) memory)."""

    size: int = 0
    peaks: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        width = 1
        while self.peaks and self.peaks[-1][0] == width:
            leaf = node_hash(self.peaks.pop()[1], leaf)
            width *= 2
        self.peaks.append((width, leaf))
        self.size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of everything added."""
        if not self.peaks:
            return bytes.fromhex(EMPTY)
        root = self.peaks[-1][1]
        for _, peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def _statement(size: int, root: str, time: str) -> bytes:
    return f"upwright ledger checkpoint\n{size}\n{root}\n{time}\n".encode()


class _Broken(Exception):
    """What does not match, inside :func:`_check_line`."""


def _check_line(line: bytes, tree: Tree, prev: str, key: Ed25519PublicKey) -> tuple[Entry, str]:
    """Check one line (without its newline) against what came before; the entry and its leaf hash."""
    try:
        record = json.loads(line)
        raw = record["entry"]
        entry = Entry(**raw)
        canonical = canonical_json(record)
    except (ValueError, TypeError, KeyError, RecursionError) as e:
        raise _Broken(f"the line is not an entry ({type(e).__name__})") from e
    if canonical != line:
        raise _Broken("the line is not canonical JSON")
    if set(record) != {"entry", "leaf", "root", "sig", "size"} or set(raw) != set(entry.plain()):
        raise _Broken("the line's fields are not the ledger's")
    if entry.schema != SCHEMA:
        raise _Broken(f"schema {entry.schema!r} is not {SCHEMA}")
    if entry.index != tree.size:
        raise _Broken(f"index is {entry.index!r}, expected {tree.size}")
    if entry.prev != prev:
        raise _Broken("prev is not the leaf hash of the entry before")
    leaf = leaf_hash(entry.canonical())
    tree.add(leaf)
    if record["leaf"] != leaf.hex():
        raise _Broken("leaf hash does not match the entry")
    if record["size"] != tree.size or record["root"] != tree.root().hex():
        raise _Broken("checkpoint's size or Merkle root does not match the entries")
    _check_signature(record, entry.time, key)
    return entry, leaf.hex()


def _check_signature(record: Mapping[str, Any], time: str, key: Ed25519PublicKey) -> None:
    try:
        signature = bytes.fromhex(record["sig"])
        if signature.hex() != record["sig"]:
            raise ValueError("not lower-case hex")
        key.verify(signature, _statement(record["size"], record["root"], time))
    except (InvalidSignature, ValueError, TypeError) as e:
        raise _Broken("checkpoint's signature does not verify") from e


def _guess_kind(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["entry"]["kind"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read the public key: 64 hex digits and a newline.

    Raises:
        LedgerFault: the file is missing or is not a key.
    """
    try:
        text = path.read_text("ascii")
        data = bytes.fromhex(text.strip())
        if text != data.hex() + "\n":
            raise ValueError("not 64 lower-case hex digits and a newline")
        return Ed25519PublicKey.from_public_bytes(data)
    except (OSError, ValueError) as e:
        raise LedgerFault("the ledger's public key cannot be read", value=str(path), todo=str(e)) from e


def _scan(data: bytes, key: Ed25519PublicKey) -> tuple[list[Entry], Tree, str, Report | None]:
    """All whole lines of ``data``, up to the first broken one (then the report says which)."""
    tree, prev = Tree(), EMPTY
    entries: list[Entry] = []
    for line in data.split(b"\n")[:-1]:
        before = tree.root().hex()
        try:
            entry, prev = _check_line(line, tree, prev, key)
        except _Broken as e:
            n = len(entries)
            return entries, tree, prev, Report(False, n, before, n, _guess_kind(line), str(e))
        entries.append(entry)
    return entries, tree, prev, None


def _check_head(head: Path, entries: list[Entry], tree: Tree, key: Ed25519PublicKey) -> str:
    """What is wrong with ``head.json``, or ``""``. It may lag one entry behind (killed between two writes)."""
    try:
        data = head.read_bytes()
        record = json.loads(data)
        if canonical_json(record) + b"\n" != data or set(record) != {"size", "root", "time", "sig"}:
            return "head.json is not canonical"
        _check_signature(record, record["time"], key)
    except OSError:
        return "head.json is missing"
    except (_Broken, ValueError, TypeError, KeyError, RecursionError):
        return "head.json does not verify"
    size = record["size"]
    if size > tree.size:
        return f"the tail was cut: head.json says {size} entries, the ledger has {tree.size}"
    if size < tree.size - 1:
        return f"head.json says {size} entries, the ledger has {tree.size}"
    if record["root"] != root_at(entries, size):
        return "head.json's root is not this ledger's"
    return ""


def root_at(entries: list[Entry], size: int) -> str:
    """Merkle root (hex) over the first ``size`` entries."""
    tree = Tree()
    for e in entries[:size]:
        tree.add(leaf_hash(e.canonical()))
    return tree.root().hex()


def verify(path: Path, public_key_path: Path | None = None) -> Report:
    """Recompute everything and name the first broken entry.

    Args:
        path: ``ledger.jsonl``; ``head.json`` is expected beside it.
        public_key_path: ``ledger.pub`` beside it by default; pass a copy kept elsewhere for a stronger check.
    """
    try:
        key = load_public_key(public_key_path or path.with_name(PUBLIC))
        data = path.read_bytes()
    except (LedgerFault, OSError) as e:
        return Report(False, 0, EMPTY, None, None, str(e))
    entries, tree, _, broken = _scan(data, key)
    if broken is not None:
        return broken
    n, root = len(entries), tree.root().hex()
    if not data.endswith(b"\n"):
        return Report(
            False, n, root, n, None, "the last line has no newline (torn write; the warden repairs it at start)"
        )
    problem = _check_head(path.with_name(HEAD), entries, tree, key)
    if problem:
        return Report(False, n, root, n, None, problem)
    founded = entries[0].data.get("public_key") if entries else None
    if founded is not None and founded != key.public_bytes_raw().hex():
        return Report(False, n, root, 0, entries[0].kind, "the founding entry names another public key")
    return Report(True, n, root)


def read(path: Path) -> list[Entry]:
    """Entries for reports: read-only, unverified, a torn last line left out.

    Raises:
        LedgerFault: a line is not an entry; run the verification to learn more.
    """
    return list(_iterate(path))


def _iterate(path: Path) -> Iterator[Entry]:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise LedgerFault("the ledger cannot be read", value=str(path), todo="found the project first") from e
    for index, line in enumerate(data.split(b"\n")[:-1]):
        try:
            yield Entry(**json.loads(line)["entry"])
        except (ValueError, TypeError, KeyError, RecursionError) as e:
            raise LedgerFault("a line of the ledger is not an entry", index=index, todo="upwright verify") from e


class Ledger:
    """The one writer. Open it only while holding the warden's lock."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        """Verify what is there, repair a torn tail and a lagging head, and stand ready to append.

        Raises:
            LedgerFault: the ledger does not verify.
        """
        self._path, self._head, self._key = folder / FILE, folder / HEAD, key
        data = self._path.read_bytes() if self._path.exists() else b""
        whole = data.rfind(b"\n") + 1
        self.entries, self._tree, self._prev, broken = _scan(data[:whole], key.public_key())
        problem = broken.problem if broken else ""
        if not problem and (self.entries or self._head.exists()):
            problem = self._head_problem()
        if problem:
            raise LedgerFault(
                f"the ledger does not verify: {problem}",
                index=broken.index if broken else len(self.entries),
                todo="run `upwright verify`; restore ledger.jsonl and head.json from a backup",
            )
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if whole < len(data):
            os.ftruncate(self._fd, whole)
            os.fsync(self._fd)
            self.append(
                "recovered", {"dropped_bytes": len(data) - whole, "why": "a write was cut off before it was whole"}
            )
        elif self.entries:
            self._write_head(self.entries[-1].time)

    def _head_problem(self) -> str:
        if len(self.entries) == 1 and not self._head.exists():
            return ""  # killed between the first entry and its head
        return _check_head(self._head, self.entries, self._tree, self._key.public_key())

    def append(self, kind: str, data: Mapping[str, Any]) -> Entry:
        """Write one entry; when this returns, it is on disk."""
        time = datetime.now(UTC).isoformat(timespec="microseconds")
        plain = json.loads(canonical_json(data))
        entry = Entry(len(self.entries), kind, plain, time, self._prev)
        leaf = leaf_hash(entry.canonical())
        tree = Tree(self._tree.size, list(self._tree.peaks))
        tree.add(leaf)
        root = tree.root().hex()
        record = {
            "entry": entry.plain(),
            "leaf": leaf.hex(),
            "root": root,
            "sig": self._key.sign(_statement(tree.size, root, time)).hex(),
            "size": tree.size,
        }
        self._write_line(canonical_json(record) + b"\n")
        self._tree, self._prev = tree, leaf.hex()
        self.entries.append(entry)
        self._write_head(time)
        return entry

    def _write_line(self, line: bytes) -> None:
        before = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, line)
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, before)  # a full disk must not leave half a line before the next one
            raise

    def _write_head(self, time: str) -> None:
        size, root = self._tree.size, self._tree.root().hex()
        signature = self._key.sign(_statement(size, root, time)).hex()
        head = {"size": size, "root": root, "time": time, "sig": signature}
        write_atomic(self._head, canonical_json(head) + b"\n", mode=0o644)

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)
