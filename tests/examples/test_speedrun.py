"""The speed-run project: its text, its settings, and a round of it with a network of some hundred weights."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from upwright.bodies.body import Body
from upwright.founding import needs_network
from upwright.levers import instances, may_use
from upwright.project import Project
from upwright.tasks import Suite, load_source
from upwright.warden.charter import Charter

HOME = Path(__file__).parents[2] / "examples" / "speedrun"


@pytest.fixture(scope="module")
def suite() -> Suite:
    return Suite("speedrun", load_source("tasks/speedrun.py", HOME), "salt")


def test_the_text_is_what_its_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("speedrun_make", HOME / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    texts = [(HOME / "body" / "model" / f"{name}.txt").read_text() for name in ("train", "held")]
    assert texts == [make.text(make.TRAIN, 0), make.text(make.HELD, 1)]
    shared = set(texts[0].splitlines()) & set(texts[1].splitlines())
    assert len(shared) <= 1, "held-out stories are others (the empty end of the file apart)"


def test_every_task_is_another_seed_and_the_same_aim(suite: Suite) -> None:
    asked = [json.loads(task.input) for task in suite.draw(50, 0)]
    assert len({a["seed"] for a in asked}) == 50
    assert len({(a["loss"], a["flops"]) for a in asked}) == 1


def test_the_score_is_linear_in_the_logarithm_of_the_cost(suite: Suite) -> None:
    (task,) = suite.draw(1, 0)
    worst = json.loads(task.input)["flops"]

    def score(flops: float, reached: bool = True) -> float:
        return suite.score(json.dumps({"reached": reached, "flops": flops}), task)

    assert [score(worst), score(2 * worst), score(worst / 64), score(worst / 999)] == pytest.approx([0, 0, 1, 1])
    assert score(worst / 2) == pytest.approx(1 / 6)
    assert score(worst / 3) - score(worst / 1.5) == pytest.approx(1 / 6), (
        "half the cost counts the same wherever one begins"
    )
    assert score(worst / 64, reached=False) == 0


def test_the_settings_can_be_read_and_fit_each_other() -> None:
    pytest.importorskip("torch")
    from upwright.training.target import Texts, problem

    body = Body(HOME / "body")
    assert body.architecture is not None
    assert problem(body.architecture, body.training, Texts.read(HOME / "body" / "model")) == ""
    assert not needs_network(body), "every answer makes its own"
    charter = Charter.parse((HOME / "charter.toml").read_text())
    assert not any(part.startswith("model") for part in charter.may_change), "who measures, and on what, is fixed"
    (lever,) = instances({}, Project.open(HOME).settings.levers).values()
    assert may_use(lever, charter.may_change, trainable=False, minimum_rung=charter.minimum_rung)


def small(root: Path) -> Project:
    """The project with a tiny network, an easy loss and few seeds."""
    shutil.copytree(HOME, root / "speedrun", ignore=shutil.ignore_patterns(".upwright", "champion"))
    edits = (
        ("body/architecture.toml", "width = 64", "width = 16"),
        ("body/architecture.toml", "layers = 2", "layers = 1"),
        ("body/architecture.toml", "feed_forward = 172", "feed_forward = 32"),
        ("body/training.toml", "batch = 8", "batch = 2"),
        ("body/training.toml", "steps = 240", "steps = 60"),
        ("body/training.toml", "warmup = 0.1", "warmup = 0.5"),
        ("tasks/speedrun.py", "LOSS = 0.9", "LOSS = 3.2"),
        ("tasks/speedrun.py", "WORST = 6.4e11", "WORST = 3e8"),
        ("upwright.toml", "practice = 6", "practice = 2"),
        ("upwright.toml", "screen = 4", "screen = 2"),
        ("upwright.toml", "effort = 1.0", "effort = 0.25"),
        ("upwright.toml", "workers = 1", "workers = 0"),
        ("charter.toml", "batch = 8", "batch = 2"),
        ("charter.toml", "n_max = 48", "n_max = 4"),
    )
    for name, old, new in edits:
        path = root / "speedrun" / name
        assert old in path.read_text(), old
        path.write_text(path.read_text().replace(old, new))
    shutil.copyfile(
        root / "speedrun" / "body" / "model" / "held.txt", root / "speedrun" / "body" / "model" / "train.txt"
    )
    return Project.open(root / "speedrun")


def test_a_round_of_it_runs_with_the_real_engine(tmp_path: Path) -> None:
    """Four sealed seeds are too few for the gate to let anybody in, and enough to see that they are drawn and trained."""
    pytest.importorskip("torch")
    pytest.importorskip("optuna")
    from upwright.loop import Limits, run

    line = run(small(tmp_path), limits=Limits(rounds=1))
    (candidate,) = line.candidates
    assert candidate.lever == "speed"
    assert candidate.digest is not None, candidate.why
    assert candidate.gain is not None
    assert candidate.gain > 0, candidate.why
    assert candidate.decision == "INSUFFICIENT", candidate.why
    assert candidate.evidence is not None
    assert candidate.evidence.objective.n == 4
    assert candidate.evidence.objective.mean is not None
