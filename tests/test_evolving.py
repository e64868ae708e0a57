"""From a program and its evaluator to a project: read, tried with fakes, written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.errors import ProjectError, TaskError
from upwright.evolving import Wish, begin, rounds
from upwright.evolving.config import Config, read_config
from upwright.evolving.files import gather
from upwright.evolving.outcome import Outcome
from upwright.evolving.outcome import told as outcome_told
from upwright.evolving.recognise import Format, language_of, needs, of_source, recognise
from upwright.evolving.trials import Scale, Trial, choose_metric, scale_of, time_out, try_first
from upwright.evolving.writing import evaluator_text, legs
from upwright.project import read_settings
from upwright.warden.charter import Charter
from upwright.warden.evaluator_spec import EvaluatorSpec
from upwright.warden.isolation import Limits

PROGRAM = "# EVOLVE-BLOCK-START\ndef height():\n    return 1.5\n# EVOLVE-BLOCK-END\n"
EVALUATE = "def evaluate(program_path):\n    return {'height': 1.0}\n"
SHINKA = "from shinka.core import run_shinka_eval\n\ndef main(program_path, results_dir):\n    ...\n"


@dataclass
class Said:
    """What a fake judge says of every run."""

    metrics: Mapping[str, float]
    failure: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    stage: int = 0
    seconds: float = 0.5
    alarms: tuple[str, ...] = ()


@dataclass
class Fake:
    """A judge that reads from a function of the seed."""

    say: Callable[[int], Said]
    specs: list[EvaluatorSpec] = field(default_factory=list)
    closed: int = 0

    def __call__(self, folder: Path, spec: EvaluatorSpec, whole: bool) -> Fake:
        assert (folder / "evaluator.py").exists() or spec.kind != "evaluate"
        self.specs.append(spec)
        return self

    def judge(self, program: Mapping[str, str], seed: int, metric: str | None = None) -> Said:
        return self.say(seed)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def example(tmp_path: Path) -> Path:
    folder = tmp_path / "towers"
    folder.mkdir()
    (folder / "initial_program.py").write_text(PROGRAM)
    (folder / "evaluator.py").write_text(EVALUATE)
    return folder


# ---- what an evaluator is -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "kind", "stages"),
    [
        (EVALUATE, "evaluate", ()),
        ("async def evaluate(program_path: str): ...", "evaluate", ()),
        (
            EVALUATE + "def evaluate_stage1(p): ...\ndef evaluate_stage2(p): ...",
            "evaluate",
            ("evaluate_stage1", "evaluate_stage2"),
        ),
        (EVALUATE + "def evaluate_stage2(p): ...", "evaluate", ()),
        (SHINKA, "shinka", ()),
        (SHINKA + "def evaluate(results): ...", "shinka", ()),
        ("def main(program_path, results_dir, more=1): ...", "shinka", ()),
        ("import argparse\np.add_argument('--program_path'); p.add_argument('--results_dir')", "shinka", ()),
    ],
)
def test_formats_are_told_by_the_source_alone(source: str, kind: str, stages: tuple[str, ...]) -> None:
    found = of_source(source, "e.py")
    assert (found.kind, found.stages) == (kind, stages)


@pytest.mark.parametrize("source", ["def score(p): ...", "def evaluate(): ...", "x = 1", "def main(argv): ..."])
def test_a_file_without_an_evaluation_is_told_with_what_it_has(source: str) -> None:
    with pytest.raises(TaskError, match="nothing that evaluates"):
        of_source(source, "e.py")


def test_a_line_that_is_no_python_is_named() -> None:
    with pytest.raises(TaskError, match=r"e\.py, line 2 is not Python"):
        of_source("x = 1\ndef broken(:\n", "e.py")


def test_recognising_runs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "evaluator.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{EVALUATE}")
    assert recognise(str(file)).kind == "evaluate"
    assert not (tmp_path / "ran").exists()


def test_commands(tmp_path: Path) -> None:
    (tmp_path / "score.sh").write_text("echo 1")
    assert recognise("python bench.py --n 3") == Format("command", ("python", "bench.py", "--n", "3"))
    assert recognise("score.sh", (tmp_path,)).kind == "command"
    assert recognise(str(tmp_path / "score.sh")).kind == "command"
    for wrong in ("no-such-command-here --x", "evaluator_that_is_not.py", "'open", "  "):
        with pytest.raises(TaskError):
            recognise(wrong)
    with pytest.raises(TaskError, match="is a folder"):
        recognise(str(tmp_path))


def test_an_evaluator_that_reads_the_program_is_seen() -> None:
    assert of_source("def evaluate(program_path):\n    return len(open(program_path).read())", "e.py").reads_text
    assert of_source(
        "from pathlib import Path\ndef evaluate(program_path):\n    Path(program_path).read_text()", "e.py"
    ).reads_text
    assert not of_source("def evaluate(program_path):\n    return open('x').read()", "e.py").reads_text


def test_what_is_imported_once_and_what_is_missing() -> None:
    found = needs(["import numpy as np\nfrom scipy import optimize\nimport json, env, torch\nimport no_such_thing_x.y",
                   "from openevolve.evaluation_result import EvaluationResult"], ["env"])  # fmt: skip
    assert found.warm == ("numpy", "scipy", "scipy.optimize")
    assert found.missing == ("no_such_thing_x",)


def test_languages() -> None:
    assert [language_of(p) for p in ("a.py", "b.rs", "c.F90", "d.xyz")] == ["python", "rust", "fortran", "text"]
    assert language_of("a.py", "Mojo") == "mojo"


# ---- which files ----------------------------------------------------------------------------------


def test_an_example_folder_needs_no_more_words(example: Path) -> None:
    found = gather(example, None)
    assert (found.name, found.main, found.format.kind) == ("towers", "initial_program.py", "evaluate")
    assert found.program == {"initial_program.py": PROGRAM}
    assert set(found.beside) == {"evaluator.py", "initial_program.py"}
    same = gather(example / "initial_program.py", str(example / "evaluator.py"))
    assert (same.name, same.program) == (found.name, found.program)


def test_modules_beside_the_program_come_along_and_stay(example: Path) -> None:
    (example / "initial_program.py").write_text("from env import play\nimport json\n" + PROGRAM)
    (example / "env.py").write_text("import tools.deep\n")
    (example / "tools").mkdir()
    (example / "tools" / "deep.py").write_text("x = 1\n")
    found = gather(example, None)
    assert set(found.program) == {"initial_program.py", "env.py", "tools/deep.py"}
    assert found.fixed == ("env.py", "tools/deep.py")
    assert any("not to be changed" in note for note in found.notes)


def test_what_tools_made_stays_behind(example: Path) -> None:
    for path in (
        "__pycache__/x.pyc",
        ".git/config",
        "results/1.json",
        "data/table.csv",
        "notes.ipynb",
        "old-evolved/upwright.toml",
        "old-evolved/x.py",
    ):
        (example / path).parent.mkdir(parents=True, exist_ok=True)
        (example / path).write_text("x")
    (example / "link.py").symlink_to(example / "evaluator.py")
    assert set(gather(example, None).beside) == {"evaluator.py", "initial_program.py", "data/table.csv"}


def test_of_a_large_folder_only_what_the_evaluator_names(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upwright.evolving.files.MOST_FILES", 4)
    for k in range(9):
        (example / f"other{k}.txt").write_text("x")
    (example / "helper.py").write_text("x = 1")
    (example / "evaluator.py").write_text("import helper\nOPEN = 'other3.txt'\n" + EVALUATE)
    found = gather(example, None)
    assert set(found.beside) == {"evaluator.py", "helper.py", "other3.txt"}
    assert any("large" in note for note in found.notes)


def test_a_repository_is_split_into_what_may_change_and_the_rest(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    for path, text in {"src/a.py": "A", "src/b.py": "B", "score.py": "S", "data.bin": "D", "tests/t.py": "T"}.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_text(text)
    (repo / "image.bin").write_bytes(b"\xff\x00")
    some = gather(repo, "python score.py", ["src/"])
    assert set(some.program) == {"src/a.py", "src/b.py"}
    assert set(some.beside) == {"score.py", "data.bin", "tests/t.py", "image.bin"}
    every = gather(repo, "python score.py")
    assert "score.py" not in every.program
    assert "image.bin" in every.beside
    assert any("--allow" in note for note in every.notes)
    with pytest.raises(ProjectError, match="no file may change"):
        gather(repo, "python score.py", ["lib/*.py"])


def test_a_single_file_and_a_command(example: Path) -> None:
    (example / "bench.py").write_text("print(3)")
    found = gather(example / "initial_program.py", "python bench.py")
    assert set(found.program) == {"initial_program.py"}
    assert "bench.py" in found.beside


def test_what_is_wrong_with_a_program_is_told(example: Path) -> None:
    with pytest.raises(ProjectError, match="no such program"):
        gather(example / "nothing.py", None)
    (example / "initial_program.py").write_bytes(b"\xff\xfe")
    with pytest.raises(ProjectError, match="cannot be read as text"):
        gather(example / "initial_program.py", str(example / "evaluator.py"))
    (example / "initial_program.py").unlink()
    with pytest.raises(ProjectError, match="which file is the program"):
        gather(example, None)
    (example / "evaluator.py").unlink()
    with pytest.raises(TaskError, match="no evaluator is named"):
        gather(example, None)


# ---- what a peer's config tells -------------------------------------------------------------------


def test_a_config_tells_numbers_and_what_was_left_alone(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "max_iterations: 5\nllm:\n  api_key: secret\nevaluator:\n  timeout: 60\n  cascade_thresholds: [0.5, 1]\n"
        "  parallel_evaluations: 4\ndatabase:\n  feature_dimensions: [score, speed]\n"
    )
    found = read_config(tmp_path)
    assert (found.seconds, found.thresholds, found.features) == (60.0, (0.5, 1.0), ("score", "speed"))
    assert set(found.ignored) == {"max_iterations", "llm.api_key", "evaluator.parallel_evaluations"}
    assert "secret" not in " ".join(found.notes)
    assert "evaluator.parallel_evaluations" in " ".join(found.notes)


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b", "!!python/object/apply:os.system ['true']", "evaluator: 3", ""])
def test_no_config_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(tmp_path).seconds is None
    assert read_config(tmp_path / "nowhere") == Config()


# ---- the first runs -------------------------------------------------------------------------------


def trial(**metrics: tuple[float, ...]) -> Trial:
    return Trial(metrics, (1.0,) * len(next(iter(metrics.values()))))


def test_the_metric_is_the_named_one_a_conventional_one_or_the_only_one() -> None:
    both = trial(speed=(1.0,), combined_score=(2.0,))
    assert choose_metric(both) == "combined_score"
    assert choose_metric(both, "speed") == "speed"
    assert choose_metric(trial(speed=(1.0,))) == "speed"
    with pytest.raises(TaskError, match="several metrics"):
        choose_metric(trial(speed=(1.0,), size=(1.0,)))
    with pytest.raises(TaskError, match="no such metric"):
        choose_metric(both, "sped")


def test_exact_is_bit_for_bit() -> None:
    assert scale_of(trial(m=(0.1, 0.1, 0.1)), "m", "max").exact
    assert not scale_of(trial(m=(0.1, 0.1 + 1e-17 + 1e-16, 0.1)), "m", "max").exact
    assert not scale_of(trial(m=(0.1, 0.1)), "m", "max", exact=False).exact
    with pytest.raises(TaskError, match="did not repeat exactly"):
        scale_of(trial(m=(0.1, 0.2)), "m", "max", exact=True)


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=6), st.sampled_from(["max", "min"]))
def test_a_scale_always_maps_the_first_program_to_the_middle(values: list[float], direction: str) -> None:
    scale = scale_of(Trial({"m": tuple(values)}, (1.0,) * len(values)), "m", direction)
    spec = EvaluatorSpec(direction=direction, center=scale.center, width=scale.width)
    assert scale.width > 0
    assert spec.score(scale.center) == 0.5
    better = scale.center + (scale.width if direction == "max" else -scale.width)
    assert spec.score(better) > 0.5
    assert EvaluatorSpec.parse(evaluator_text(spec)) == spec


def test_time_outs() -> None:
    assert time_out([0.1]) == 30.0
    assert time_out([3.0, 4.0]) == 80.0
    assert time_out([3.0], 60.0) == 60.0
    assert time_out([50.0], 60.0) == 1000.0  # a config that would end most runs is not believed


def test_first_runs_differ_in_seed_and_end_early_when_they_are_long() -> None:
    seeds: list[int] = []

    def run(seed: int) -> Said:
        seeds.append(seed)
        return Said({"m": 1.0, "now": float(len(seeds)), "bad": float("inf")}, seconds=70.0)

    found = try_first(run, 0)
    assert (found.runs, len(set(seeds))) == (2, 2)
    assert set(found.metrics) == {"m", "now"}


@pytest.mark.parametrize(
    "said", [Said({}, "crash", {"why": "ValueError: x"}), Said({"m": 0.0}, "error", {"why": "all trials failed"})]
)
def test_a_first_program_without_a_score_is_an_error(said: Said) -> None:
    with pytest.raises(TaskError, match=f"no score: {said.failure}"):
        try_first(lambda seed: said, 0)


# ---- the project ----------------------------------------------------------------------------------


def test_an_exact_project(example: Path, tmp_path: Path) -> None:
    fake, told = Fake(lambda seed: Said({"height": 1.5, "time": seed / 2**63})), list[str]()
    project = begin(Wish(example, output=tmp_path / "out", metric="height"), told.append, fake)
    spec = EvaluatorSpec.read(project.root / "tasks" / "towers")
    assert (spec.metric, spec.exact, spec.center, spec.program) == ("height", True, 1.5, "initial_program.py")
    assert spec.limits.seconds == 30.0
    charter = Charter.parse(project.charter_path.read_text())
    assert (charter.objective, charter.may_change) == ("towers", ("program/",))
    assert charter.minimum_gain < 1e-6
    assert (project.body_path / "program" / "initial_program.py").read_text() == PROGRAM
    assert project.settings.suites["towers"].source == "evaluator:tasks/towers#height"
    assert project.settings.levers == ("program",)
    assert fake.closed == len(fake.specs) == 1
    assert any("bit for bit" in text for text in told)
    assert sorted(p.name for p in project.root.iterdir()) == ["body", "charter.toml", "tasks", "upwright.toml"]


def test_an_evaluator_toml_beside_the_evaluator_says_what_gets_better(example: Path, tmp_path: Path) -> None:
    (example / "evaluator.toml").write_text(
        'metric = "weight"\ndirection = "min"\n[limits]\nseconds = 7\nmemory_mb = 300\n'
    )
    fake, told = Fake(lambda seed: Said({"height": 1.5, "weight": 4.0})), list[str]()
    project = begin(Wish(example, output=tmp_path / "one"), told.append, fake)
    spec = EvaluatorSpec.read(project.root / "tasks" / "towers")
    assert (spec.metric, spec.direction, spec.center, spec.exact) == ("weight", "min", 4.0, True)
    assert (fake.specs[0].limits.seconds, spec.limits.memory_mb) == (7.0, 300)
    assert "of evaluator.toml: metric, direction and limits taken" in told
    other = begin(Wish(example, metric="height", output=tmp_path / "two"), judge_of=fake)
    spec = EvaluatorSpec.read(other.root / "tasks" / "towers")
    assert (spec.metric, spec.direction) == ("height", "max")


def test_a_noisy_project_with_a_protected_metric(example: Path, tmp_path: Path) -> None:
    fake = Fake(lambda seed: Said({"height": 1.5 + seed % 7 / 100, "time": 2.0 + seed % 3 / 10}, seconds=2.0))
    wish = Wish(example, output=tmp_path / "out", metric="height", protect=("time:min",), minutes=10)
    project = begin(wish, judge_of=fake)
    spec = EvaluatorSpec.read(project.root / "tasks" / "towers")
    assert not spec.exact
    assert spec.metrics["time"].direction == "min"
    charter = Charter.parse(project.charter_path.read_text())
    assert charter.protected == {"towers-time": 0.05}
    assert charter.sealed.n_max == 60  # a fifth of ten minutes, at two seconds a run
    assert project.settings.suites["towers-time"].source == "evaluator:tasks/towers#time"
    assert project.settings.run.practice == 8


def test_it_goes_on_with_the_same_program_and_with_no_other(example: Path, tmp_path: Path) -> None:
    fake = Fake(lambda seed: Said({"height": 1.5}))
    wish = Wish(example, output=tmp_path / "out")
    first = begin(wish, judge_of=fake)
    told: list[str] = []
    again = begin(wish, told.append, fake)
    assert again.root == first.root
    assert len(fake.specs) == 1  # nothing was tried again
    assert told == ["out is there already: it goes on"]
    (example / "initial_program.py").write_text(PROGRAM + "\n")
    with pytest.raises(ProjectError, match="another program"):
        begin(wish, judge_of=fake)


def test_nothing_is_left_behind_and_nothing_overwritten(example: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(TaskError):
        begin(Wish(example, output=out), judge_of=Fake(lambda seed: Said({}, "timeout")))
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(ProjectError, match="not empty"):
        begin(Wish(example, output=out), judge_of=Fake(lambda seed: Said({"height": 1.0})))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "towers"]


def test_another_language_is_text_in_the_evaluators_cell(example: Path, tmp_path: Path) -> None:
    (example / "initial_program.py").unlink()
    (example / "initial_program.rs").write_text("// EVOLVE-BLOCK-START\nfn main() {}\n// EVOLVE-BLOCK-END\n")
    told: list[str] = []
    fake = Fake(lambda seed: Said({"height": 1.0}))
    project = begin(Wish(example, output=tmp_path / "out"), told.append, fake)
    assert EvaluatorSpec.read(project.root / "tasks" / "towers").together
    assert any("the program is rust" in text for text in told)


def test_quick_stages_only_where_the_first_program_passes_them(example: Path, tmp_path: Path) -> None:
    (example / "evaluator.py").write_text(EVALUATE + "def evaluate_stage1(p): ...\n")
    (example / "config.yaml").write_text("evaluator:\n  cascade_thresholds: [0.5]\n")
    passes = Fake(lambda seed: Said({"height": 1.0}))
    one = begin(Wish(example, output=tmp_path / "one"), judge_of=passes)
    assert EvaluatorSpec.read(one.root / "tasks" / "towers").thresholds == (0.5,)
    stuck = Fake(lambda seed: Said({"height": 0.1}, stage=0 if seed else 1))
    two = begin(Wish(example, output=tmp_path / "two"), judge_of=stuck)
    assert not EvaluatorSpec.read(two.root / "tasks" / "towers").cascade


@given(
    st.sampled_from(["evaluate", "shinka", "command"]), st.booleans(), st.floats(0.1, 1e4),
    st.lists(st.floats(-10, 10), max_size=3), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12),
)  # fmt: skip
def test_any_spec_comes_back_from_its_text(
    kind: str, exact: bool, seconds: float, thresholds: list[float], metric: str
) -> None:
    entry: str | tuple[str, ...] = ("python", "-c", "print('a # \"b\"')") if kind == "command" else "evaluator.py"
    spec = EvaluatorSpec(
        kind, entry, metric=metric, exact=exact, thresholds=tuple(thresholds), limits=Limits(seconds=seconds)
    )
    assert EvaluatorSpec.parse(evaluator_text(spec)) == spec


def test_lay_lays_out_only_the_allowed_paths_and_reads_a_bare_number(tmp_path: Path) -> None:
    from upwright.evolving import _lay

    evaluator, program = tmp_path / "evaluator", tmp_path / "program"
    (evaluator / "repository" / "src").mkdir(parents=True)
    (evaluator / "repository" / "score.py").write_text(
        "import os\nprint(sorted(os.listdir()), open('src/a.txt').read())\nprint(len(open('src/a.txt').read()))\n"
    )
    (evaluator / "lay.py").write_text(Path(_lay.__file__).read_text())
    (program / "src").mkdir(parents=True)
    (program / "src" / "a.txt").write_text("four")
    (program / "conftest.py").write_text("raise SystemExit")
    (program / "score.py").write_text("print(99)")
    words = [sys.executable, str(evaluator / "lay.py"), "src/a.txt", "score.py", "--", "python", "score.py"]
    ran = subprocess.run(words, cwd=program, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0] == "['score.py', 'src'] four"
    assert json.loads(ran.stdout.splitlines()[-1]) == {"score": 4.0}


def test_settings_can_be_read_back(example: Path, tmp_path: Path) -> None:
    project = begin(Wish(example, output=tmp_path / "out"), judge_of=Fake(lambda seed: Said({"height": 1.0})))
    assert read_settings(project.root / "upwright.toml") == project.settings
    assert Scale("m", "max", 0.0, 1.0, True, 0.0).exact


@pytest.mark.parametrize(("candidates", "searches"), [(6, 1), (20, 1), (99, 1), (100, 2), (400, 8), (5000, 8)])
def test_a_number_of_candidates_is_cut_into_searches(
    candidates: int, searches: int, example: Path, tmp_path: Path
) -> None:
    fake = Fake(lambda seed: Said({"height": 1.0}))
    wish = Wish(example, output=tmp_path / "out", candidates=candidates)
    project = begin(wish, judge_of=fake)
    assert legs(candidates) == searches
    assert rounds(project, candidates) == searches
    assert rounds(project, 3 * candidates) == 3 * searches
    assert rounds(project, None) is None


def test_a_search_by_the_clock_is_not_counted_in_candidates(example: Path, tmp_path: Path) -> None:
    project = begin(Wish(example, output=tmp_path / "out"), judge_of=Fake(lambda seed: Said({"height": 1.0})))
    with pytest.raises(ProjectError, match="end by the clock"):
        rounds(project, 10)


# ---- the last words -------------------------------------------------------------------------------

PROVEN = Outcome(
    "height", "max", 1.5, 2.25, True, 3, "measured again: 2.25 against 2", 40, 2, 1, 2.25, 1.5, "/p", "/p/a.py"
)


def test_what_was_proven_is_told_first_and_what_was_only_seen_as_such() -> None:
    assert outcome_told(PROVEN) == [
        "proven: height 1.5 → 2.25 (more is better; in each of 3 fresh runs)",
        "evidence: measured again: 2.25 against 2",
        "40 candidates run on practice, 2 tested by the warden, 1 kept",
        "the best program is /p/a.py",
    ]
    noisy = outcome_told(replace(PROVEN, exact=False, direction="min", runs=12))
    assert "(less is better; mean of 12 fresh runs that decided nothing)" in noisy[0]
    nothing = outcome_told(replace(PROVEN, before=None, after=None, promoted=0, seen=3.0))
    assert nothing[0].startswith("nothing was proven better than the first program")
    assert nothing[1].endswith("the first program 1.5: seen, not proven")
    assert nothing[-1] == "the first program is /p/a.py"
