from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import synthetic
from upwright.errors import LedgerError, ProjectError, StorageError
from upwright.lineage import read_lineage
from upwright.lines import Lineage
from upwright.project import Project
from upwright.records import from_json, to_json


@pytest.fixture(scope="module")
def line() -> Lineage:
    return read_lineage(Project.open(synthetic.past()))


def test_generations_are_numbered_by_promotion(line: Lineage) -> None:
    assert [g.number for g in line.generations] == [0, 1, 2, 3]
    assert [g.lever for g in line.generations] == [None, "prompt", "inference", "memory"]
    assert [g.changed for g in line.generations] == [(), ("prompt.md",), ("inference.toml",), ("memory.jsonl",)]
    assert [g.round for g in line.generations] == [None, 1, 4, 6]
    assert all(g.parent == before.digest for before, g in zip(line.generations, line.generations[1:], strict=False))
    assert line.champion == line.generations[3].digest
    assert line.anchor == line.generations[0].digest


def test_scores_come_from_confirmations(line: Lineage) -> None:
    first, second = line.generations[:2]
    assert second.confirmation is not None
    assert first.score == second.confirmation.former
    assert second.score == second.confirmation.child
    for g in line.generations[1:]:
        c = g.confirmation
        assert c is not None
        assert c.gain.mean == pytest.approx(c.child.mean - c.former.mean)
        assert c.gain.interval.low <= c.gain.mean <= c.gain.interval.high
        assert {s.skill for s in g.skills} == {"adding", "subtracting", "multiplying"}


def test_evidence_says_why_it_was_let_in(line: Lineage) -> None:
    for g in line.generations[1:]:
        e = g.evidence
        assert e is not None
        assert e.decision == "PROMOTE"
        assert e.e_value >= e.threshold
        assert e.e_value == pytest.approx(min(c.e_value for c in (e.objective, *e.protected)))
        assert e.objective.n == e.objective.wins + e.objective.losses + e.objective.ties
        assert e.reason.startswith("better after")
    assert {c.versus for c in line.generations[3].evidence.protected} == {"champion", "anchor"}  # type: ignore[union-attr]


def test_costs_count_failures_too(line: Lineage) -> None:
    """The generation of round 4 pays for rounds 2 and 3 as well (from one promotion to the next)."""
    assert line.generations[2].cost.seconds == pytest.approx(3 * 42.5)
    assert line.generations[2].build.seconds == 9.5
    assert line.spent.seconds == pytest.approx(6 * 42.5)
    assert line.spent.tokens == 6 * 13_200


def test_the_vault_is_told(line: Lineage) -> None:
    (opening,) = line.vault
    assert opening.digest == line.champion
    assert opening.total.gain.interval.low > 0.3
    assert line.calibration is not None


def test_names_resolve(line: Lineage) -> None:
    for g in line.generations:
        assert line.resolve(str(g.number)) == line.resolve(g.digest[:10]) == line.resolve(g.digest) == g.digest
    assert line.resolve("champion") == line.champion
    rejected = line.candidates[2].digest
    assert rejected is not None
    assert line.resolve(rejected[:8]) == rejected
    for wrong in ("4", "-1", "", "abc", "nothing"):
        with pytest.raises(ProjectError):
            line.resolve(wrong)


def test_it_is_a_record(line: Lineage) -> None:
    assert from_json(Lineage, to_json(line)) == line


def test_before_the_first_run(tmp_path: Path) -> None:
    synthetic.write_project(tmp_path / "demo")
    line = read_lineage(Project.open(tmp_path / "demo"))
    assert line == Lineage()
    assert not (tmp_path / "demo" / ".upwright").exists()
    with pytest.raises(ProjectError, match="no generation yet"):
        line.resolve("0")


def test_a_run_may_be_going(tmp_path: Path) -> None:
    """Open journal and ledger do not hinder a reader, nor does a torn last line."""
    world = synthetic.World(tmp_path / "demo")
    world.step(synthetic.STEPS[0])
    book = world.project.warden / "ledger.jsonl"
    with book.open("ab") as file:
        file.write(b'{"entry": {"index"')
    line = read_lineage(world.project)
    assert len(line.generations) == 2
    world.step(synthetic.STEPS[1])
    assert len(read_lineage(world.project).candidates) == 2
    world.close()


def test_a_promotion_that_is_not_confirmed_yet(tmp_path: Path) -> None:
    world = synthetic.World(tmp_path / "demo")
    drive, done = world.drive, []

    def once(test: int) -> None:
        if not done:
            drive(test)
        done.append(test)

    world.drive = once  # type: ignore[method-assign]
    world.step(synthetic.STEPS[0])
    world.close()
    line = read_lineage(world.project)
    assert line.generations[1].evidence is not None
    assert line.generations[1].confirmation is None
    assert line.generations[1].score is None


def test_rollback_marks_what_was_left(tmp_path: Path) -> None:
    from upwright.warden.kernel import Warden

    root = synthetic.copy(synthetic.past(), tmp_path / "demo")
    project = Project.open(root)
    before = read_lineage(project)
    warden = Warden(project.warden)
    warden.rollback(before.generations[1].digest, "Ada", "too slow")
    warden.close()
    line = read_lineage(project)
    assert line.champion == line.anchor == before.generations[1].digest
    assert [g.rolled_back for g in line.generations] == [False, False, True, True]
    assert line.rollbacks[0].why == "too slow"


def test_damage_is_told(tmp_path: Path) -> None:
    root = synthetic.copy(synthetic.past(), tmp_path / "demo")
    project = Project.open(root)
    for name in ("run.db-wal", "run.db-shm"):
        (project.state / name).unlink(missing_ok=True)
    (project.state / "run.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match="journal"):
        read_lineage(project)
    (project.state / "run.db").unlink()
    book = project.warden / "ledger.jsonl"
    book.write_bytes(b"nonsense\n" + book.read_bytes())
    with pytest.raises(LedgerError, match="verify"):
        read_lineage(project)


def test_a_lost_store_still_leaves_the_evidence(tmp_path: Path) -> None:
    root = synthetic.copy(synthetic.past(), tmp_path / "demo")
    project = Project.open(root)
    shutil.rmtree(project.state / "store" / "generations")
    line = read_lineage(project)
    assert line.generations[3].confirmation is not None
    assert line.generations[3].changed == ()
