"""What a person sees while a program evolves, where stdout is no terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import synthetic
from upwright.cli import display
from upwright.cli.evolving import Telling, verdict
from upwright.events import Event
from upwright.lines import CandidateLine
from upwright.metrics import Metric
from upwright.project import Project

EVENT = Event(2, 1, "build", "program", 0, 1, "", 10.0, 0, 60.0)


@pytest.fixture
def out(past: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Telling:
    monkeypatch.setattr("upwright.cli.evolving.PLAIN_EVERY", 0.0)
    project = Project.open(synthetic.copy(past, tmp_path / "demo"))
    return Telling(project, Console(file=io.StringIO(), width=200))


def said(telling: Telling) -> list[str]:
    assert isinstance(telling.console.file, io.StringIO)
    return telling.console.file.getvalue().splitlines()


def test_searches_and_tests_are_told_and_nothing_else(out: Telling) -> None:
    for verb, done, total, note in (
        ("evaluate", 1, 1, "answering"),
        ("diagnose", 1, 1, "height: the program scores 0.500 on practice (1 run)."),
        ("propose", 1, 1, "search for a better program"),
        ("build", 0, 1, "takes about 22 seconds"),
        ("build", 3, 20, "3 candidates, best height 2 on practice (candidate 1)"),
        ("build", 3, 20, "3 candidates, best height 2 on practice (candidate 1)"),
        ("prove", 16, 48, "answering"),
        ("prove", 0, 0, "opening the vault"),
        ("promote", 0, 0, "ended: the time is spent"),
    ):
        out(replace(EVENT, verb=verb, done=done, total=total, note=note))
    assert said(out)[:5] == [
        "search 2: search for a better program",
        "  3 candidates, best height 2 on practice (candidate 1)",
        "  16 of 48 runs to test it",
        "  opening the vault",
        "ended: the time is spent",
    ]


def test_the_bound_on_candidates_is_told_as_it_was_given(out: Telling) -> None:
    out(replace(EVENT, verb="promote", total=0, note="ended: 1 candidates, as asked"))
    assert said(out)[0] == "ended: as many candidates as asked"


def test_counts_wait(out: Telling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upwright.cli.evolving.PLAIN_EVERY", display.PLAIN_EVERY)
    for done in range(20):
        out(replace(EVENT, done=done, total=20, note=f"{done} candidates, no score yet"))
    assert said(out) == []
    out(replace(EVENT, done=20, total=20, note="20 candidates, no score yet"))
    assert said(out) == ["  20 candidates, no score yet"]


def test_a_verdict_is_told_in_the_evaluators_numbers() -> None:
    line = CandidateLine(
        round=1, lever="program", reason="", digest="d", gain=0.1, decision="PROMOTE", why="better", evidence=None,
        seconds=1.0, at=0.0, metrics=(Metric("toy", "height", "max", 2.0, 1.5, 3, exact=True),),
    )  # fmt: skip
    assert verdict(line) == "height 1.5 → 2: PROMOTE; better"
    assert (
        verdict(replace(line, decision=None, why="it changes nothing", metrics=())) == "not tested: it changes nothing"
    )
