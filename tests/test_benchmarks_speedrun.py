"""The first and the last generation of a speed run, trained again on fresh seeds."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("optuna")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import speedrun
from benchmarks.speedrun import MEASURES, generations, measure, ratios, table

from upwright.bodies.body import Body
from upwright.errors import ProjectError
from upwright.project import Project
from upwright.testing import sprints

HOME = Path(__file__).parents[1] / "examples" / "speedrun"


def one(flops: float, reached: bool = True) -> dict[str, Any]:
    """What a training did."""
    return {
        **dict.fromkeys(MEASURES, flops),
        "reached": reached,
        "loss": 0.9 if reached else None,
        "tokens": 5,
        "steps": 3,
    }


def test_ratios_are_geometric_means_over_the_seeds_on_which_both_reached_the_loss() -> None:
    rows = [{"first": one(8.0), "last": one(2.0)}, {"first": one(9.0), "last": one(1.0)}]
    cut = {"first": one(100.0), "last": one(1.0, reached=False)}
    found = ratios([*rows, cut], ("flops",))["flops"]
    assert found["mean"] == pytest.approx(6.0)
    assert found["low"] < 4 < 9 < found["high"]
    assert ratios([rows[0], cut], ("flops",)) == {"flops": {"mean": 4.0}}
    assert ratios([cut]) == {}
    assert table([cut]).count("not reached") == 1


def test_a_project_that_was_not_run_is_told(tmp_path: Path) -> None:
    shutil.copytree(HOME, tmp_path / "speedrun", ignore=shutil.ignore_patterns(".upwright", "champion"))
    with pytest.raises(ProjectError, match="no generation yet"):
        generations(Project.open(tmp_path / "speedrun"))


def test_both_are_trained_from_the_same_fresh_seeds_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "speedrun"
    shutil.copytree(HOME, project, ignore=shutil.ignore_patterns(".upwright", "champion"))
    tasks = project / "tasks" / "speedrun.py"
    tasks.write_text(tasks.read_text().replace("LOSS = 0.9", f"LOSS = {sprints.LOSS}"))
    cheap = replace(sprints.RECIPE, learning_rate=4e-3)
    bodies = {"first": sprints.write(tmp_path / "a"), "last": sprints.write(tmp_path / "b", recipe=cheap)}

    def given(project: Project, last: str) -> dict[str, Body]:
        return bodies

    monkeypatch.setattr(speedrun, "generations", given)
    found = measure(project, seeds=2)
    said = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["seed 0, first", "seed 0, last", "seed 1, last", "seed 1, first"]
    assert found["reached"] == {"first": 2, "last": 2}
    assert len({row["seed"] for row in found["all"]}) == 2
    assert set(found["first over last"]) == set(MEASURES)
    assert found["first over last"]["flops"]["mean"] > 1
    for row in found["all"]:
        for name in ("first", "last"):
            assert row[name]["wall seconds"] >= row[name]["training seconds"] > 0
    assert json.loads(json.dumps(found)) == found
    assert len(table(found["all"]).splitlines()) == 5
