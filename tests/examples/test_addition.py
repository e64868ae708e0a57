"""The addition project: its sums, its settings, and a whole build of it with a network of a few hundred weights."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from upwright.bodies.architecture import Architecture
from upwright.bodies.body import Body, Training, parse_toml
from upwright.bodies.curriculum import Curriculum
from upwright.bodies.store import Store
from upwright.founding import found, needs_network
from upwright.levers import instances, may_use
from upwright.practice import Remainder
from upwright.project import Project
from upwright.tasks import Suite, load_source
from upwright.warden.charter import Charter

HOME = Path(__file__).parents[2] / "examples" / "addition"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite("addition", load_source("tasks/addition.py", HOME), "salt")


def test_every_sum_is_right_reversed_and_a_digit_longer(suite: Suite) -> None:
    for task in (*suite.draw(300, 0), *suite.at(1, 20, 0), *suite.at(70, 3, 0)):
        a, b = task.input.removesuffix("=").split("+")
        assert int(a[::-1]) + int(b[::-1]) == int(task.answer[::-1])
        assert max(len(a), len(b)) == task.difficulty == len(task.answer) - 1
        assert a[-1] != "0" != b[-1], "no number begins with a zero"
        if task.difficulty > 6:
            assert len(a) == len(b)


def test_sums_have_all_lengths_and_labels_end_at_six(suite: Suite) -> None:
    exam = suite.draw(400, 1)
    assert {t.difficulty for t in exam} == set(range(1, 41))
    labelled = Remainder(suite, exam).draw(600, 2)
    assert {t.difficulty for t in labelled} == set(range(1, 7))
    assert len({len(t.input) for t in labelled if t.difficulty == 5}) == 5, "the other number may be shorter"
    problems = suite.problems(25, 20, 0)
    assert all(len(p.input) == 52 for p in problems)
    assert not {p.input for p in problems} & {t.input for t in suite.at(25, 200, 0)}


def test_it_ships_without_weights_and_may_be_founded(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    body = Body(HOME / "body")
    assert needs_network(body)
    assert not (HOME / "body" / "model").exists()
    project = small(tmp_path)
    genesis = Store(project.state / "store").get(found(project))
    assert {"model/config.json", "model/model.safetensors", "model/tokenizer.json"} <= set(genesis.files)
    assert genesis.note["network"].endswith(" weights, untrained")
    assert not (project.body_path / "model").exists(), "what a person wrote stays as it was"
    again = small(tmp_path / "again")
    assert found(again) == genesis.digest, "the same seed, the same network"
    other = small(tmp_path / "other", ("upwright.toml", "seed = 0", "seed = 1"))
    assert found(other) != genesis.digest


def test_an_alphabet_that_cannot_write_the_tasks_is_told_at_the_founding(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    project = small(tmp_path, ("body/architecture.toml", '"0123456789+="', '"0123456789="'))
    with pytest.raises(Exception, match=r"\+"):
        found(project)


@pytest.mark.parametrize("folder", ["body", "gpu"])
def test_the_settings_can_be_read_and_fit_each_other(folder: str) -> None:
    shape = parse_toml((HOME / folder / "architecture.toml").read_text(), Architecture, folder)
    recipe = parse_toml((HOME / folder / "training.toml").read_text(), Training, folder)
    plan = parse_toml((HOME / folder / "curriculum.toml").read_text(), Curriculum, folder)
    assert (shape.positions, shape.tokenizer, recipe.weights) == ("none", "character", "full")
    assert recipe.steps == plan.first_steps
    most = tomllib.loads((HOME / "body" / "inference.toml").read_text())["max_tokens"]
    assert most > 2 * 41, "room for the frontier beyond the sealed sums"
    assert shape.context >= 3 * (most - 2) + 6
    charter = Charter.parse((HOME / "charter.toml").read_text())
    (lever,) = instances({}, Project.open(HOME).settings.levers).values()
    assert may_use(lever, charter.may_change, trainable=True, minimum_rung=charter.minimum_rung)


def small(root: Path, *edits: tuple[str, str, str]) -> Project:
    """The project with a tiny network and next to no training."""
    shutil.copytree(HOME, root / "addition", ignore=shutil.ignore_patterns(".upwright", "champion"))
    tiny = {
        "body/architecture.toml": {"layers": 1, "width": 16, "feed_forward": 16},
        "body/training.toml": {"batch": 8},
        "body/curriculum.toml": {"labelled": 60, "first_steps": 3, "steps": 2, "look": 4, "probe": 8},
        "body/inference.toml": {"max_tokens": 8},
        "upwright.toml": {"practice": 8, "screen": 8, "frontier": 4, "workers": 0},
    }
    for name, settings in tiny.items():
        path = root / "addition" / name
        for key, value in settings.items():
            text, found = re.subn(rf"(?m)^{key} = [^ \n]+", f"{key} = {value}", path.read_text())
            assert found == 1, (name, key)
            path.write_text(text)
    for name, old, new in edits:
        path = root / "addition" / name
        assert old in path.read_text(), old
        path.write_text(path.read_text().replace(old, new))
    return Project.open(root / "addition")


def test_a_round_of_it_runs_from_nothing(tmp_path: Path) -> None:
    """The real trainer and the real runtime. A network like this learns nothing, and the screen says so."""
    pytest.importorskip("torch")
    from upwright.loop import Limits, run

    line = run(small(tmp_path), limits=Limits(rounds=1))
    (candidate,) = line.candidates
    assert candidate.lever == "curriculum"
    assert candidate.digest is not None, candidate.why
    assert "screened out" in candidate.why
    first = line.generations[0]
    assert first.frontier is not None
    assert [f.level for f in first.frontier.frontiers] == [0, 0]
