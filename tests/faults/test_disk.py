"""A full disk, a read-only project, a damaged file: one clear error, nothing lost, and the next run goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import runs
from faults.processes import coached, fork
from upwright.bodies import blobs
from upwright.cli import main
from upwright.errors import StorageError
from upwright.project import Journal, Project, write_atomic
from upwright.warden import ledger


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of one megabyte or so; ``None`` where one may not be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", disk], capture_output=True)
    yield None if made.returncode else disk
    if made.returncode == 0:
        subprocess.run(["umount", "--lazy", disk], check=True)


def start(project: Project, log: Path, *arguments: str) -> tuple[int, str]:
    """One start of the command line; exit code, and what it said."""
    log.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        coached(patch)
        code = fork(lambda: main(["--project", str(project.root), "run", *arguments]), log)
    return code, log.read_text()


def test_a_full_disk_at_any_moment(small: Path | None, tmp_path: Path) -> None:
    """The disk fills up at ever later moments; each time there is one error, and with room the run goes on."""
    if small is None:  # the tests below make believe
        return
    project = runs.copy(small / "demo")
    ballast = small / "ballast"
    codes = []
    for kilobytes in (0, 40, 90, 140):
        free = shutil.disk_usage(small).free
        ballast.write_bytes(bytes(max(0, free - kilobytes * 1024)))
        code, said = start(project, tmp_path / "out.log", "--rounds", "1")
        codes.append(code)
        assert "Traceback" not in said, said
        assert code == 0 or "error:" in said
        ballast.unlink()
    assert set(codes) <= {0, 6}, (codes, said)
    assert 6 in codes
    code, said = start(project, tmp_path / "out.log")
    assert code == 0, said
    runs.check(project)
    reference = runs.copy(tmp_path / "reference")
    runs.go(reference)
    assert runs.journal(project) == runs.journal(reference)
    assert runs.evidence(project) == runs.evidence(reference)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("verb", ["evaluate", "build", "prove", "promote"])
def test_no_space_inside(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = runs.copy(tmp_path / "demo")
    with monkeypatch.context() as patch:
        write = Journal.write

        def fill(self: Journal, name: str, round_: int, data: dict[str, object], **how: bool) -> None:
            write(self, name, round_, data, **how)
            if name == {"evaluate": "none", "build": "propose", "prove": "build", "promote": "prove"}[verb]:
                begin()

        def begin() -> None:
            patch.setattr(blobs, "_place", full)
            patch.setattr(blobs, "fsync", full)
            patch.setattr("upwright.bodies.store.fsync", full)
            patch.setattr(shutil, "copyfile", full)
            patch.setattr(blobs, "clone", full)

        patch.setattr(Journal, "write", fill)
        if verb == "evaluate":
            begin()
            shutil.rmtree(project.state / "store" / "checkouts")
            (project.state / "store" / "checkouts").mkdir()
            patch.setattr(blobs, "link", full)
        with pytest.raises(StorageError) as caught:
            runs.go(project)
        assert caught.value.todo
    assert runs.whys(runs.go(project, rounds=1))[0] == "PROMOTE"
    runs.check(project)


def test_a_warden_that_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = runs.copy(tmp_path / "demo")
    from upwright.warden.errors import Refusal

    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise Refusal("the warden cannot write", code="disk", value="No space left on device", todo="free space")

        patch.setattr("upwright.warden.kernel.Warden.commit", refuse)
        with pytest.raises(StorageError, match="cannot write"):
            runs.go(project)
    assert runs.whys(runs.go(project, rounds=1)) == ["PROMOTE"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Project]:
    project = runs.copy(tmp_path / "demo")
    runs.go(project, rounds=1)
    bound = subprocess.run(["mount", "--bind", project.root, project.root], capture_output=True)
    folders = [project.root, *(p for p in project.root.rglob("*") if p.is_dir()), *project.state.glob("*.db*")]
    if bound.returncode == 0:
        subprocess.run(["mount", "-o", "remount,ro,bind", project.root], check=True)
    else:  # not root: then permissions do
        for path in folders:
            path.chmod(0o500 if path.is_dir() else 0o400)
    yield project
    if bound.returncode == 0:
        subprocess.run(["umount", "--lazy", project.root], check=True)
    else:
        for path in folders:
            path.chmod(0o700)


def test_a_read_only_project(read_only: Project, tmp_path: Path) -> None:
    code, said = start(read_only, tmp_path / "out.log")
    assert code == 6, said
    assert "Traceback" not in said
    assert "→" in said
    with pytest.raises(StorageError):
        write_atomic(read_only.root / "charter.toml", b"")


def test_a_journal_of_rubbish(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    (project.state / "run.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(StorageError, match="journal"):
        runs.go(project)


def test_a_damaged_champion_is_not_run(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    champion = runs.go(project, rounds=1).champion
    record = project.state / "store" / "generations" / f"{champion}.json"
    record.write_bytes(record.read_bytes().replace(b"prompt.md", b"prompt.mb"))
    with pytest.raises(StorageError, match="does not match its digest"):
        runs.go(project)


def test_the_ledger_is_never_behind_its_head(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    runs.go(project, rounds=1)
    book = project.warden / ledger.FILE
    book.write_bytes(book.read_bytes()[:-40])
    report = ledger.verify(book)
    assert not report.ok
    assert "no newline" in report.problem
