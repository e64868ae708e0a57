"""Suites whose answers are programs: the practice side, what the warden takes, and both through real cells."""

import hashlib
import json
import sys
import threading
from dataclasses import replace

import pytest

from upwright.bodies.body import Body
from upwright.errors import TaskError
from upwright.evaluate import evaluate
from upwright.project import SuiteSettings
from upwright.records import Answer, Failure, FailureKind
from upwright.tasks import Suite, load_source
from upwright.tasks import evaluator as source_module
from upwright.tasks.base import Evaluator
from upwright.tasks.evaluator import EvaluatorFolder, close_judges, judge, sealed_spec, texts
from upwright.tasks.fields import task_from
from upwright.tasks.suite import open_suites
from upwright.testing.sources import SourceContract
from upwright.warden import evaluator as warden_evaluator
from upwright.warden import ledger
from upwright.warden.audit import verify_home
from upwright.warden.buckets import bucket, run_input
from upwright.warden.canon import tree_digest
from upwright.warden.door import found
from upwright.warden.errors import GraderError
from upwright.warden.evaluator import Judge
from upwright.warden.isolation import Ending
from upwright.warden.kernel import Warden
from warden.cells import FakeCells, ended, says
from warden.world import drive

SPEC = 'metric = "value"\n[metrics.noise]\ndirection = "min"\n'
EVALUATOR = """
import importlib.util
import random

def evaluate(path):
    spec = importlib.util.spec_from_file_location("candidate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"value": module.value(), "noise": random.random()}
"""


def write(root, spec=SPEC):
    place = root / "tasks" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    (place / "evaluator.toml").write_text(spec)
    (place / "evaluator.py").write_text(EVALUATOR)
    return "tasks/bench"


class TestEvaluatorFolder(SourceContract):
    source = EvaluatorFolder()
    bad = {
        "": "no such folder",
        "nowhere": "no such folder",
        "empty": "no readable evaluator.toml",
        "wrong": "known keys",
    }

    def good(self, root):
        return write(root)

    def test_bad_specs_say_what_is_wrong(self, tmp_path):
        for name, text in (("empty", None), ("wrong", "a = 1")):
            (tmp_path / name).mkdir()
            if text:
                (tmp_path / name / "evaluator.toml").write_text(text)
        super().test_bad_specs_say_what_is_wrong(tmp_path)


@pytest.fixture
def fake(monkeypatch):
    """Practice judges that run a function."""
    made = []

    def install(run):
        def make(folder, **given):
            made.append(FakeCells(run))
            return Judge(folder, cells=made[-1], whole=given["whole"])

        monkeypatch.setattr(warden_evaluator, "Judge", make)
        return made

    yield install
    close_judges()
    assert all(cells.closed for cells in made)


def suite_of(tmp_path, spec="tasks/bench"):
    write(tmp_path)
    return Suite("bench", load_source(f"evaluator:{spec}", tmp_path), "salt")


def test_a_task_is_a_commitment_to_a_seed(tmp_path):
    suite = suite_of(tmp_path)
    tasks = suite.draw(8, 1)
    assert len({t.answer for t in tasks}) == 8
    for task in tasks:
        assert task.input == run_input(task.answer)
        assert (task.skill, task.scorer, task.check, task.difficulty) == ("value", {"kind": "program"}, None, 1)
        assert bucket("salt", task.input) == "practice"
        assert str(task.answer) not in task.input
    assert suite.axis is None
    assert suite.passages() == ()
    assert suite.practice_lines() is None
    assert suite.describe() == {
        "name": "bench", "kind": "evaluator", "size": None, "digest": suite.source.sha256, "metric": "value",
    }  # fmt: skip


def test_the_same_folder_may_be_several_suites(tmp_path, fake):
    made = fake(lambda p, s: {"value": 1.0, "noise": 0.0})
    write(tmp_path)
    settings = {"value": SuiteSettings("evaluator:tasks/bench"), "noise": SuiteSettings("evaluator:tasks/bench#noise")}
    suites = open_suites(settings, tmp_path, "salt")
    text = says(1)("")
    assert suites["value"].score(text, suites["value"].draw(1, 0)[0]) == pytest.approx(0.75)
    assert suites["noise"].score(text, suites["noise"].draw(1, 0)[0]) == 0.5
    assert len(made) == 1
    assert suites["value"].source.sha256 == suites["noise"].source.sha256
    assert {t.answer for t in suites["value"].draw(4, 0)}.isdisjoint({t.answer for t in suites["noise"].draw(4, 0)})


def test_a_failed_run_scores_nothing_and_trouble_of_ours_is_a_failure(tmp_path, fake):
    fake(lambda p, s: ended(Ending(p["program.py"])))
    suite = suite_of(tmp_path)
    (task,) = suite.draw(1, 0)
    for ending in Ending:
        fake_program = json.dumps({"program.py": ending})
        result = suite.grade(fake_program, task)
        if ending is Ending.INFRASTRUCTURE:
            assert isinstance(result, Failure)
            assert result.kind is FailureKind.INFRASTRUCTURE
        else:
            assert result == 0.0
    assert suite.grade("no program", task) == 0.0
    assert isinstance(suite.grade(says(1)(""), replace(task, answer="7")), Failure)


def test_a_folder_that_was_changed_is_not_run(tmp_path, fake):
    fake(lambda p, s: {"value": 1.0})
    suite = suite_of(tmp_path)
    (tmp_path / "tasks" / "bench" / "evaluator.py").write_text("def evaluate(path):\n    return {'value': 9}\n")
    with pytest.raises(TaskError, match="was changed"):
        suite.score(says(1)(""), suite.draw(1, 0)[0])
    with pytest.raises(GraderError):
        judge(suite.source)


def test_only_an_evaluator_has_tasks_that_are_programs():
    with pytest.raises(TaskError, match="only the tasks of an evaluator"):
        task_from({"input": "a", "answer": 1, "scorer": "program"}, "line 1")


def test_what_the_warden_takes(tmp_path, monkeypatch):
    source = load_source("evaluator:" + write(tmp_path) + "#noise", tmp_path)
    assert isinstance(source, Evaluator)
    assert sealed_spec(source) == {
        "kind": "evaluator", "path": str(source.folder), "sha256": source.sha256, "metric": "noise",
    }  # fmt: skip
    program = tmp_path / "body" / "program"
    (program / "lib" / "__pycache__").mkdir(parents=True)
    (program / "program.py").write_text("x")
    (program / "lib" / "a.bin").write_bytes(b"\xff")
    (program / "lib" / "__pycache__" / "a.pyc").write_bytes(b"")
    monkeypatch.setenv(source_module.WAIVER, " Ada ")
    spec = Suite("s", source, "salt").sealed_spec()
    assert spec["program"] == texts(program) == {"lib/a.bin": "\udcff", "program.py": "x"}
    assert spec["waiver"] == "Ada"


def test_evaluate_scores_several_programs_at_once(tmp_path, fake, monkeypatch):
    """Two runs that wait for each other: one after the other they would never end."""
    barrier = threading.Barrier(2, timeout=20)

    def run(program, seed):
        barrier.wait()
        return {"value": 1.0}

    fake(run)
    suite = suite_of(tmp_path)
    tasks = suite.draw(4, 0)
    module = sys.modules["upwright.evaluate"]
    monkeypatch.setattr(module, "answer", lambda body, questions, *_: [Answer(q.id, says(1)("")) for q in questions])
    card = evaluate(Body(tmp_path), tasks, 0, suite)
    assert [o.task_id for o in card.outcomes] == [t.id for t in tasks]
    assert card.scores == (0.75,) * 4


# ---- real cells ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A suite with a pool of real cells behind it."""
    suite = suite_of(tmp_path_factory.mktemp("real"))
    try:
        judge(suite.source)
    except GraderError as error:
        pytest.skip(str(error))
    yield suite
    close_judges()


@pytest.mark.parametrize(
    ("code", "score"),
    [
        ("def value():\n    return 1.0\n", 0.75),
        ("def value():\n    return float('nan')\n", 0.0),
        ("def value():\n    return float('inf')\n", 0.0),
        ("def value():\n    return True\n", 0.0),
        ("def value():\n    return 'x'\n", 0.0),
        ("def value():\n    raise SystemExit(0)\n", 0.0),
        ("print('{\"value\": 100}')\n", 0.0),
        ("", 0.0),
        ("def value(:\n", 0.0),
    ],
)
def test_programs_in_real_cells(real, code, score):
    (task,) = real.draw(1, 0)
    assert real.score(json.dumps({"program.py": code}), task) == pytest.approx(score)


def test_a_number_that_lies_about_itself_arrives_as_the_number_that_it_is_or_not_at_all(real):
    lies = "".join(f"    def {name}(self, *o):\n        return 1e9\n" for name in ("__float__", "__add__", "__abs__"))
    code = f"class Lie(float):\n{lies}def value():\n    return Lie(1.0)\n"
    (task,) = real.draw(1, 0)
    assert real.score(json.dumps({"program.py": code}), task) in (0.0, pytest.approx(0.75))


def test_a_project_of_programs_end_to_end(tmp_path, real):
    """Founded with an exact evaluator, a better program promoted, a worse one not, and the ledger verifies."""
    start, better = ({"program.py": f"def value():\n    return {v}\n"} for v in (1.0, 1.5))
    write(tmp_path, 'metric = "value"\nexact = true\n[metrics.noise]\nexact = false\n')
    (tmp_path / "body" / "program").mkdir(parents=True)
    (tmp_path / "body" / "program" / "program.py").write_text(start["program.py"])
    suites = {
        name: Suite(name, load_source(f"evaluator:tasks/bench{rest}", tmp_path), "salt")
        for name, rest in (("value", ""), ("noise", "#noise"))
    }
    charter = 'objective = "value"\nmay_change = ["program/"]\n[protected.noise]\nmargin = 0.5\n[sealed]\nbatch = 8\nn_max = 64\n'
    home = tmp_path / "home"
    genesis, child = (body_of(program) for program in (start, better))
    found(home, charter, {name: suite.sealed_spec() for name, suite in suites.items()}, genesis, "salt")
    warden = Warden(home)
    try:
        test = warden.commit(child, genesis["files"], {"lever": "program"}, genesis["digest"])
        answers = {genesis["digest"]: json.dumps(start), child["digest"]: json.dumps(better)}
        drive(warden, test, {digest: lambda q, text=text: text for digest, text in answers.items()})
        assert warden.verdict(test) == "PROMOTE", ledger.read(home / ledger.FILE)[-1].data["reason"]
    finally:
        warden.close()
    assert verify_home(home).ok


def body_of(program):
    files = {f"program/{path}": hashlib.sha256(text.encode()).hexdigest() for path, text in program.items()}
    return {"digest": tree_digest(files), "files": files}
