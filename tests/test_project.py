from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import runs
from upwright.errors import CharterError, ProjectError, StorageError, TaskError
from upwright.founding import found
from upwright.project import SCHEMA, Journal, Project, write_atomic


def test_it_is_found_from_inside(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo")
    assert Project.open(project.root / "tasks").root == project.root
    assert str(project.root) in repr(project)
    with pytest.raises(ProjectError, match="no Upwright project") as caught:
        Project.open(tmp_path)
    assert "upwright init" in caught.value.todo


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[run]", "[run", "upwright.toml cannot be read"),
        ("practice = 24", "practise = 24", r"unknown key in \[run\] \(got 'practise'\)"),
        ("[engine]", "[engines]", "unknown key in the top level"),
        ("practice = 24", 'practice = "many"', "practice"),
        ("workers = 0", "worker = 0", r"unknown key in \[engine\]"),
        ('source = "tasks/words.py"', 'sauce = "tasks/words.py"', r"unknown key in \[suites.words\]"),
        ('[suites.words]\nsource = "tasks/words.py"\n[suites.manners]\nsource = "tasks/manners.py"', "", "no suite"),
        ('levers = ["coach"]', "levers = 3", "levers"),
    ],
)
def test_a_wrong_settings_file_is_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    project = runs.write_project(tmp_path / "demo")
    file = project.root / "upwright.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ProjectError, match=said) as caught:
        Project.open(project.root)
    assert caught.value.todo


@pytest.mark.parametrize(
    ("break_it", "kind", "said"),
    [
        (lambda root: (root / "charter.toml").unlink(), CharterError, "charter.toml cannot be read"),
        (lambda root: (root / "charter.toml").write_bytes(b"\xff\xfe"), CharterError, "charter.toml cannot be read"),
        (lambda root: (root / "charter.toml").write_text("objective ="), CharterError, "not TOML"),
        (lambda root: (root / "charter.toml").write_text('objektive = "words"'), CharterError, "objektive"),
        (lambda root: (root / "charter.toml").write_text('objective = "verbs"'), CharterError, "verbs"),
        (lambda root: (root / "tasks" / "words.py").unlink(), TaskError, "words.py"),
        (lambda root: (root / "tasks" / "words.py").write_text("def generate(seed:"), TaskError, "line 1"),
        (lambda root: (root / "tasks" / "words.py").write_text("x = 1"), TaskError, "no function generate"),
        (lambda root: (root / "body" / "prompt.txt").write_text("hm"), ProjectError, "no such part"),
    ],
)
def test_what_a_first_run_cannot_use_is_told(tmp_path: Path, break_it: object, kind: type, said: str) -> None:
    project = runs.write_project(tmp_path / "demo")
    break_it(project.root)  # type: ignore[operator]
    with pytest.raises(kind, match=said):
        found(Project.open(project.root))
    assert not (project.warden).exists(), "founded whole, or not at all"


def test_the_journal_keeps_and_forgets(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.db") as book:
        for round_ in range(1, 6):
            book.write("build", round_, {"child": f"c{round_}", "record": {"core": f"k{round_ % 3}"}})
            book.write("promote", round_, {"n": round_})
        book.write("promote", 5, {"n": "again"})
        assert [r for r, _, _ in book.rows("promote", after=3)] == [4, 5]
        assert [row["n"] for _, _, row in book.rows("promote", last=2)] == [4, "again"]
        assert book.next_round() == 6
        assert book.built_before("k1", 4)
        assert not book.built_before("k1", 1)
        assert not book.built_before("k0", 3)
        book.forget(5)
        assert book.read("promote", 5) is None
        assert book.next_round() == 5
        book.spend(1.5, 10, 0.25)
        book.spend(1.0)
        assert book.spent() == {"seconds": 2.5, "tokens": 10.0, "money": 0.25}
    book.close()


def test_a_journal_of_another_version_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "run.db")
    db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    db.close()
    with pytest.raises(ProjectError, match="schema"):
        Journal(tmp_path / "run.db")


def test_a_closed_journal_is_a_storage_error(tmp_path: Path) -> None:
    book = Journal(tmp_path / "run.db")
    book.close()
    for action in (lambda: book.write("build", 1, {}), lambda: book.spend(1.0), lambda: book.forget(1)):
        with pytest.raises(StorageError):
            action()


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    with pytest.raises(StorageError):
        write_atomic(tmp_path / "no" / "a", b"")


def test_rows_held_back_share_a_transaction(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with Journal(path) as book, Journal(path) as other:
        book.write("evaluate", 1, {"n": 1}, hold=True)
        book.write("diagnose", 1, {"n": 2}, hold=True)
        assert [other.read(verb, 1) for verb in ("evaluate", "diagnose")] == [None, None]
        book.write("propose", 1, {"n": 3})
        assert [other.read(verb, 1) for verb in ("evaluate", "diagnose", "propose")] == [{"n": 1}, {"n": 2}, {"n": 3}]
        book.write("build", 1, {"n": 4}, hold=True)
        assert book.read("build", 1) == {"n": 4}, "who wrote it reads it"
        assert other.read("build", 1) == {"n": 4}
        book.write("prove", 1, {"n": 5}, hold=True)
        book.forget(1)
        assert [other.read(verb, 1) for verb in ("propose", "prove")] == [None, None]
        book.write("evaluate", 2, {"n": 6}, hold=True)
    with Journal(path) as book:
        assert book.read("evaluate", 2) == {"n": 6}, "the end writes what is left"


def test_the_proposal_and_build_of_a_child(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.db") as book:
        for round_, child in enumerate(("abcd1", "abcd2", "abcd2", None), 1):
            book.write("propose", round_, {"n": round_})
            book.write("build", round_, {"child": child, "n": round_})
        assert book.built("abcd2") == ({"n": 2}, {"child": "abcd2", "n": 2}), "the first one"
        assert book.built("bcd") is None
        with pytest.raises(ProjectError, match="several"):
            book.built("abcd")
