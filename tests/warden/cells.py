"""Cells that run nothing: a function says what a program's run gives. And a world whose bodies are programs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from upwright.warden import runs
from upwright.warden.canon import tree_digest
from upwright.warden.evaluator import Judge
from upwright.warden.isolation import Ending, Limits, Ran

Run = Callable[[Mapping[str, str], int], Any]


def gave(metrics: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What a harness returns."""
    return {"metrics": dict(metrics), "refused": {}, "artifacts": {}, "stage": 0, "error": "", **more}


class FakeCells:
    """``run(program, seed)`` gives metrics, or a whole :class:`Ran`."""

    def __init__(self, run: Run) -> None:
        self._run, self._lock = run, threading.Lock()
        self.jobs: list[tuple[Mapping[str, Any], Mapping[str, str], int]] = []
        self.closed = False

    def run(self, job: Mapping[str, Any], program: Mapping[str, str], seed: int, limits: Limits | None = None) -> Ran:
        assert not self.closed
        with self._lock:
            self.jobs.append((job, program, seed))
        found = self._run(program, seed)
        return found if isinstance(found, Ran) else Ran(Ending.OK, gave(found), "", "", 0.01, ())

    def close(self) -> None:
        self.closed = True


def ended(ending: Ending, why: str = "because", alarms: tuple[str, ...] = ()) -> Ran:
    """A run that did not end well."""
    return Ran(ending, None, why, "", 0.01, alarms)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], list[FakeCells]]:
    """Let the warden's judges run a function; gives the list of the cells that they make."""

    def install(run: Run) -> list[FakeCells]:
        made: list[FakeCells] = []

        def judge(folder: Path, *, waiver: bool, size: int, whole: bool) -> Judge:
            assert whole, "a sealed run is never cut short by a cascade"
            made.append(FakeCells(run))
            return Judge(folder, size=size, whole=whole, cells=made[-1])

        monkeypatch.setattr(runs, "Judge", judge)
        return made

    return install


def value_of(program: Mapping[str, str]) -> float:
    """The number that a program of this world is."""
    return float(program["program.py"])


def folder(tmp: Path, text: str = 'metric = "value"\n') -> Path:
    """An evaluator's folder."""
    place = tmp / "bench"
    place.mkdir(exist_ok=True)
    (place / "evaluator.toml").write_text(text)
    (place / "evaluator.py").write_text("def evaluate(path):\n    return {}\n")
    return place


def written(value: object) -> dict[str, str]:
    """A program."""
    return {"program.py": str(value)}


def body(value: object) -> dict[str, Any]:
    """A body with such a program."""
    files = {f"program/{p}": hashlib.sha256(t.encode()).hexdigest() for p, t in written(value).items()}
    files["model.toml"] = hashlib.sha256(b"runtime").hexdigest()
    return {"digest": tree_digest(files), "files": files}


def says(value: object) -> Callable[[str], str]:
    """A body that answers with its program."""
    return lambda question: json.dumps(written(value))
