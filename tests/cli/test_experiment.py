from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

import runs
from cli.conftest import Cli

ARMS = [
    {"name": "as it is"},
    {"name": "more words", "files": {"prompt.md": "manners = 0.8\nwords = 0.9\n"}},
    {"name": "fewer", "files": {"prompt.md": "manners = 0.8\nwords = 0.1\n"}},
]
PLAN = {"question": "Do more words help?", "tasks": 40, "repeats": 2, "arms": ARMS}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return runs.copy(tmp_path / "demo").root


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "my.toml"
    path.write_text(tomli_w.dumps(PLAN))
    return path


def test_an_answer_a_table_and_a_picture(cli: Cli, root: Path, plan: Path, tmp_path: Path) -> None:
    said = cli("experiment", plan, "--by", "Ada", "--picture", tmp_path / "copy.svg", project=root)
    assert said.code == 0, said.err
    assert "Yes: 'more words' does better than 'as it is'" in said.out
    rows = [line.split() for line in said.out.splitlines() if line.startswith(("as it is", "more words", "fewer"))]
    assert [row[0] for row in rows] == ["as", "more", "fewer"]
    assert rows[1][-1] == "helps"
    (place,) = (root / ".upwright" / "experiments").iterdir()
    picture = (place / "picture.svg").read_text()
    assert picture.startswith("<svg")
    assert picture == (tmp_path / "copy.svg").read_text()
    assert "more words" in picture
    assert picture.count("<g>") == 2
    told = f"upwright tell {place}/arms/more-words"
    assert told in said.out
    again = cli("experiment", plan, "--json", project=root)
    assert again.json["result"]["findings"][1]["says"] == "helps"
    assert again.json["picture"] == str(place / "picture.svg")
    promoted = cli("tell", place / "arms" / "more-words", project=root)
    assert promoted.code == 0, promoted.err


def test_what_was_found_so_far(cli: Cli, root: Path, plan: Path) -> None:
    assert "no experiment yet" in cli("experiment", project=root).out
    cli("experiment", plan, project=root)
    said = cli("experiment", project=root).out
    assert "Do more words help?" in said
    assert "Yes: 'more words'" in said
    (one,) = cli("experiment", "--json", project=root).json["results"]
    assert one["question"] == "Do more words help?"


def test_an_example_to_begin_with(cli: Cli, root: Path, tmp_path: Path) -> None:
    shown = cli("experiment", "--new", project=root)
    assert 'suite = "words"' in shown.out
    assert "skills = []             # only these skills, such as ['words']" in shown.out
    file = tmp_path / "new.toml"
    said = cli("experiment", "--new", file, project=root)
    assert said.code == 0, said.err
    assert file.read_text() == shown.out
    assert cli("experiment", "--new", file, project=root).code == 2, "it is not written over"
    outside = cli("experiment", "--new", "--json", project=tmp_path)
    assert "[[arms]]" in outside.json["example"]


def test_what_is_wrong_is_told(cli: Cli, root: Path, plan: Path, tmp_path: Path) -> None:
    gone = cli("experiment", tmp_path / "gone.toml", project=root)
    assert gone.code == 2
    assert "cannot be read" in gone.err
    plan.write_text(plan.read_text().replace("tasks", "task"))
    wrong = cli("experiment", plan, project=root)
    assert wrong.code == 2
    assert "my.toml: unknown key (got 'task')" in wrong.err
    plain = cli("experiment", "does it help on dates?", project=root)
    assert plain.code == 2
    assert "upwright experiment --new my.toml" in plain.err
    assert cli("experiment", plan, project=tmp_path).code == 2


def test_it_is_on_the_ledger_and_the_ledger_verifies(cli: Cli, root: Path, plan: Path) -> None:
    cli("experiment", plan, "--by", "Ada", project=root)
    book = (root / ".upwright" / "warden" / "ledger.jsonl").read_text()
    assert '"kind":"experiment"' in book
    assert '"by":"Ada"' in book
    assert cli("verify", project=root).code == 0
