from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from upwright.evolution.trials import FolderTrials
from upwright.tasks.base import Evaluator
from upwright.testing.programs import FakeJudged


@dataclass(frozen=True)
class Staged(FakeJudged):
    """A run that may have ended in a quick stage."""

    stage: int = 0


TOML = 'metric = "speed"\n{more}\n[metrics.size]\ndirection = "min"\nexact = true\n'


class FakeFolderJudge:
    """A judge that notes what it was asked."""

    def __init__(self, folder: Path, *_: Any, **more: Any) -> None:
        self.folder, self.more, self.closed = folder, more, 0
        self.asked: list[tuple[int, str]] = []

    def judge(self, program: Any, seed: int, metric: str) -> FakeJudged:
        self.asked.append((seed, metric))
        failed = "bad" in program
        artifacts = {"output": "hello\n", **({"why": "it crashed"} if failed else {})}
        metrics, stage = {"speed": 1.5, "size": 2.0}, int("quick" in program)
        return Staged(None if failed else 0.5, metrics, "crash" if failed else "", artifacts, stage=stage)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeFolderJudge]:
    """Judges in the order in which they were made; the first is the process's own, which judges whole."""
    found = [FakeFolderJudge(tmp_path)]
    monkeypatch.setattr("upwright.tasks.evaluator.judge", lambda source: found[0])

    def staged(*arguments: Any, **more: Any) -> FakeFolderJudge:
        found.append(FakeFolderJudge(*arguments, **more))
        return found[-1]

    monkeypatch.setattr("upwright.warden.evaluator.Judge", staged)
    return found


def trials(folder: Path, metric: str, more: str = "") -> FolderTrials:
    (folder / "evaluator.toml").write_text(TOML.format(more=more))
    return FolderTrials(Evaluator(folder, metric, "a" * 64))


def test_it_says_what_is_to_get_better(tmp_path: Path, made: list[FakeFolderJudge]) -> None:
    speed, size = trials(tmp_path, "speed"), trials(tmp_path, "size")
    assert (speed.metric, speed.direction, speed.exact) == ("speed", "max", False)
    assert (size.metric, size.direction, size.exact) == ("size", "min", True)
    assert speed.digest != size.digest
    assert speed.digest == trials(tmp_path, "speed").digest


def test_programs_are_judged_by_the_judge_that_this_process_has(tmp_path: Path, made: list[FakeFolderJudge]) -> None:
    found = trials(tmp_path, "size")
    assert found.judge({"a": "b"}, 7).score == 0.5
    assert found.watch({"a": "b"}, 1.0) == ("hello\n", "")
    assert found.watch({"bad": "b"}, 1.0) == ("hello\n", "it crashed")
    assert made[0].asked[0] == (7, "size")
    found.close()
    assert len(made) == 1
    assert made[0].closed == 0, "it is the process's own"


def test_quick_stages_come_first_where_there_are_any(tmp_path: Path, made: list[FakeFolderJudge]) -> None:
    found = trials(tmp_path, "speed", "thresholds = [0.5]")
    found.judge({"a": "b"}, 1)
    found.judge({"a": "b"}, 2)
    assert [len(judge.asked) for judge in made] == [0, 2]
    assert made[1].folder == made[0].folder
    assert "whole" not in made[1].more
    ended = found.judge({"quick": "b"}, 3)
    assert (ended.score, ended.failure) == (None, "stage")
    assert ended.artifacts["why"] == "it ended after quick stage 1, with speed = 1.5 there"
    found.close()
    found.close()
    assert made[1].closed == 1
    whole = trials(tmp_path, "speed", "thresholds = [0.5]\ncascade = false")
    whole.judge({"a": "b"}, 1)
    assert len(made) == 2
