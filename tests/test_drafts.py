"""Candidates that are a few texts: screened from memory, stored once they pass, and never lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import runs
from upwright import drafts, jobs
from upwright.bodies.store import Store
from upwright.bodies.tree import files_after
from upwright.drafts import SHORT, Child, recover, texts_of
from upwright.errors import BodyError, ProjectError
from upwright.loop import Limits, run
from upwright.project import Journal, Project
from upwright.records import Cost, tree_digest
from upwright.testing.puppet import Coach
from upwright.warden.door import read_state


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return runs.copy(tmp_path / "demo")


def stored(project: Project) -> set[str]:
    return {g.digest for g in Store(project.state / "store").list()}


def test_what_is_screened_out_is_not_stored_and_can_be_had_again(project: Project) -> None:
    line = runs.go(project, [runs.WORSE], rounds=1)
    (candidate,) = line.candidates
    assert candidate.why.startswith("screened out")
    assert candidate.digest is not None
    assert stored(project) == {line.champion}
    assert [p.name for p in (project.state / "store" / "checkouts").iterdir()] == [line.champion]

    store = Store(project.state / "store")
    found = recover(project, store, candidate.digest[:12])
    assert found.digest == candidate.digest == tree_digest(found.files)
    assert store.file(found, "prompt.md") == b"manners = 0.8\nwords = 0.05\n"
    assert (found.parent, found.note["rung"]) == (line.champion, "execution")
    assert found.proposal is not None
    assert found.proposal.reason == candidate.reason
    assert recover(project, store, candidate.digest) == found
    with pytest.raises(ProjectError, match="no such generation"):
        recover(project, store, "0" * 12)


def test_what_passes_the_screen_is_on_the_disk_before_the_warden_hears_of_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Watched:
        def __init__(self, warden: Any) -> None:
            self.warden = warden

        def __getattr__(self, name: str) -> Any:
            return getattr(self.warden, name)

        def commit(self, child: dict[str, Any], *rest: Any) -> int:
            fresh = Store(project.state / "store")
            fresh.verify(child["digest"])
            with Journal(project.state / "run.db") as book:  # another connection: what a killed run would leave
                row = book.read("build", 1)
            assert row is not None
            assert row["child"] == child["digest"]
            seen.append(child["digest"])
            return int(self.warden.commit(child, *rest))

    with runs.inside(project) as warden:
        line = run(project, levers=[Coach([runs.BETTER])], door=Watched(warden), limits=Limits(rounds=1))  # type: ignore[arg-type]
    assert seen == [line.champion]


def test_a_draft_is_evaluated_like_the_stored_child(project: Project, tmp_path: Path) -> None:
    """The same scorecard from memory as from the disk of another copy, so that no cache is in between."""
    runs.go(project, [runs.WORSE], rounds=1)
    with project.journal as book:
        row = book.read("build", 1)
    assert row is not None
    child = jobs.from_json(Child, row["record"])
    assert child.draft is not None
    other = runs.copy(tmp_path / "other")
    drafts.keep(Store(other.state / "store"), jobs.from_json(jobs.Proposal, proposal(project)), child)

    def quiet(*_: Any) -> None: ...

    from_disk = jobs.evaluate_job(str(other.root), child.digest, "words", (24, 6, 2), progress=quiet)
    from_memory = jobs.evaluate_job(str(project.root), child.digest, "words", (24, 6, 2), child.draft, progress=quiet)
    assert from_disk == from_memory
    assert 0 < len(from_disk.card.outcomes) == 24


def proposal(project: Project) -> Any:
    with project.journal as book:
        return book.read("propose", 1)


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({}, {}),
        ({"prompt.md": b"hm", "inference.toml": None}, {"prompt.md": "hm", "inference.toml": None}),
        ({"prompt.md": "é".encode() * (SHORT // 2)}, {"prompt.md": "é" * (SHORT // 2)}),
        ({"prompt.md": b"x" * SHORT, "memory.jsonl": b"y"}, None),
        ({"prompt.md": b"\xff\xfe"}, None),
        ({"prompt.md": Path("prompt.md")}, None),
        ({"model.toml": b"url = 1"}, None),
        ({"program/a.py": b"1"}, None),
        ({"improver/p.md": None}, None),
    ],
)
def test_which_children_are_drafts(changes: Any, texts: Any) -> None:
    """Short texts that nothing but a body reads; a runtime may look at all the rest."""
    assert texts_of(changes) == texts


def test_what_a_child_would_be_is_what_it_is(project: Project, tmp_path: Path) -> None:
    store = Store(project.state / "store")
    parent = store.get(str(read_state(project.warden)["genesis"]))
    (tmp_path / "code.py").write_text("print(1)")
    for changes in (
        {},
        {"prompt.md": b"words = 1\n"},
        {"prompt.md": None, "memory.jsonl": b""},
        {"program/a/b.py": tmp_path / "code.py", "program/": None},
    ):
        files = files_after(parent, changes)
        assert dict(store.derive(parent, changes, durable=False).files) == files
    for wrong in ({"../x": b""}, {"prompt.txt": b""}, {"program/a": b"", "program/a/b": b""}):
        with pytest.raises(BodyError):
            files_after(parent, wrong)


def test_a_child_too_long_for_the_journal_is_stored_at_once(project: Project) -> None:
    class Verbose(Coach):
        def build(self, parent, proposal, workshop):  # type: ignore[no-untyped-def]
            built = super().build(parent, proposal, workshop)
            return jobs.replace(built, changes={"prompt.md": built.changes["prompt.md"] + b"\n" * SHORT}, cost=Cost())

    with runs.inside(project) as warden:
        line = run(project, levers=[Verbose([runs.WORSE])], door=warden, limits=Limits(rounds=1))
    assert line.candidates[0].digest in stored(project)
    assert line.candidates[0].why.startswith("screened out")
