"""evaluator.toml, packed folders, harnesses, and the judge: what becomes a score and what never does."""

import json
import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.warden.canon import sha256
from upwright.warden.errors import GraderError, VaultError
from upwright.warden.evaluator import EvaluatorSpec, Judge, digests, grade, program_of, seed_of
from upwright.warden.evaluator_spec import Scale
from upwright.warden.isolation import Ending, Ran
from upwright.warden.isolation.harness import command, evaluate, shinka
from upwright.warden.isolation.harness.results import plain, result
from upwright.warden.parcel import pack, unpack

from .cells import FakeCells, ended, folder, gave, value_of, written

FULL = """
kind = "evaluate"
entry = "evaluator.py"
program = "src/main.py"
metric = "sum"
direction = "min"
center = 2
width = 0.5
exact = true
together = true
cascade = true
thresholds = [0.5, 0.75]
imports = ["numpy"]
[metrics.seconds]
direction = "min"
bounded = false
[limits]
seconds = 3
memory_mb = 512
"""


# ---- evaluator.toml ------------------------------------------------------------------------------


def test_a_spec_is_read_whole():
    spec = EvaluatorSpec.parse(FULL)
    assert (spec.program, spec.metric, spec.direction, spec.exact) == ("src/main.py", "sum", "min", True)
    assert (spec.thresholds, spec.imports, spec.limits.seconds) == ((0.5, 0.75), ("numpy",), 3)
    assert spec.of("seconds") == Scale("min")
    assert spec.of("sum") == spec.of() == spec.of("other") == Scale("min", 2, 0.5, exact=True)


def test_defaults_are_enough():
    assert EvaluatorSpec.parse("") == EvaluatorSpec()
    assert EvaluatorSpec.parse('kind = "shinka"').entry == "evaluate.py"
    assert EvaluatorSpec.parse('kind = "command"\nentry = ["python", "s.py"]').entry == ("python", "s.py")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metrik = 1", "known keys: kind, entry"),
        ("[limits]\nsecs = 1", "known keys: seconds"),
        ("[metrics.a]\nbest = 1", "known keys: direction"),
        ("[metrics]\na = 1", "metrics.a must be a table"),
        ("[metrics.combined_score]\nexact = true", "needs no table"),
        ('kind = "other"', "one of evaluate, shinka, command"),
        ('kind = "command"', "list of words"),
        ('entry = ["a"]', "name of a file"),
        ('program = "../x"', "path inside program/"),
        ("width = 0", "above 0"),
        ("center = nan", "a number"),
        ("bounded = 1", "true or false"),
        ("thresholds = [inf]", "list of numbers"),
        ("[limits]\nseconds = -1", "above 0"),
        ("[limits]\nprocesses = 1.5", "whole number"),
        ('output = "m.json"', "kind command only"),
        ("x = ", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(text, told):
    with pytest.raises(GraderError, match=told):
        EvaluatorSpec.parse(text)


def test_a_missing_spec_says_so(tmp_path):
    with pytest.raises(GraderError, match="no readable"):
        EvaluatorSpec.read(tmp_path)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["max", "min"]))
def test_scores_keep_the_order_of_metrics(a, b, direction):
    spec = EvaluatorSpec(direction=direction, center=1.0, width=3.0)
    low, high = sorted((a, b), reverse=direction == "min")
    assert 0.0 <= spec.score(low) <= spec.score(high) <= 1.0


def test_scores_by_hand():
    assert EvaluatorSpec(center=2.0).score(2.0) == 0.5
    assert EvaluatorSpec(center=2.0, width=2.0).score(4.0) == pytest.approx(0.75)
    assert EvaluatorSpec(direction="min").score(1.0) == pytest.approx(0.25)
    assert EvaluatorSpec(bounded=True).score(0.3) == 0.3
    assert EvaluatorSpec(bounded=True, direction="min").score(0.25) == 0.75
    with pytest.raises(ValueError, match="lies in"):
        EvaluatorSpec(bounded=True).score(1.1)


# ---- packed folders ------------------------------------------------------------------------------


def test_a_folder_is_packed_to_the_same_bytes_and_comes_back(tmp_path):
    place = folder(tmp_path)
    (place / "data").mkdir()
    (place / "data" / "x.bin").write_bytes(bytes(range(256)))
    (place / "run.sh").write_text("echo")
    (place / "run.sh").chmod(0o755)
    for left_out in (".git", "__pycache__"):
        (place / left_out).mkdir()
        (place / left_out / "x").write_text("x")
    (place / "evaluator.pyc").write_text("x")
    data = pack(place)
    assert data == pack(place)
    unpack(data, tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"evaluator.toml", "evaluator.py", "data/x.bin", "run.sh"}
    assert (tmp_path / "out" / "data" / "x.bin").read_bytes() == bytes(range(256))
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o100
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755, "a cell's user reads it"
    (place / "evaluator.py").write_text("changed")
    assert pack(place) != data


def test_links_and_bad_archives_are_refused(tmp_path):
    place = folder(tmp_path)
    for target in (place / "evaluator.py", tmp_path):
        (place / "link").symlink_to(target)
        with pytest.raises(VaultError, match="no plain file"):
            pack(place)
        (place / "link").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(VaultError, match="holds no file"):
        pack(tmp_path / "empty")
    for i, bad in enumerate((b"x", b"[]", b'{"../x": ["", false]}', b'{"/x": ["", false]}', b'{"x": ["?", false]}')):
        with pytest.raises(VaultError, match="not a packed folder"):
            unpack(bad, tmp_path / f"bad{i}")


# ---- harnesses -----------------------------------------------------------------------------------


class Float(float):
    pass


@pytest.mark.parametrize("value", [1, -2.5, 0.0, np.float64(2), np.float32(2), np.int64(3), np.array(1.5)])
def test_plain_numbers(value):
    assert type(plain(value)) in (int, float)
    assert plain(value) == float(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, Float(1), np.float64("nan"), np.inf, 10**400, 1j, Fraction(1, 2), type("N", (np.float64,), {})(1)]
)  # fmt: skip
def test_numbers_that_are_not_plain_and_finite_are_refused(value):
    assert isinstance(plain(value), str)
    assert result({"m": value})["refused"].keys() == {"m"}


@pytest.mark.parametrize("value", [True, np.bool_(True), "1.0", None, [1], np.array([1.0])])
def test_what_is_no_number_is_no_metric(value):
    found = result({"m": value})
    assert found["metrics"] == found["refused"] == {}


def test_tables_are_flat_and_results_are_json():
    found = result({"a": 1, "public": {"b": 2.5, "deep": {"c": np.int8(3)}}, "why": "text"}, {"log": b"\xff", "n": [1]})
    assert found["metrics"] == {"a": 1, "public.b": 2.5, "public.deep.c": 3}
    assert found["artifacts"] == {"why": "text", "log": "�", "n": "[1]"}
    assert json.loads(json.dumps(found)) == found
    assert result({"error": "boom"})["error"] == "boom"
    assert result({"error": 0.0})["error"] == ""
    with pytest.raises(TypeError, match="table"):
        result([1])


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder, a program beside it, and this process as the cell."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "program" / "sub").mkdir(parents=True)
    monkeypatch.chdir(work)

    def run(harness, evaluator, program="def f(x=0, seed=0):\n    return x + 1\n", **job):
        job = {"folder": str(tmp_path / "folder"), "seed": 7, "program": "main.py", "entry": "evaluator.py", **job}
        entry = job["entry"] if isinstance(job["entry"], str) else "score.py"
        (tmp_path / "folder" / entry).write_text(evaluator)
        path = tmp_path / "program" / job["program"]
        path.write_text(program)
        return harness.run(job, str(path), str(work))

    yield run
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("openevolve", "shinka", "evaluation_module", "evaluate", "program"):
            del sys.modules[name]


OPENEVOLVE = """
import importlib.util
from openevolve.evaluation_result import EvaluationResult

def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def evaluate(path):
    value = load(path).f(1)
    return EvaluationResult(metrics={"combined_score": value, "half": value / 2}, artifacts={"log": "fine"})

def evaluate_stage1(path):
    return {"combined_score": 0.6, "first": 1.0}

async def evaluate_stage2(path):
    return {"combined_score": 0.7}

def evaluate_stage3(path):
    return {"combined_score": 0.9, "third": 1}
"""


def test_an_openevolve_evaluator(lab):
    found = lab(evaluate, OPENEVOLVE)
    assert found == gave({"combined_score": 2, "half": 1.0}, artifacts={"log": "fine"})


@pytest.mark.parametrize(
    ("thresholds", "stage", "score", "names"),
    [
        ([0.65], 1, 0.6, {"combined_score", "first"}),
        ([0.6], 2, 0.7, {"combined_score", "first"}),
        ([0.5, 0.8], 2, 0.7, {"combined_score", "first"}),
        ([0.5, 0.7], 0, 0.9, {"combined_score", "first", "third"}),
    ],
)
def test_a_cascade(lab, thresholds, stage, score, names):
    found = lab(evaluate, OPENEVOLVE, thresholds=thresholds)
    assert (found["stage"], found["metrics"]["combined_score"], set(found["metrics"])) == (stage, score, names)


def test_a_threshold_without_a_combined_score_is_of_the_mean(lab):
    stages = "def evaluate_stage1(p):\n    return {'a': 1.0, 'b': 0.0, 'error': 5}\ndef evaluate_stage2(p):\n    return {'c': 2}\n"
    assert lab(evaluate, stages, thresholds=[0.5])["stage"] == 0
    assert lab(evaluate, stages, thresholds=[0.51])["stage"] == 1
    assert set(lab(evaluate, stages)["metrics"]) == {"a", "b", "c", "error"}


@pytest.mark.parametrize(
    ("code", "told"),
    [("x = 1", "defines neither"), ("def evaluate(p):\n    return 3", "a dict or an EvaluationResult"), ("def evaluate(p):\n    1 / 0", "zero")],
)  # fmt: skip
def test_an_evaluator_that_does_not_work_raises(lab, code, told):
    with pytest.raises(Exception, match=told):
        lab(evaluate, code)


SHINKA = """
from shinka.core import run_shinka_eval

def aggregate(results):
    return {"combined_score": sum(results), "public": {"runs": len(results)}, "private": {}, "extra_data": object()}

def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path, results_dir=results_dir, experiment_fn_name="f", num_runs=3, run_workers=2,
        get_experiment_kwargs=lambda i: {"x": i}, validate_fn=lambda r: (r < LIMIT, f"{r} is too much"),
        aggregate_metrics_fn=aggregate,
    )
"""


def test_a_shinka_evaluator(lab):
    found = lab(shinka, SHINKA + "LIMIT = 10\n", entry="evaluate.py")
    assert (found["metrics"]["combined_score"], found["metrics"]["public.runs"], found["error"]) == (6, 3, "")
    assert found["metrics"]["num_valid_runs"] == 3


@pytest.mark.parametrize(
    ("evaluator", "program", "told"),
    [
        (SHINKA + "LIMIT = 3\n", None, "Validation failed: 3 is too much"),
        (SHINKA + "LIMIT = 9\n", "def f(x):\n    raise KeyError('gone')\n", "KeyError"),
        (SHINKA + "LIMIT = 9\n", "def g(x):\n    return 1\n", "AttributeError"),
        (SHINKA + "LIMIT = 9\n", "def f(x):\n    return float('nan')\n", "Validation failed"),
        (SHINKA.replace("r < LIMIT", "True"), "def f(x):\n    return float('inf')\n", "combined_score is inf"),
    ],
)
def test_a_program_that_is_not_correct_has_an_error(lab, evaluator, program, told):
    found = lab(shinka, evaluator, program or "def f(x):\n    return x + 1\n", entry="evaluate.py")
    assert told in found["error"]


def test_shinka_seeds_follow_from_the_run(lab):
    evaluator = """
from shinka.core import run_shinka_eval
def main(program_path, results_dir):
    run_shinka_eval(program_path, results_dir, "f", 2, aggregate_metrics_fn=lambda r: {"combined_score": r[1] - r[0], "first": r[0]})
"""
    program = "def f(seed):\n    return seed\n"
    first = lab(shinka, evaluator, program, entry="evaluate.py")["metrics"]
    assert first["combined_score"] == 1
    assert first["first"] == 8


def test_a_shinka_script_without_main_is_run(lab):
    script = """
import argparse, json, pathlib
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir")
    args = parser.parse_args()
    place = pathlib.Path(args.results_dir)
    (place / "metrics.json").write_text(json.dumps({"combined_score": float("nan")}))
    (place / "correct.json").write_text(json.dumps({"correct": True, "error": ""}))
"""
    assert lab(shinka, script, entry="evaluate.py")["refused"].keys() == {"combined_score"}
    (shinka.Path.cwd() / "results").rename("old")
    with pytest.raises(RuntimeError, match=r"no correct\.json"):
        lab(shinka, "def main(a, b):\n    pass\n", entry="evaluate.py")


SCORE = """
import json, os, sys
print("loud", flush=True)
print(json.dumps({"value": int(open("sub/data.txt").read()), "seed": int(os.environ["UPWRIGHT_SEED"])}))
"""


def test_a_command_scores_a_folder(lab, tmp_path, capfd):
    (tmp_path / "program" / "sub" / "data.txt").write_text("5")
    (tmp_path / "program" / "score.py").write_text("print('{\"value\": 100}')")  # not the evaluator's
    found = lab(command, SCORE, program="sub/main.py", entry=["python", "score.py"])
    assert found["metrics"] == {"value": 5, "seed": 7}
    assert "loud" in capfd.readouterr().out


def test_a_command_may_write_its_metrics(lab, tmp_path):
    (tmp_path / "program" / "m.json").write_text('{"value": 100}')  # the program's own: removed before
    entry = [
        "python",
        "-c",
        "import sys; open(sys.argv[1], 'w').write('{\"value\": ' + sys.argv[2] + '}')",
        "{output}",
        "{seed}",
    ]
    assert lab(command, "", entry=entry, output="m.json")["metrics"] == {"value": 7}


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [
        ("import sys; sys.exit(3)", "", "exit code 3"),
        ("print('no json')", "", "no JSON object"),
        ("print('[1]')", "", "no JSON object"),
        ("pass", "m.json", "left no m.json"),
    ],
)
def test_a_command_that_gives_nothing(lab, code, output, told):
    with pytest.raises(RuntimeError, match=told):
        lab(command, "", entry=["python", "-c", code], output=output)


# ---- the judge -----------------------------------------------------------------------------------


def judge(tmp_path, run, text='metric = "value"\nthresholds = [1]\n', **more):
    return Judge(folder(tmp_path, text), cells=FakeCells(run), **more)


def test_a_run_becomes_a_score(tmp_path):
    with judge(tmp_path, lambda p, s: {"value": value_of(p), "other": 3}) as j:
        found = j.judge(written(1.0), 5)
        assert (found.score, found.failure, found.metrics) == (pytest.approx(0.75), "", {"value": 1.0, "other": 3.0})
        assert j.judge(written(1.0), 5, "other").score == pytest.approx(0.5 + math.atan(3) / math.pi)
        job, program, seed = j._cells.jobs[0]
        assert job == {"kind": "evaluate", "entry": "evaluator.py", "program": "program.py", "thresholds": [1]}
        assert (program, seed) == (written(1.0), 5)
    assert j._cells.closed
    assert judge(tmp_path, None, whole=True)._job["thresholds"] == []


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, "1", None, [1], 10**400, Float(1), {"x": 1}])
def test_nothing_but_a_plain_finite_number_is_a_score(tmp_path, value):
    """Whatever a cell says, a harness that was tampered with included."""
    found = judge(tmp_path, lambda p, s: {"value": value}).judge(written(1), 0)
    assert (found.score, found.failure) == (None, "value")
    assert found.why


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (None, "value"),
        ([], "value"),
        ({"metrics": 3}, "value"),
        ({"metrics": {"value": 1}, "refused": {"other": "nan"}}, "value"),
        ({"metrics": {"value": 1}, "error": "it broke"}, "error"),
        ({"metrics": {"value": 1, "other": math.nan}}, "value"),
    ],
)
def test_data_that_is_no_result(tmp_path, data, kind):
    found = judge(tmp_path, lambda p, s: Ran(Ending.OK, data, "", "", 0.0, ())).judge(written(1), 0)
    assert (found.score, found.failure) == (None, kind)


@pytest.mark.parametrize("ending", [e for e in Ending if e not in (Ending.OK, Ending.INFRASTRUCTURE)])
def test_a_run_that_fails_is_no_score(tmp_path, ending):
    found = judge(tmp_path, lambda p, s: ended(ending, "why", ("it tried",))).judge(written(1), 0)
    assert (found.score, found.failure, found.why, found.alarms) == (None, ending.value, "why", ("it tried",))
    assert found.metrics == {}


def test_trouble_of_ours_is_no_failure_of_the_program(tmp_path):
    j = judge(tmp_path, lambda p, s: ended(Ending.INFRASTRUCTURE, "no memory"))
    with pytest.raises(GraderError, match="no memory"):
        j.judge(written(1), 0)
    assert len(j._cells.jobs) == 2, "it is tried once more"
    turns = iter([ended(Ending.INFRASTRUCTURE), {"value": 1}])
    assert judge(tmp_path, lambda p, s: next(turns)).judge(written(1), 0).score is not None


def test_a_program_without_its_file_is_not_run(tmp_path):
    j = judge(tmp_path, lambda p, s: {"value": 1})
    assert j.judge({"other.py": ""}, 0).failure == "program"
    assert j._cells.jobs == []
    assert judge(tmp_path, lambda p, s: {"value": 1}, 'kind = "command"\nentry = ["x"]\nmetric = "value"').judge({"a": ""}, 0).score  # fmt: skip


def test_a_bounded_metric_outside_its_bounds_is_no_score(tmp_path):
    found = judge(tmp_path, lambda p, s: {"value": 1.2}, 'metric = "value"\nbounded = true').judge(written(1), 0)
    assert (found.score, found.failure) == (None, "value")


def test_what_repeats_is_recognised(tmp_path):
    j = judge(tmp_path, lambda p, s: {"value": 1 / 3, "noise": s})
    assert j.repeats(written(1))
    assert not j.repeats(written(1), metric="noise")
    assert not j.repeats(written(1), metric="missing")
    assert len({seed for _, _, seed in j._cells.jobs}) == 5, "other seeds each time"
    assert not judge(tmp_path, lambda p, s: {"value": 0.0 if s % 2 else -0.0}).repeats(written(1), 20)
    assert not judge(tmp_path, lambda p, s: ended(Ending.CRASH)).repeats(written(1))
    assert seed_of(written(1), 0) != seed_of(written(2), 0)


def test_an_answer_is_graded(tmp_path):
    j = judge(tmp_path, lambda p, s: ended(Ending.TIMEOUT, "3 s") if value_of(p) < 0 else {"value": value_of(p)})
    good = grade(j, json.dumps(written(1.0)), 3)
    assert (good.score, good.metric, good.why) == (pytest.approx(0.75), 1.0, "")
    bad = grade(j, json.dumps(written(-1)), 3)
    assert (bad.score, bad.metric, bad.why) == (0.0, None, "timeout: 3 s")
    assert grade(j, "no program", 3).score == 0.0


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"a": 1}', '{"../a": ""}', '{"/a": ""}', '{"a//b": ""}', '{"": ""}', '{"a\\u0000": ""}', "[" * 100_000]
)  # fmt: skip
def test_what_is_no_program(text):
    with pytest.raises(GraderError, match="no program"):
        program_of(text)


@given(st.dictionaries(st.sampled_from(["a.py", "b/c.py", "d"]), st.text(max_size=50)))
def test_programs_come_back(program):
    assert program_of(json.dumps(program)) == program
    assert set(digests(program)) == set(program)


def test_digests_are_of_the_files_bytes():
    for data in (b"print(1)\n", "é".encode(), b"\xff\xfe"):
        assert digests({"a": data.decode("utf-8", "surrogateescape")}) == {"a": sha256(data)}
