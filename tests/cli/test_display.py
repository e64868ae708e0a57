from __future__ import annotations

import io
import json
import math
import time
from pathlib import Path

import pytest
from rich.console import Console

from cli.test_commands import event
from upwright.cli.common import amount, duration, size
from upwright.cli.display import Display, bar
from upwright.project import Project


def seen(display: Display) -> str:
    out = Console(file=io.StringIO(), width=110)
    out.print(display)
    return out.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def display(changed: Path) -> Display:
    shown = Display(Project.open(changed), Console(file=io.StringIO(), width=110))
    with shown:
        return shown


def test_the_view_tells_what_is_going_on(display: Display) -> None:
    assert "starting" in seen(display)
    display(event(16))
    text = seen(display)
    for piece in ("generation 3, round 7", "confirmed", "16/32", "answering", "left", "REJECT", "not tested"):
        assert piece in text


def test_the_view_says_what_it_waits_for(display: Display) -> None:
    display(event(0, note="loading the model"))
    display._heard -= 12
    assert "waiting for the model: 12 s" in seen(display)


def test_the_view_shows_the_evidence_of_this_test_only(display: Display) -> None:
    path = display.project.warden / "people" / "progress.json"
    stream = {"n": 64, "log_e": 2.0, "log_e_against": 0.0, "mean": 0.041, "crossed": False}
    view = {"test": 5, "phase": "test", "decision": None, "log_threshold": math.log(600), "suites": {"sums": stream}}
    old = time.time() - 100
    path.write_text(json.dumps(view))
    import os

    os.utime(path, (old, old))
    display(event(16, verb="prove"))
    assert "e = " not in seen(display)
    path.write_text(json.dumps(view))
    text = seen(display)
    assert "e-value of 600 needed" in text
    assert "e = 7.39 after 64 tasks, mean +4.1 points" in text
    path.write_text("{")
    assert "e = " not in seen(display)


def test_plain_lines_are_few(changed: Path) -> None:
    out = io.StringIO()
    with Display(Project.open(changed), Console(file=out, width=110)) as display:
        for done in range(32):
            display(event(done))
        display(event(32))
    assert len(out.getvalue().splitlines()) == 2


def test_numbers() -> None:
    assert [duration(s) for s in (0, 59.4, 61, 3725, None)] == ["0 s", "59 s", "1 min 01 s", "1 h 02 min", "no limit"]
    assert [amount(n) for n in (950, 12_400, 3_100_000)] == ["950", "12.4 k", "3.1 M"]
    assert size(1_400_000) == "1.4 MB"
    assert bar(0.5, 4) == "██░░"
    assert bar(7, 4) == "████"
