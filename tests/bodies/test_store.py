from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.bodies import blobs
from upwright.bodies.store import Store
from upwright.bodies.tree import check_path
from upwright.errors import BodyError, ProjectError, StorageError
from upwright.records import Proposal, tree_digest

BIG = 3 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def body(tmp_path: Path) -> Path:
    root = tmp_path / "body"
    (root / "model").mkdir(parents=True)
    (root / "prompt.md").write_text("Answer.\n")
    (root / "inference.toml").write_text("samples = 1\n")
    (root / "model" / "weights.bin").write_bytes(os.urandom(BIG))
    return root


def proposal(parent: str) -> Proposal:
    return Proposal("prompt", {"examples": 2}, "because", "test", parent, 7)


def blob_count(store: Store) -> int:
    return sum(1 for _ in store.blobs.root.glob("*/*"))


def test_put_get_file_and_verify(store: Store, body: Path) -> None:
    first = store.put_body(body, note={"name": "seed"})
    assert first.digest == tree_digest(first.files)
    assert store.get(first.digest) == first == store.get(first.digest[:6])
    assert store.file(first, "prompt.md") == b"Answer.\n"
    store.verify(first.digest)
    assert (body / "model/weights.bin").stat().st_mode & 0o200, "the user's own file stays writable"
    assert store.put_body(body).note == {"name": "seed"}, "the first record of a tree stays"


def test_derive_stores_only_what_changed(store: Store, body: Path) -> None:
    parent = store.put_body(body)
    before = blob_count(store)
    child = store.derive(parent, {"prompt.md": b"Think.\n", "inference.toml": None}, proposal(parent.digest), {"n": 1})
    assert blob_count(store) == before + 1
    assert set(child.files) == {"prompt.md", "model/weights.bin"}
    assert child.parent == parent.digest
    assert store.get(child.digest[:10]) == child
    assert [g.digest for g in store.list()] == [parent.digest, child.digest]
    assert store.derive(parent, {"prompt.md": b"Answer.\n"}) == parent
    assert set(store.derive(child, {"model/": None}).files) == {"prompt.md"}


def test_derive_takes_large_files_by_path(store: Store, body: Path, tmp_path: Path) -> None:
    parent = store.put_body(body)
    new = tmp_path / "new.bin"
    data = os.urandom(BIG)
    new.write_bytes(data)
    small = tmp_path / "small"
    small.write_bytes(b"{}")
    child = store.derive(parent, {"model/weights.bin": new, "model/config.json": small})
    assert store.file(child, "model/weights.bin") == data
    assert new.read_bytes() == data, "the source stays, so a build can resume"
    assert store.derive(parent, {"model/weights.bin": new, "model/config.json": small}) == child
    assert not list(store.blobs.scratch.iterdir())
    out = store.checkout(child.digest) / "model/weights.bin"
    assert store.derive(child, {"model/weights.bin": out}) == child, "a checked-out file is a fine source"
    store.verify(child.digest)


def test_large_files_are_copied_where_links_and_clones_cannot_be_had(
    store: Store, body: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    monkeypatch.setattr(blobs, "clone", lambda *_: False)
    monkeypatch.setattr(os, "link", no_link)
    parent = store.put_body(body)
    child = store.derive(parent, {"model/other.bin": body / "model/weights.bin"})
    store.verify(child.digest)
    checkout = store.checkout(child.digest)
    assert (checkout / "model/other.bin").read_bytes() == (body / "model/weights.bin").read_bytes()


def test_checkout_is_made_once_and_mended(store: Store, body: Path) -> None:
    generation = store.put_body(body)
    one = store.checkout(generation.digest)
    stamp = one.stat().st_ino
    assert store.checkout(generation.digest[:8]) == one
    assert one.stat().st_ino == stamp
    assert not (one / "prompt.md").stat().st_mode & 0o222
    (one / "prompt.md").unlink()
    assert (store.checkout(generation.digest) / "prompt.md").read_text() == "Answer.\n"
    store.sync(generation.digest)
    store.discard_checkout(generation.digest)
    store.discard_checkout(generation.digest)
    assert not one.exists()
    assert store.checkout(generation.digest) == one


def test_export_is_writable_and_refuses_a_full_directory(store: Store, body: Path, tmp_path: Path) -> None:
    generation = store.put_body(body)
    out = store.export(generation.digest, tmp_path / "out")
    (out / "prompt.md").write_text("changed\n")
    store.verify(generation.digest)
    assert store.put_body(out).digest != generation.digest
    with pytest.raises(ProjectError, match="not empty"):
        store.export(generation.digest, out)


def test_gc_keeps_what_is_named(store: Store, body: Path) -> None:
    parent = store.put_body(body)
    child = store.derive(parent, {"prompt.md": b"x" * 1000, "model/weights.bin": None})
    store.checkout(parent.digest)
    store.checkout(child.digest)
    (store.blobs.scratch / "1-1").write_bytes(b"left over")
    freed = store.gc({child.digest})
    assert freed >= BIG
    assert [g.digest for g in store.list()] == [child.digest]
    assert not list(store.blobs.scratch.iterdir())
    assert [c.name for c in (store.root / "checkouts").iterdir()] == [child.digest]
    store.verify(child.digest)
    with pytest.raises(ProjectError, match="no such generation"):
        store.gc({parent.digest})


def test_damage_is_named(store: Store, body: Path) -> None:
    generation = store.put_body(body)
    blob = store.blobs.path(generation.files["prompt.md"])
    blob.chmod(0o644)
    blob.write_text("Evil!!!\n")
    for look in (lambda: store.verify(generation.digest), lambda: store.file(generation, "prompt.md")):
        with pytest.raises(StorageError, match=r"prompt\.md no longer matches"):
            look()
    blob.unlink()
    with pytest.raises(StorageError, match=r"prompt\.md"):
        store.verify(generation.digest)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"digest": 1}'])
def test_a_torn_record_is_an_error_by_name_and_absent_from_the_list(store: Store, body: Path, damage: bytes) -> None:
    parent = store.put_body(body)
    torn = store.derive(parent, {"prompt.md": b"torn"}, durable=False)
    (store.root / "generations" / f"{torn.digest}.json").write_bytes(damage)
    assert [g.digest for g in store.list()] == [parent.digest]
    with pytest.raises(StorageError, match="damaged"):
        store.get(torn.digest)
    assert store.derive(parent, {"prompt.md": b"torn"}) == torn, "building it again mends it"
    store.verify(torn.digest)


def test_a_blob_cut_short_is_written_again(store: Store, body: Path) -> None:
    parent = store.put_body(body)
    child = store.derive(parent, {"prompt.md": b"lazy"}, durable=False)
    blob = store.blobs.path(child.files["prompt.md"])
    blob.unlink()
    blob.write_bytes(b"")
    store.derive(parent, {"prompt.md": b"lazy"})
    store.sync(child)
    store.verify(child.digest)


@pytest.mark.parametrize(
    "path",
    ["", "/prompt.md", "../prompt.md", "model/../x", "model//x", "notes.txt", ".hidden", "model", "model/a\nb", "a\\b"],
)
def test_paths_that_no_body_has(store: Store, body: Path, path: str) -> None:
    parent = store.put_body(body)
    with pytest.raises(BodyError):
        store.derive(parent, {path: b"x"})


def test_bodies_that_cannot_be_stored(store: Store, tmp_path: Path, body: Path) -> None:
    with pytest.raises(BodyError, match="no body directory"):
        store.put_body(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BodyError, match="empty"):
        store.put_body(tmp_path / "empty")
    for name in ("notes.txt", ".env"):
        (body / name).write_text("x")
        with pytest.raises(BodyError, match="no such part"):
            store.put_body(body)
        (body / name).unlink()
    (body / "data").mkdir()
    with pytest.raises(BodyError, match="data/"):
        store.put_body(body)
    (body / "data").rmdir()
    for link, target in (("memory.jsonl", body / "prompt.md"), ("program", body / "model")):
        (body / link).symlink_to(target)
        with pytest.raises(BodyError, match="symbolic"):
            store.put_body(body)
        (body / link).unlink()
    os.mkfifo(body / "model" / "pipe")
    with pytest.raises(BodyError, match="plain files"):
        store.put_body(body)


def test_other_mistakes(store: Store, body: Path, tmp_path: Path) -> None:
    parent = store.put_body(body)
    with pytest.raises(BodyError, match="no file to take"):
        store.derive(parent, {"prompt.md": tmp_path / "nowhere"})
    with pytest.raises(BodyError, match="both a file and a folder"):
        store.derive(parent, {"model/weights.bin/inner": b"x"})
    with pytest.raises(BodyError, match="no such file"):
        store.file(parent, "memory.jsonl")
    for name in ("", "zz", "f" * 64, "*"):
        with pytest.raises(ProjectError, match="no such generation"):
            store.get(name)
    for i in range(40):
        store.derive(parent, {"prompt.md": str(i).encode()}, durable=False)
    crowded, _ = Counter(g.digest[0] for g in store.list()).most_common(1)[0]
    with pytest.raises(ProjectError, match="several"):
        store.get(crowded)


@pytest.mark.parametrize(
    ("code", "text"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")]
)
def test_a_disk_that_refuses(store: Store, body: Path, monkeypatch: pytest.MonkeyPatch, code: int, text: str) -> None:
    parent = store.put_body(body)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match=text) as caught:
        store.derive(parent, {"prompt.md": b"new"})
    assert caught.value.todo
    monkeypatch.undo()
    assert not list(store.blobs.scratch.iterdir())
    store.verify(parent.digest)


WRITER = """
import sys, itertools
from pathlib import Path
from upwright.bodies.store import Store
store = Store(Path(sys.argv[1]))
parent = store.list()[0]
big = Path(sys.argv[1]) / "big"
for i in itertools.count(int(sys.argv[2])):
    big.unlink(missing_ok=True)
    big.write_bytes(str(i).encode() * 400_000)
    g = store.derive(parent, {"prompt.md": str(i).encode() * 1000, "model/x.bin": big}, durable=False)
    store.checkout(g.digest)
    if i % 10 == 9:
        print(i, flush=True)
"""


def test_kill_9_at_any_moment_leaves_a_whole_store(store: Store, body: Path) -> None:
    store.put_body(body)
    for trial in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root), str(trial * 1_000_000)], stdout=subprocess.PIPE
        )
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(0.005 * trial)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    generations = store.list()
    assert len(generations) > 5
    assert len(generations) == len(list((store.root / "generations").iterdir())), "no record is torn"
    for generation in generations:
        store.verify(generation.digest)
        folder = store.checkout(generation.digest)
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(generation.files)
    store.gc({generations[0].digest})
    assert not list(store.blobs.scratch.iterdir())


def test_a_text_change_takes_well_under_a_millisecond(store: Store, body: Path) -> None:
    parent = store.put_body(body)
    times = []
    for i in range(200):
        data = f"variant {i}".encode()
        start = time.perf_counter()
        store.derive(parent, {"prompt.md": data}, proposal(parent.digest), durable=False)
        times.append(time.perf_counter() - start)
    assert sorted(times)[len(times) // 10] < 1e-3  # the best tenth: what it takes when nothing else runs


@given(st.lists(st.text(alphabet="ab./\\\n\0-", max_size=6), max_size=4))
def test_checked_paths_stay_inside(pieces: list[str]) -> None:
    path = "/".join(["model", *pieces])
    try:
        check_path(path)
    except BodyError:
        return
    assert os.path.normpath(os.path.join("/body", path)) == "/body/" + path
