from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

import runs
from upwright.bodies.store import Store
from upwright.errors import StorageError, WardenError
from upwright.promote import Pointers, rollback, settle, show_champion, total_gain
from upwright.records import Decision, Verdict
from upwright.warden.errors import Refusal


def test_only_the_word_promotes() -> None:
    for decision in (Decision.REJECT, Decision.INSUFFICIENT):
        assert not settle(None, Verdict(1, decision), "c", lambda *_: pytest.fail("asked"))  # type: ignore[arg-type]


def test_the_champion_is_shown_and_shown_again(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    line = runs.go(project, rounds=1)
    store = Store(project.state / "store")
    genesis = line.generations[0].digest
    leftover = project.root / ".champion.new"
    leftover.mkdir()
    (leftover / "half.txt").write_text("of an earlier, killed attempt")
    show_champion(store, genesis, project.champion_path)
    assert (project.champion_path / "prompt.md").read_bytes() == store.file(store.get(genesis), "prompt.md")
    assert {p.name for p in project.champion_path.iterdir()} == {"model.toml", "prompt.md"}
    assert not leftover.exists()


def test_a_disk_that_cannot_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = runs.copy(tmp_path / "demo")
    champion = runs.go(project, rounds=1).champion

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr("upwright.bodies.blobs.clone", full)
    with pytest.raises(StorageError):
        show_champion(Store(project.state / "store"), champion, project.champion_path)
    assert project.champion_path.is_dir()


def test_rollback_checks_every_byte_first(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    line = runs.go(project, rounds=1)
    genesis = line.generations[0].digest
    store = Store(project.state / "store")
    with runs.inside(project) as warden:
        with pytest.raises(WardenError, match="champion already"):
            rollback(warden, store, line.champion, "why not")
        blob = store.blobs.path(store.get(genesis).files["prompt.md"])
        good = blob.read_bytes()
        blob.chmod(0o600)
        blob.write_bytes(b"words = 1\n")
        with pytest.raises(StorageError, match="no longer matches"):
            rollback(warden, store, genesis, "it was better")
        blob.write_bytes(good)
        assert rollback(warden, store, genesis[:12], "it was better") == genesis
        assert warden.status()["champion"] == genesis


def test_no_total_gain_of_the_first_body(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    with runs.inside(project) as warden, pytest.raises(Refusal, match="still the first body"):
        total_gain(warden, lambda *_: pytest.fail("asked"))


def test_the_champion_is_asked_for_only_when_the_ledger_has_grown(tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    runs.go(project, [runs.BETTER], rounds=1)
    with runs.inside(project) as warden:
        asked = []

        class Counted:
            def status(self) -> dict[str, object]:
                asked.append(1)
                return warden.status()  # type: ignore[no-any-return]

        pointers = Pointers(Counted(), project.warden)  # type: ignore[arg-type]
        first = pointers.status()
        assert pointers.status() == first
        assert len(asked) == 1
        warden.rollback(first["genesis"], "Ada", "I liked it better before")
        assert pointers.status()["champion"] == first["genesis"] != first["champion"]
        assert len(asked) == 2
    away = Pointers(Counted(), tmp_path / "nowhere")  # type: ignore[arg-type]
    with runs.inside(project) as warden:
        assert away.status() == away.status()
    assert len(asked) == 4, "without a ledger to look at, it asks"
