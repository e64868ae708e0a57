"""``upwright evolve`` from the command to what was proven: real cells, the real search, the real gate."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from cli.conftest import Cli
from upwright.lineage import read_lineage
from upwright.project import Project
from upwright.web.programs import archives

PROGRAM = """\
# EVOLVE-BLOCK-START
A = 1.0
B = -2.0


def predict(x):
    return A * x + B
# EVOLVE-BLOCK-END
"""
EVALUATOR = """\
import importlib.util


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return {"error": sum((program.predict(x) - (3 * x + 1)) ** 2 for x in range(-3, 4)), "size": 2.0}
"""
pytestmark = pytest.mark.timeout(900)  # seconds of work, but a busy machine may take minutes for them
FIRST = 175.0
"""Its error: 4 times the sum of x², and 7 times 3 squared."""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "evaluator.py").write_text(EVALUATOR)
    return folder


def words(toy: Path, *more: object) -> list[object]:
    return ["evolve", toy, "--metric", "error", "--minimise", "-o", toy.parent / "out", "--minutes", 10, *more]


def test_from_the_command_to_a_promotion_and_back(cli: Cli, toy: Path, tmp_path: Path) -> None:
    said = cli(*words(toy, "--candidates", 30))
    assert said.code == 0, said.err
    assert f"error = {FIRST:g} in each of 5 runs, bit for bit" in said.out
    assert "search 1: search for a better program, up to 30 candidates" in said.out
    assert "30 candidates run on practice, 1 tested by the warden, 1 kept" in said.out
    root = tmp_path / "out"
    line = read_lineage(Project.open(root))
    first, kept = line.generations
    assert (line.tests, kept.lever, kept.changed) == (1, "program", ("program/program.py",))
    (metric,) = kept.metrics
    assert metric.exact
    assert (metric.former, metric.n) == (FIRST, 3)
    assert metric.child is not None
    assert metric.child < FIRST
    assert kept.evidence is not None
    assert "measured again" in kept.evidence.weight
    assert f"proven: error {metric.told.removeprefix('error ')} (less is better; in each of 3 fresh runs)" in said.out
    assert f"the best program is {root}/champion/program/program.py" in said.out
    best = (root / "champion" / "program" / "program.py").read_text()
    assert best != PROGRAM
    assert (best.splitlines()[0], best.splitlines()[-1]) == ("# EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-END")
    assert (toy / "program.py").read_text() == PROGRAM  # the one that was pointed at stays as it is
    assert "ledger verifies" in cli("verify", project=root).out
    for words_, told in (
        (("report",), f"brought {metric.name} from {FIRST:g}"),
        (("show", 1), metric.told),
        (("diff", 0, 1), "-A = 1.0"),
        (("status",), metric.told),
    ):
        assert told in cli(*words_, project=root).out
    assert "not confirmed" not in cli("report", project=root).out
    assert cli("rollback", 0, "--by", "ada", project=root).code == 0
    assert (root / "champion" / "program" / "program.py").read_text() == PROGRAM
    assert read_lineage(Project.open(root)).champion == first.digest


def test_after_kill_9_the_same_command_goes_on(cli: Cli, toy: Path, tmp_path: Path) -> None:
    command = [str(word) for word in words(toy, "--candidates", 40)]
    started = subprocess.Popen(
        [sys.executable, "-c", "from upwright.cli import main; main()", *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    root, ends = tmp_path / "out", time.monotonic() + 400
    try:
        while len(before := measured(root)) < 8:
            assert started.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < ends
            time.sleep(0.02)
    finally:
        os.kill(started.pid, signal.SIGKILL)
        started.wait()
    assert len(before) < 40
    said = cli(*command, "--json")
    assert said.code == 0, said.err
    assert said.out.splitlines()[0].startswith('{"told": "out is there already: it goes on"')
    after = measured(root)
    assert len(after) == 40
    assert before.items() <= after.items()  # what was measured stays, and was not measured again
    assert said.json["candidates"] == 40
    assert said.json["proven"]
    assert said.json["after"] < said.json["before"] == FIRST
    assert "ledger verifies" in cli("verify", project=root).out


def measured(root: Path) -> dict[int, tuple[str, int]]:
    """Number of each placed candidate → its digest and when it was placed; none while there is no archive."""
    if not (root / "upwright.toml").is_file():
        return {}
    for path in archives(Project.open(root)):
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
                rows = db.execute("SELECT number, digest, event FROM candidate WHERE event IS NOT NULL")
                return {number: (digest, event) for number, digest, event in rows}
        except sqlite3.Error:
            continue
    return {}


def test_nothing_is_gained_where_nothing_can_be(cli: Cli, toy: Path) -> None:
    (toy / "evaluator.py").write_text("def evaluate(program_path):\n    return {'error': 1.0}\n")
    said = cli(*words(toy, "--candidates", 12))
    assert said.code == 0, said.err
    assert "nothing was proven better than the first program (error, less is better)" in said.out
    assert "0 tested by the warden, 0 kept" in said.out
    assert "the first program is" in said.out


def test_a_program_that_fails_is_told_with_its_last_words(cli: Cli, toy: Path, tmp_path: Path) -> None:
    (toy / "program.py").write_text(PROGRAM.replace("A * x", "missing * x"))
    said = cli(*words(toy))
    assert said.code == 2
    assert "the first program has no score" in said.err
    assert "missing" in said.err
    assert not (tmp_path / "out").exists()


def test_a_waiver_is_signed(cli: Cli, toy: Path) -> None:
    said = cli(*words(toy, "--waive-isolation"))
    assert said.code == 2
    assert "signed by a person" in said.err


def test_candidates_of_a_project_that_the_clock_bounds(cli: Cli, toy: Path, tmp_path: Path) -> None:
    from upwright.evolving import Wish, begin, rounds

    project = begin(Wish(toy, metric="error", output=tmp_path / "out"))
    assert rounds(project, None) is None
    said = cli(*words(toy, "--candidates", 12))
    assert said.code == 2
    assert "end by the clock" in said.err
    assert json.loads(cli("status", "--json", project=project.root).out)["founded"] is True
