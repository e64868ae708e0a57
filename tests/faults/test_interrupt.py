"""Ctrl-C inside every verb: exit code 130, one line, no traceback, and the next run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

import runs
from faults.processes import INTERRUPT, before_its_row, coached, fork, somewhere_in
from upwright.cli import main
from upwright.project import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_interrupted_inside(verb: str, tmp_path: Path) -> None:
    project = runs.copy(tmp_path / "demo")
    log = tmp_path / "out.log"
    inside = before_its_row(verb, INTERRUPT) if verb in ("propose", "diagnose") else somewhere_in(verb, INTERRUPT, 0)
    with pytest.MonkeyPatch.context() as patch:
        coached(patch, inside)
        code = fork(lambda: main(["--project", str(project.root), "run", "--rounds", "1"]), log)
    said = log.read_text()
    assert code == 130, said
    assert "Traceback" not in said
    assert "stopped" in said
    with pytest.MonkeyPatch.context() as patch:
        coached(patch)
        code = fork(lambda: main(["--project", str(project.root), "run", "--rounds", "1"]), log)
    assert code == 0, log.read_text()
    assert len(runs.journal(project)["promote"]) in (1, 2)
    runs.check(project)
