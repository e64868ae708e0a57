from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import runs
from faults.processes import KILL, fork, strike
from upwright.agents.change import folder
from upwright.errors import BodyError, BuildError, ProjectError, RuntimeFailure, Stopped, TaskError
from upwright.experiments import trial
from upwright.experiments.answer import Says
from upwright.experiments.kept import Result, place_of, results
from upwright.experiments.run import experiment
from upwright.lineage import read_lineage
from upwright.practice import exam, salt
from upwright.project import Project
from upwright.tasks.suite import open_suites
from upwright.testing import puppet
from upwright.testing.puppet import Puppet
from upwright.warden import ledger

BASE: dict[str, Any] = {"name": "as it is"}
MORE: dict[str, Any] = {"name": "more words", "files": {"prompt.md": "manners = 0.8\nwords = 0.8\n"}}
LESS: dict[str, Any] = {
    "name": "fewer",
    "edits": "prompt.md\n<<<<<<< SEARCH\nwords = 0.3\n=======\nwords = 0.1\n>>>>>>> REPLACE\n",
}


def toml(*arms: dict[str, Any], **changes: Any) -> str:
    plan = {"question": "Do more words help?", "tasks": 40, "repeats": 2, "arms": [BASE, *(arms or (MORE,))], **changes}
    return tomli_w.dumps(plan)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return runs.copy(tmp_path / "demo")


@pytest.fixture
def unnoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests need no warden."""
    monkeypatch.setattr("upwright.experiments.run.note", lambda *_: None)


def notes(project: Project) -> list[Any]:
    found = [e for e in ledger.read(project.warden / ledger.FILE) if e.kind == "note"]
    return [e.data["data"] for e in found if e.data["kind"] == "experiment"]


def test_a_whole_experiment(project: Project) -> None:
    found = experiment(project, toml(MORE, LESS), by="Ada")
    base, more, less = found.findings
    assert (base.answers, base.says, base.told) == (80, None, "as it is")
    assert more.says is Says.HELPS
    assert (more.pairs, more.lost) == (80, 0), "a better puppet knows all that a worse one knows"
    assert less.says is Says.HURTS
    assert found.answer.startswith("Yes: 'more words' does better than 'as it is' (+")
    assert "No: 'fewer' does worse" in found.answer
    assert (found.fixed, found.ended, found.suite, found.by) == (True, "", "words", "Ada")
    (noted,) = notes(project)
    assert (noted["question"], noted["answer"]) == ("Do more words help?", found.answer)
    assert [a["says"] for a in noted["arms"]] == [None, "helps", "hurts"]
    assert noted["distance"] == "practice"
    assert ledger.verify(project.warden / ledger.FILE).ok
    place = project.state / "experiments" / found.folder
    assert {p.name for p in place.iterdir()} == {"experiment.toml", "result.json", "arms"}
    assert folder(place / "arms" / "more-words").files == MORE["files"], "what `upwright tell` takes"
    line = read_lineage(project)
    assert (len(line.generations), len(line.candidates), line.tests) == (1, 0, 0), "nothing was proposed or tested"
    assert list(project.work.iterdir()) == []
    again = experiment(project, toml(MORE, LESS), by="Bob")
    assert again == found
    assert len(notes(project)) == 1


@pytest.mark.usefixtures("unnoted")
def test_every_arm_has_the_same_tasks_and_seeds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[Any]] = {}
    inner = trial.ask_job

    def watched(root: str, arm: Any, suite: str, tasks: Any, seed: int, *, progress: Any) -> Any:
        asked.setdefault(arm.name, []).append((seed, [t.input for t in tasks]))
        return inner(root, arm, suite, tasks, seed, progress=progress)

    monkeypatch.setattr(trial, "ask_job", watched)
    experiment(project, toml(MORE, LESS, tasks=70))
    assert asked["as it is"] == asked["more words"] == asked["fewer"]
    seeds = [seed for seed, _ in asked["fewer"]]
    assert [seeds.count(s) for s in dict.fromkeys(seeds)] == [3, 3], "batches of 32 and the rest, two repeats"
    inputs = [i for _, tasks in asked["fewer"] for i in tasks]
    assert len(set(inputs)) == 140, "other tasks in each repeat"
    suite = open_suites(project.settings.suites, project.root, salt(project))["words"]
    assert not {t.input for t in exam(project, suite, 24)} & set(inputs), "none of the exam's"


@pytest.mark.usefixtures("unnoted")
def test_settings_of_inference(project: Project) -> None:
    warm = {"name": "warm", "inference": {"temperature": 0.7, "samples": 3, "choose": "vote"}}
    found = experiment(project, toml(warm, tasks=24))
    assert found.findings[1].told == "choose = 'vote', samples = 3, temperature = 0.7"
    assert found.findings[1].tokens > found.findings[0].tokens


@pytest.mark.usefixtures("unnoted")
def test_other_generations_and_suites(project: Project) -> None:
    runs.go(project, [runs.BETTER], rounds=1)
    arms = [{"name": "now"}, {"name": "first", "body": "0"}]
    found = experiment(project, toml(arms=arms, suite="manners", tasks=20))
    assert (found.suite, found.findings[1].difference) == ("manners", 0.0)
    worse = experiment(project, toml(arms=arms))
    assert worse.findings[1].says is Says.HURTS
    assert worse.findings[1].told == "generation 0"


@pytest.mark.usefixtures("unnoted")
def test_parts_of_a_program_are_laid_out(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo")
    (project.body_path / "program").mkdir()
    (project.body_path / "program" / "main.py").write_text("x = 1\n")
    arm = {**MORE, "files": {**MORE["files"], "program/main.py": "x = 2\n"}, "remove": []}
    found = experiment(project, toml(arm, {"name": "without", "remove": ["program/main.py"]}))
    assert found.findings[1].says is Says.HELPS
    assert found.findings[2].difference == 0.0
    kept = project.state / "experiments" / found.folder / "arms" / "more-words" / "program" / "main.py"
    assert kept.read_text() == "x = 2\n"
    assert list(project.work.iterdir()) == []


@pytest.mark.usefixtures("unnoted")
def test_skills_are_asked_alone(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo")
    (project.root / "tasks" / "words.py").write_text(puppet.tasks("words", "manners", "dates"))
    found = experiment(project, toml(tasks=10, skills=["manners"]))
    assert found.findings[1].difference == 0.0, "manners are the same in both arms"
    assert "on words (manners)" in found.answer
    with pytest.raises(TaskError, match="too few practice tasks"):
        experiment(project, toml(tasks=10, skills=["nothing"]))


@pytest.mark.usefixtures("unnoted")
def test_a_small_pool_is_asked_again(tmp_path: Path) -> None:
    """Where there are no other tasks the same are asked again, and count once."""
    import json

    project = runs.write_project(tmp_path / "demo", ("tasks/words.py", "tasks/words.jsonl"))
    lines = [json.dumps({"input": f"words: say w{i}", "answer": f"w{i}", "skill": "words"}) for i in range(60)]
    (project.root / "tasks" / "words.jsonl").write_text("\n".join(lines))
    project = Project.open(project.root)
    found = experiment(project, toml(tasks=500, repeats=3))
    more = found.findings[1]
    assert more.pairs < 60
    assert more.answers == 3 * more.pairs
    assert len(set(more.by_repeat)) == 1, "greedy answers are the same"


# ---- budget, and ends before the plan's ---------------------------------------------------------------


@pytest.mark.usefixtures("unnoted")
def test_a_budget_of_answers(project: Project) -> None:
    found = experiment(project, toml(tasks=64, budget={"tasks": 140}))
    assert [f.answers for f in found.findings] == [64, 64], "two batches of 32 for each arm"
    assert "the 140 answers are spent" in found.answer
    assert not found.fixed


@pytest.mark.usefixtures("unnoted")
def test_a_budget_of_seconds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(trial.time, "monotonic", lambda: float(next(clock)))
    found = experiment(project, toml(tasks=640, budget={"seconds": 25.0}))
    assert found.ended == "the 25 seconds are spent"
    assert 0 < found.findings[0].answers == found.findings[1].answers < 640


@pytest.mark.usefixtures("unnoted")
def test_no_answer_within_the_budget(project: Project) -> None:
    found = experiment(project, toml(budget={"tasks": 10}))
    assert found.answer.startswith("Nothing can be said of 'more words'")


@pytest.mark.usefixtures("unnoted")
def test_an_early_end(project: Project) -> None:
    sure = {"name": "all", "files": {"prompt.md": "manners = 0.8\nwords = 1.0\n"}}
    found = experiment(project, toml(sure, tasks=640, repeats=1, early=True))
    assert found.ended == "every difference is clear"
    assert found.findings[1].answers < 200
    assert found.findings[1].says is Says.HELPS
    assert not found.fixed, "the interval may be read whenever one likes"


# ---- failures -----------------------------------------------------------------------------------------


def broken(monkeypatch: pytest.MonkeyPatch, when: Callable[[Any], bool]) -> None:
    inner = Puppet.generate

    def generate(self: Puppet, requests: Any, progress: Any = None) -> Any:
        if when(requests[0].messages[0].content):
            raise RuntimeFailure("nothing answers")
        return inner(self, requests, progress)

    monkeypatch.setattr(Puppet, "generate", generate)


@pytest.mark.usefixtures("unnoted")
def test_an_arm_that_cannot_be_run_fails(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda prompt: "0.8\nwords = 0.8" in prompt)
    found = experiment(project, toml(MORE, LESS))
    more = found.findings[1]
    assert (more.failures, more.score, more.difference) == (80, None, -1.0)
    assert "80 of its answers failed" in found.answer


@pytest.mark.usefixtures("unnoted")
def test_a_dead_machine_is_no_arm_s_fault(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, lambda prompt: True)
    with pytest.raises(RuntimeFailure, match="nothing answers"):
        experiment(project, toml())
    assert results(project) == ()


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        (toml({"name": "x", "body": "7"}), ProjectError, "no such generation"),
        (toml({"name": "x", "append": {}}), ProjectError, "two arms are the same body"),
        (toml({"name": "x", "inference": {"sample": 3}}), BodyError, r"arm 'x': inference\.toml: unknown key"),
        (toml({"name": "x", "inference": {"samples": "many"}}), BodyError, "arm 'x'"),
        (toml({"name": "x", "files": {"program/a.py": "("}}), BodyError, "arm 'x': program/a.py, line 1"),
        (toml({"name": "x", "remove": ["memory.jsonl"]}), ProjectError, r"arm 'x': there is no memory\.jsonl"),
        (toml({"name": "x", "edits": "nothing"}), (ProjectError, BuildError), "arm 'x': there is no edit"),
        (toml(suite="none"), ProjectError, "there is no such suite"),
        ("x", ProjectError, "is not TOML"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_asked(
    text: str, error: Any, told: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, lambda prompt: True)
    with pytest.raises(error, match=told):
        experiment(project, text)


def test_a_run_at_work_is_waited_for(project: Project) -> None:
    with project.lock(), pytest.raises(ProjectError, match="another run is at work"):
        experiment(project, toml())


# ---- kill -9 ------------------------------------------------------------------------------------------


def comparable(found: Result) -> Any:
    from upwright.records import to_json

    data = to_json(found)
    for f in data["findings"]:
        del f["seconds"]
    return {**data, "seconds": 0}


def test_killed_it_goes_on_and_asks_nothing_twice(project: Project, tmp_path: Path) -> None:
    whole = runs.copy(tmp_path / "whole")
    text = toml(tasks=64)
    expected = comparable(experiment(whole, text))

    def dies(at: int) -> None:
        experiment(project, text, report=lambda done, total, note: strike(KILL) if done >= at else None)

    assert fork(lambda: dies(100), tmp_path / "log") == -KILL
    assert results(project) == ()
    asked: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        inner = Puppet.generate

        def generate(self: Puppet, requests: Any, progress: Any = None) -> Any:
            asked.append(len(requests))
            return inner(self, requests, progress)

        patch.setattr(Puppet, "generate", generate)
        found = experiment(project, text)
    assert comparable(found) == expected
    assert sum(asked) <= 256 - 64, "what was answered before the kill is not asked again"
    assert len(notes(project)) == 1


def test_killed_before_the_note_it_is_noted_then(project: Project, tmp_path: Path) -> None:
    def dies() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("upwright.experiments.run.note", lambda *_: strike(KILL))
            experiment(project, toml())

    assert fork(dies, tmp_path / "log") == -KILL
    assert notes(project) == []
    (kept,) = results(project)
    assert experiment(project, toml()) == kept
    assert len(notes(project)) == 1


def test_stopped_it_goes_on(project: Project) -> None:
    def stop(done: int, total: int, note: str) -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        experiment(project, toml(), report=stop)
    assert experiment(project, toml()).ended == ""


def test_where_it_is_kept(project: Project) -> None:
    assert place_of(project, "Does “X” help?  Really!", "ab" * 32).name == "does-x-help-really-abababab"
    assert place_of(project, "???", "ab" * 32).name == "experiment-abababab"
