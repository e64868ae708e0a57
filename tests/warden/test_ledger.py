import hashlib
import json
import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from upwright.warden import ledger
from upwright.warden.errors import LedgerFault
from upwright.warden.ledger import EMPTY, Ledger, Tree, leaf_hash, node_hash, read, verify


@pytest.fixture
def book(tmp_path):
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    (tmp_path / "ledger.pub").write_text(public + "\n")
    b = Ledger(tmp_path, key)
    b.append("founding", {"public_key": public, "genesis": "g", "text": "ünïcode \ud800 \n"})
    for i in range(4):
        b.append("note", {"i": i, "x": 0.1 * i, "n": None})
    b.close()
    return tmp_path, key


def path(folder):
    return folder / ledger.FILE


def reference_root(leaves):
    """RFC 6962 section 2.1, straight from its recursive definition."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return leaves[0]
    k = 1
    while 2 * k < n:
        k *= 2
    return node_hash(reference_root(leaves[:k]), reference_root(leaves[k:]))


def test_the_tree_is_rfc_6962():
    tree, leaves = Tree(), []
    assert tree.root().hex() == EMPTY
    for i in range(70):
        leaves.append(leaf_hash(str(i).encode()))
        tree.add(leaves[-1])
        assert tree.root() == reference_root(leaves)


def test_an_untouched_ledger_verifies(book):
    folder, _ = book
    report = verify(path(folder))
    assert report.ok
    assert report.entries == 5
    assert [e.kind for e in read(path(folder))] == ["founding", *["note"] * 4]


@pytest.mark.parametrize("name", ["ledger.jsonl", "head.json", "ledger.pub"])
def test_every_changed_byte_is_found(book, name):
    """Every byte of each file: flipped in its lowest bit, in its case bit, or replaced at random."""
    folder, _ = book
    file, rng = folder / name, random.Random(5)
    data = file.read_bytes()
    for i in range(len(data)):
        new = rng.choice([data[i] ^ 1, data[i] ^ 0x20, (data[i] + rng.randrange(1, 256)) % 256])
        file.write_bytes(data[:i] + bytes([new]) + data[i + 1 :])
        assert not verify(path(folder)).ok, (name, i, data[i], new)
    file.write_bytes(data)
    assert verify(path(folder)).ok


def test_the_first_broken_entry_is_named(book):
    folder, _ = book
    lines = path(folder).read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b'"i":1', b'"i":7')
    path(folder).write_bytes(b"\n".join(lines))
    report = verify(path(folder))
    assert (report.ok, report.index, report.kind) == (False, 2, "note")
    assert "leaf hash" in report.problem


@pytest.mark.parametrize("edit", ["insert", "remove"])
def test_inserted_and_removed_bytes_are_found(book, edit):
    folder, _ = book
    data = path(folder).read_bytes()
    for i in range(0, len(data), 17):
        changed = data[:i] + b" " + data[i:] if edit == "insert" else data[:i] + data[i + 1 :]
        path(folder).write_bytes(changed)
        assert not verify(path(folder)).ok, i


def test_reordered_cut_and_doubled_lines_are_found(book):
    folder, key = book
    lines = path(folder).read_bytes().splitlines(keepends=True)
    for changed in (
        [*lines[:2], lines[3], lines[2], lines[4]],
        lines[:-1],
        lines[:3],
        lines[:3] + lines[4:],
        [*lines, lines[-1]],
        [],
    ):
        path(folder).write_bytes(b"".join(changed))
        assert not verify(path(folder)).ok
        with pytest.raises(LedgerFault, match="does not verify"):
            Ledger(folder, key)


def test_a_rewritten_ledger_needs_the_key(book):
    """Somebody without the signing key who recomputes every hash still fails at the signature."""
    folder, _ = book
    other = Ed25519PrivateKey.generate()
    for name in ("ledger.jsonl", "head.json"):
        (folder / name).unlink()
    forged = Ledger(folder, other)
    forged.append("founding", {"genesis": "mine"})
    forged.close()
    report = verify(path(folder))
    assert (report.ok, report.index) == (False, 0)
    assert "signature" in report.problem


def test_the_keys_cannot_be_swapped_together(book):
    folder, _ = book
    copy = folder / "elsewhere.pub"
    copy.write_bytes((folder / "ledger.pub").read_bytes())
    other = Ed25519PrivateKey.generate()
    entries = read(path(folder))
    for name in ("ledger.jsonl", "head.json"):
        (folder / name).unlink()
    forged = Ledger(folder, other)
    for e in entries:
        forged.append(e.kind, e.data)
    forged.close()
    (folder / "ledger.pub").write_text(other.public_key().public_bytes_raw().hex() + "\n")
    assert "names another public key" in verify(path(folder)).problem
    assert not verify(path(folder), copy).ok


def test_a_torn_tail_is_dropped_and_noted(book):
    """Killed while the last line was written: every possible length of the torn line."""
    folder, key = book
    data, head = path(folder).read_bytes(), (folder / "head.json").read_bytes()
    b = Ledger(folder, key)
    b.append("note", {"last": True})
    b.close()
    longer = path(folder).read_bytes()
    for cut in range(len(data) + 1, len(longer), 9):
        path(folder).write_bytes(longer[:cut])
        (folder / "head.json").write_bytes(head)
        assert not verify(path(folder)).ok
        b = Ledger(folder, key)
        assert [e.kind for e in b.entries] == ["founding", *["note"] * 4, "recovered"]
        b.close()
        assert verify(path(folder)).ok


def test_a_head_that_lags_one_entry_is_repaired(book):
    folder, key = book
    head = (folder / "head.json").read_bytes()
    b = Ledger(folder, key)
    b.append("note", {})
    b.close()
    (folder / "head.json").write_bytes(head)
    assert verify(path(folder)).ok
    Ledger(folder, key).close()
    assert json.loads((folder / "head.json").read_bytes())["size"] == 6


def test_a_torn_newline_of_an_acknowledged_entry_is_not_repaired(book):
    folder, key = book
    path(folder).write_bytes(path(folder).read_bytes()[:-1])
    with pytest.raises(LedgerFault, match="tail was cut"):
        Ledger(folder, key)


def test_a_full_disk_leaves_no_half_line(book, monkeypatch):
    folder, key = book
    b = Ledger(folder, key)
    before = path(folder).read_bytes()

    def full(fd, data):
        os.write(fd, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger, "write_all", full)
    with pytest.raises(OSError, match="No space"):
        b.append("note", {})
    monkeypatch.undo()
    assert path(folder).read_bytes() == before
    b.append("note", {})
    b.close()
    assert verify(path(folder)).ok


def test_what_is_not_a_ledger(tmp_path):
    assert not verify(tmp_path / "ledger.jsonl").ok
    with pytest.raises(LedgerFault, match="cannot be read"):
        read(tmp_path / "ledger.jsonl")
    (tmp_path / "ledger.jsonl").write_text("hello\n")
    with pytest.raises(LedgerFault, match="not an entry") as e:
        read(tmp_path / "ledger.jsonl")
    assert e.value.index == 0
    (tmp_path / "ledger.pub").write_text("zz\n")
    assert "public key" in verify(tmp_path / "ledger.jsonl").problem


def test_nan_never_gets_on_the_ledger(book):
    folder, key = book
    b = Ledger(folder, key)
    with pytest.raises(ValueError, match="JSON"):
        b.append("note", {"x": float("nan")})
    b.close()
    assert verify(path(folder)).ok
