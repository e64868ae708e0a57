"""Python files, Reasoning Gym, suites, the three distances."""

import json
import sys
from collections import Counter

import pytest

from upwright.errors import MissingExtra, TaskError
from upwright.project import SuiteSettings
from upwright.records import Failure, FailureKind, Task, from_json, to_json
from upwright.tasks import Suite, load_source, register, scorers, sources
from upwright.tasks.base import Generator, Pool
from upwright.tasks.jsonl import render
from upwright.tasks.python import PythonFile, module_of
from upwright.tasks.reasoning_gym import ReasoningGym, parse
from upwright.tasks.suite import open_suites
from upwright.testing.sources import SourceContract
from upwright.warden.buckets import bucket, normalise_input

GENERATE = """
def generate(seed):
    n = seed % 100000
    return {"input": f"double {n}", "answer": str(2 * n), "skill": "double", "scorer": {"kind": "number"}}
"""


def write(root, name, text):
    (root / name).write_text(text)
    return name


BAD_FILES = {
    "def generate(seed:\n": ["line 1", "SyntaxError"],
    "x = 1\nimport nowhere_at_all\n": ["line 2", "ModuleNotFoundError", "nowhere_at_all"],
    "x = 1\n": ["generate(seed)", "tasks()"],
    "def generate(seed):\n    return 1 / 0\n": ["generate(0)", "ZeroDivisionError"],
    "def generate(seed):\n    return {'input': 'a'}\n": ["generate(0)", "'answer'", "missing"],
    "def generate(seed):\n    return 'a'\n": ["generate(0)", "is an object"],
    "import random\ndef generate(seed):\n    return {'input': str(random.random()), 'answer': 1}\n": ["another task", "Random(seed)"],
    "def generate(seed):\n    return {'input': 'a', 'answer': 'x', 'scorer': 'number'}\n": ["'answer'", "own scorer"],
    "def tasks():\n    return []\n": ["tasks()", "list"],
    "def tasks():\n    return [{'input': 'a', 'answer': 1}, {'input': 'A', 'answer': 2}]\n": ["tasks()[1]", "tasks()[0]"],
    "def tasks():\n    return [{'input': 'a', 'answer': 1, 'scorer': 'python'}]\n": ["tasks()[0]", "'scorer'"],
}  # fmt: skip


@pytest.mark.parametrize("text", sorted(BAD_FILES))
def test_a_bad_python_file_says_what_is_wrong(text, tmp_path):
    with pytest.raises(TaskError) as caught:
        load_source(write(tmp_path, "g.py", text), tmp_path)
    for shown in ["g.py", *BAD_FILES[text]]:
        assert shown in str(caught.value)


def test_a_generator_is_pinned(tmp_path):
    source = load_source(write(tmp_path, "g.py", GENERATE), tmp_path)
    assert isinstance(source, Generator)
    suite = Suite("s", source, "salt")
    before = suite.draw(3, 0)
    module_of.__globals__["_module"].cache_clear()
    write(tmp_path, "g.py", GENERATE + "\n# changed\n")
    with pytest.raises(TaskError, match="is not the file that was loaded"):
        suite.draw(3, 0)
    assert len(before) == 3


def test_a_file_with_dataclasses_and_its_own_score(tmp_path):
    text = """
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Problem:
    n: int
def generate(seed):
    p = Problem(seed % 1000)
    return {"input": f"say {p.n}", "answer": None, "scorer": {"kind": "python"}, "data": {"n": p.n}}
def score(text, task):
    if text == "boom":
        raise ValueError("no")
    if text == "two":
        return 2
    return 1.0 if text == str(task["data"]["n"]) else 0.25
"""
    suite = Suite("s", load_source(write(tmp_path, "g.py", text), tmp_path), "salt")
    (task,) = suite.draw(1, 0)
    n = task.input.split()[1]
    assert suite.score(n, task) == 1.0
    assert suite.score("x", from_json(Task, json.loads(json.dumps(to_json(task))))) == 0.25
    for broken in ("boom", "two"):
        result = suite.grade(broken, task)
        assert isinstance(result, Failure)
        assert result.kind is FailureKind.INFRASTRUCTURE
        with pytest.raises(TaskError, match="could not grade"):
            suite.score(broken, task)


def test_a_small_problem_space_ends_the_draw_early(tmp_path):
    text = "def generate(seed):\n    return {'input': f'q{seed % 30}', 'answer': 'a'}\n"
    suite = Suite("s", load_source(write(tmp_path, "g.py", text), tmp_path), "salt")
    expected = {f"q{i}" for i in range(30) if bucket("salt", f"q{i}") == "practice"}
    assert {t.input for t in suite.draw(100, 0)} == expected


def pool(n):
    return Pool(tuple(Task(f"t{i}", f"question {i}", str(i)) for i in range(n)))


def test_a_pool_is_split_without_overlap_and_completely():
    suite = Suite("s", pool(1000), "salt")
    spec = suite.sealed_spec()
    practice = {t.id for t in suite.draw(2000, 0)}
    sealed, vault = ({i["id"] for i in spec[k]} for k in ("items", "vault"))
    assert practice | sealed | vault == {f"t{i}" for i in range(1000)}
    assert len(practice) + len(sealed) + len(vault) == 1000
    assert 540 < len(practice) < 660
    assert 240 < len(sealed) < 360
    assert 60 < len(vault) < 140
    assert {t.id for t in Suite("s", pool(1000), "other salt").draw(2000, 0)} != practice
    lines = suite.practice_lines()
    assert lines is not None
    assert {json.loads(line)["id"] for line in lines.decode().splitlines()} == practice
    assert suite.describe()["size"] == len(practice)


def test_draws_from_a_pool_are_uniform():
    suite = Suite("s", pool(40), "salt")
    size = suite.describe()["size"]
    counts = Counter(t.id for seed in range(2000) for t in suite.draw(3, seed))
    expected = 6000 / size
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 2.5 * size


def test_too_small_a_pool_is_an_error():
    one = next(t for t in pool(50).tasks if bucket("salt", t.input) == "practice")
    with pytest.raises(TaskError, match="on the sealed side"):
        Suite("s", Pool((one,)), "salt").sealed_spec()
    other = next(t for t in pool(50).tasks if bucket("salt", t.input) == "sealed")
    with pytest.raises(TaskError, match="no task falls to practice"):
        Suite("s", Pool((other,)), "salt")


def three(root, **files):
    for name, inputs in files.items():
        (root / f"{name}.jsonl").write_bytes(render(Task(f"{name}{i}", text, "a") for i, text in enumerate(inputs)))
    return SuiteSettings(**{name: f"{name}.jsonl" for name in files})


def test_three_files_are_taken_as_given(tmp_path):
    given = three(tmp_path, practice=["p0", "p1"], sealed=["s0"], vault=["v0"])
    suite = open_suites({"mine": given}, tmp_path, "salt")["mine"]
    assert {t.input for t in suite.draw(9, 0)} == {"p0", "p1"}
    spec = suite.sealed_spec()
    assert [i["input"] for i in spec["items"]] == ["s0"]
    assert [i["input"] for i in spec["vault"]] == ["v0"]
    (tmp_path / "sealed.jsonl").unlink()
    (tmp_path / "vault.jsonl").unlink()
    after = open_suites({"mine": given}, tmp_path, "salt")["mine"]
    assert after.draw(9, 0) == suite.draw(9, 0)
    with pytest.raises(TaskError, match="path of the sealed file"):
        after.sealed_spec()


@pytest.mark.parametrize(("one", "other"), [("practice", "sealed"), ("practice", "vault"), ("sealed", "vault")])
def test_an_overlap_of_three_files_names_both_lines(tmp_path, one, other):
    files = {"practice": ["p0", "p1"], "sealed": ["s0"], "vault": ["v0"]}
    files[one] = [*files[one], "  the same  QUESTION"]
    files[other] = ["x", "The same question"]
    with pytest.raises(TaskError) as caught:
        open_suites({"mine": three(tmp_path, **files)}, tmp_path, "salt")
    assert f"{one}.jsonl, line {len(files[one])}" in str(caught.value)
    assert f"{other}.jsonl, line 2" in str(caught.value)


def test_suites_need_a_source_or_files(tmp_path):
    with pytest.raises(TaskError, match="needs either"):
        open_suites({"mine": SuiteSettings()}, tmp_path, "salt")
    with pytest.raises(TaskError, match="needs either"):
        open_suites({"mine": SuiteSettings(source="a.jsonl", sealed="b.jsonl")}, tmp_path, "salt")
    with pytest.raises(TaskError, match="no sealed file"):
        open_suites({"mine": three(tmp_path, practice=["p"])}, tmp_path, "salt")
    write(tmp_path, "g.py", GENERATE)
    with pytest.raises(TaskError, match="cannot be one of three files"):
        open_suites({"mine": SuiteSettings(practice="g.py", sealed="g.py")}, tmp_path, "salt")


def test_a_kind_can_be_added(tmp_path):
    class Counting:
        kind = "counting"

        def load(self, spec, root):
            return pool(int(spec))

    register(Counting())
    try:
        assert len(load_source("counting: 12", tmp_path).tasks) == 12
        assert "counting" in sources()
    finally:
        sys.modules["upwright.tasks"]._SOURCES.pop("counting")


class TestPythonGeneratorContract(SourceContract):
    source = PythonFile()
    bad = {"none.py": "none.py"}

    def good(self, root):
        return write(root, "good.py", GENERATE)


class TestPythonTasksContract(SourceContract):
    source = PythonFile()

    def good(self, root):
        return write(root, "t.py", "def tasks():\n    return [{'input': f'q{i}', 'answer': i} for i in range(60)]\n")


class TestReasoningGymContract(SourceContract):
    source = ReasoningGym()
    bad = {
        "basic_arithmetics": "did you mean basic_arithmetic",
        "basic_arithmetic?{": "not JSON",
        "basic_arithmetic?[1]": "JSON object",
        'basic_arithmetic?{"seed": 1}': "set by Upwright",
        'basic_arithmetic?{"nonsense": 1}': "nonsense",
        'basic_arithmetic?{"min_terms": -1}': "min_terms",
    }

    def good(self, root):
        return 'basic_arithmetic?{"min_terms": 2, "max_terms": 2}'


def test_reasoning_gym_grades_by_its_own_scorer_also_for_the_warden(tmp_path):
    source = load_source("reasoning_gym:countdown", tmp_path)
    suite = Suite("s", source, "salt")
    for task in suite.draw(3, 0):
        assert suite.score(task.answer, task) == 1.0
        assert suite.score("no", task) < 1.0
        bare = {k: v for k, v in to_json(task).items() if k != "scorer"}  # as the warden hands it over
        assert module_of(source).score(task.answer, bare) == 1.0


def test_the_adapter_loads_neither_torch_nor_upwright(tmp_path):
    import subprocess

    source = load_source("reasoning_gym:leg_counting", tmp_path)
    code = (
        f"import sys, runpy; m = runpy.run_path({str(source.path)!r}); t = m['generate'](2**62);"
        "assert m['score'](t['answer'], t) == 1.0;"
        "print([n for n in sys.modules if n.split('.')[0] in ('torch', 'upwright', 'transformers')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_reasoning_gym_the_command_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("upwright.tasks.reasoning_gym.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'upwright\[reasoning-gym\]'"):
        load_source("reasoning_gym:countdown", tmp_path)


def test_parse_keeps_the_configuration():
    assert parse('a?{"b": {"c": "d?e"}}') == ("a", {"b": {"c": "d?e"}})


def test_normalised_twins_are_one_problem():
    assert normalise_input(" What\n is  IT? ") == normalise_input("what is it?")
    assert scorers.as_text({"a": 1}) == '{"a": 1}'
