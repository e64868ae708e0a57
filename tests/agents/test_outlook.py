from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import runs
from upwright.agents import words
from upwright.agents.change import Offer
from upwright.agents.hearing import tell
from upwright.agents.outlook import LONGEST, Miss, Outlook, _runs, ask
from upwright.bodies.body import Body
from upwright.errors import CharterError
from upwright.practice import exam, salt
from upwright.project import Project
from upwright.records import Task
from upwright.tasks.suite import open_suites
from upwright.testing.puppet import Puppet
from upwright.warden.kernel import Warden


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return runs.copy(tmp_path / "demo")


def see(project: Project, **how: Any) -> Outlook:
    with runs.inside(project) as warden:
        return ask(project, door=warden, **how)


def test_what_is_weak_and_what_failed(project: Project) -> None:
    seen = see(project)
    assert [(p.path, p.may_change) for p in seen.parts] == [("model.toml", False), ("prompt.md", True)]
    assert seen.parts[1].text == "manners = 0.8\nwords = 0.3\n"
    assert seen.diagnosis is not None
    (weak,) = seen.diagnosis.weaknesses
    assert weak.skill == "words"
    assert weak.interval.low < weak.rate < weak.interval.high
    assert weak.errors == {"wrong value": 1.0}
    assert seen.asked == 48
    assert 20 < len(seen.misses) < 45
    assert {m.said for m in seen.misses} == {"wrong"}
    assert all(m.expected in m.question for m in seen.misses)
    assert seen.note == ""


def test_failures_that_are_shown_are_not_on_the_exam(project: Project) -> None:
    suite = open_suites(project.settings.suites, project.root, salt(project))["words"]
    reserved = {task.input for task in exam(project, suite, 24)}
    assert not reserved & {m.question for m in see(project).misses}


def test_a_champion_is_evaluated_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = see(project)
    asked = []
    monkeypatch.setattr(Puppet, "generate", lambda *a, **k: asked.append(a))
    assert see(project) == first
    assert ask(project, look_only=True) == first
    assert not asked


def test_what_a_run_found_out_is_used(project: Project) -> None:
    runs.go(project, [runs.SAME], rounds=1)
    seen = ask(project, look_only=True)
    assert seen.diagnosis is not None
    assert seen.asked == 0
    assert "was not evaluated yet" in seen.note
    assert see(project).asked == 48


def test_a_new_champion_is_another_matter(project: Project) -> None:
    before = see(project)
    with runs.inside(project) as warden:
        tell(project, Offer(files={"prompt.md": "manners = 0.8\nwords = 0.9\n"}), door=warden)
    seen = see(project)
    assert (seen.generation, seen.parent == before.parent) == (1, False)
    assert len(seen.misses) < 15
    assert [f.lever for f in seen.history] == ["told"]


def test_before_the_founding(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo")
    seen = ask(project, look_only=True)
    assert (seen.parent, seen.asked, seen.diagnosis) == ("", 0, None)
    assert [p.path for p in seen.parts] == ["model.toml", "prompt.md"]
    assert "not founded yet" in seen.note
    assert not project.state.exists(), "looking founds nothing"
    assert ask(project).diagnosis is not None


def test_beside_a_run_at_work(project: Project) -> None:
    with project.lock():
        seen = ask(project)
    assert "a run is at work" in seen.note
    assert seen.parts


def test_a_charter_that_was_edited_is_told(project: Project) -> None:
    runs.edit(project.root, ("minimum_gain = 0.1", "minimum_gain = 0.01"))
    with pytest.raises(CharterError, match="changed after the first run"):
        see(project)
    assert ask(project, look_only=True).terms.minimum_gain == 0.1, "what is in force is told, not what was edited"


def test_terms_and_budget(tmp_path: Path) -> None:
    edits = (
        ("[protected", 'oversight = "approve"\nminimum_rung = "independent judge"\n[protected'),
        (
            "[sealed]",
            '[budget]\ntests = 5\ntokens = 100000\nminutes = 60\n[invariants]\nforbid_text = ["(?i)sorry"]\n[sealed]',
        ),
        ('["prompt.md"]', '["prompt.md", "memory.jsonl", "model/adapter/"]'),
    )
    project = runs.make(tmp_path / "demo", *edits)
    with runs.inside(project) as warden:
        tell(project, Offer(files={"prompt.md": "manners = 0.8\nwords = 0.9\n"}), door=warden)
    terms = see(project).terms
    assert terms.may_change == ("prompt.md", "memory.jsonl"), "weights are not an agent's"
    left = {limit.name: limit.left for limit in terms.budget}
    assert left["tests"] == 4
    assert 0 < left["tokens"] < 100000
    assert 59 < left["minutes"] < 60
    told = words.terms(terms)
    for text in (
        "by 10 points or more",
        "manners (at most 15 points worse)",
        "(?i)sorry",
        "a person agrees",
        "tests: 4 of 5 left",
    ):
        assert text in told


def test_nothing_sealed_and_no_source_is_in_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed: set[str] = set()
    inner = Warden.next_inputs

    def watched(self: Warden, test: int) -> Any:
        batch = inner(self, test)
        sealed.update(q["input"] for q in batch.get("questions", ()))
        return batch

    monkeypatch.setattr(Warden, "next_inputs", watched)
    with runs.inside(project) as warden:
        tell(project, Offer(files={"prompt.md": "manners = 0.8\nwords = 0.9\n"}), door=warden)
    assert len(sealed) > 64
    seen = see(project)
    told = words.whole(seen, True) + str(seen)
    assert not [question for question in sealed if question in told]
    assert "def generate" not in told
    assert (project.warden / "keys" / "secret").read_bytes().hex() not in told


def test_a_body_that_cannot_be_run_is_no_reason_to_ask_for_ever(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures to run are shown as what they are, and not asked again."""
    from upwright.bodies.runtimes.base import Completion
    from upwright.records import Failure, FailureKind

    broken = Completion("", None, failure=Failure(FailureKind.TIMEOUT, "no answer within 60 s"))
    monkeypatch.setattr(Puppet, "generate", lambda self, requests, progress=None: [[broken] * r.n for r in requests])
    seen = see(project)
    assert {m.kind for m in seen.misses} == {"timeout"}
    assert {m.score for m in seen.misses} == {None}
    assert "no score" in words.misses(seen)
    monkeypatch.undo()
    assert see(project) == seen


def test_words_are_short(project: Project) -> None:
    seen = see(project)
    long = replace(seen, misses=(Miss("a", 1, "q" * 5000, "e", "", 0.0, "off task"),) * 20)
    told = words.misses(long, 3)
    assert told.count("##") == 3
    assert "(nothing)" in told
    assert len(told) < 3 * words.BRIEF + 600
    assert "not known yet" in words.misses(replace(seen, asked=0))
    assert words.misses(long, 3, "other").endswith("0 of them in other")
    assert "nothing yet" in words.history(())
    assert words.part(seen.parts[1]).startswith("## prompt.md\n\n```\n")
    assert LONGEST > words.BRIEF


def test_a_program_is_told_by_its_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scores say how good it is, not whether it is right; the evaluator's own words are what helps."""
    from upwright.tasks import evaluator

    runs_: list[tuple[object, ...]] = []

    class Judge:
        def judge(self, program: object, seed: int, metric: str) -> object:
            runs_.append((program, seed, metric))
            failed = len(runs_) == 2
            return SimpleNamespace(
                metrics={} if failed else {"radii": 2.5, "time": 0.125}, score=None if failed else 0.75,
                failure="timeout" if failed else "", artifacts={"why": "it took 60 s"} if failed else {"hint": "a gap at 3"},
            )  # fmt: skip

    monkeypatch.setattr(evaluator, "judge", lambda source: Judge())
    (project.body_path / "program").mkdir()
    (project.body_path / "program" / "main.py").write_text("x = 1\n")
    suite = SimpleNamespace(source=SimpleNamespace(metric="radii"))
    tasks = [Task("t1", "run ab", 98711, "radii"), Task("t2", "run cd", 98712, "radii")]
    shown = _runs(suite, Body(project.body_path), tasks, lambda *_: None)  # type: ignore[arg-type]
    assert runs_ == [({"main.py": "x = 1\n"}, 98711, "radii"), ({"main.py": "x = 1\n"}, 98712, "radii")]
    assert [(m.kind, m.score) for m in shown.misses] == [("measured", 0.75), ("timeout", None)]
    told = words.misses(replace(see(project), misses=shown.misses, asked=2, measured=True))
    for text in (
        "# Runs of the evaluator",
        "radii = 2.5, time = 0.125\nhint: a gap at 3",
        "timeout, no score",
        "it took 60 s",
    ):
        assert text in told
    for seed in ("98711", "98712", "expected"):
        assert seed not in told
    assert "words: score 0.25 of 1 (95 % interval" in words.diagnosis(replace(see(project), measured=True))


def test_fences_hold_what_has_fences(project: Project) -> None:
    from upwright.agents.outlook import Part

    told = words.part(Part("prompt.md", 9, True, "```\nx\n```"))
    assert told == "## prompt.md\n\n````\n```\nx\n```\n````"


def test_absent_parts_that_may_be_added_are_named(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo", ('["prompt.md"]', '["prompt.md", "memory.jsonl", "program/"]'))
    told = words.parent(ask(project, look_only=True))
    assert "- memory.jsonl (absent; may be added)" in told
    assert "- program/ (absent; may be added)" in told
    assert "- model.toml (19 bytes), may not change" in told
