"""Trainings side by side come to the same weights as one after the other."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from upwright.bodies.body import Training
from upwright.engines.worker import IN_WORKER
from upwright.errors import BuildError, Stopped
from upwright.training import beside, loop
from upwright.training.beside import Work, train_all
from upwright.training.rows import Row

RECIPE = Training(weights="full", steps=12, batch=8, learning_rate=5e-3)


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(IN_WORKER, str(os.getpid()))
    monkeypatch.setattr(beside, "cores", lambda: 2)
    yield
    beside.close()


def works(model: Path, rows: list[Row], scratch: Path, n: int = 2, recipe: Training = RECIPE) -> list[Work]:
    return [Work(model, rows, recipe, scratch / str(k), k) for k in range(n)]


def weights(found: list[beside.TrainedWeights]) -> list[str]:
    return [hashlib.sha256((one.model / "model.safetensors").read_bytes()).hexdigest() for one in found]


def quiet(number: int, done: int, total: int, note: str) -> None:
    return None


def test_two_processes_give_what_one_gives(
    model: Path, sums: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "cores", lambda: 2)
    alone = train_all(works(model, sums, tmp_path / "alone", 3), quiet)
    assert not beside._processes, "outside of a worker nothing is started"
    monkeypatch.setenv(IN_WORKER, str(os.getpid()))
    heard: set[int] = set()
    try:
        together = train_all(works(model, sums, tmp_path / "together", 3), lambda k, *_: heard.add(k))
        assert len(beside._processes) == 1
    finally:
        beside.close()
    assert weights(together) == weights(alone)
    assert len(set(weights(alone))) == 3, "seeds differ"
    assert heard == {0, 1, 2}
    assert [one.losses for one in together] == [one.losses for one in alone]


@pytest.mark.usefixtures("as_worker")
def test_a_stop_leaves_checkpoints_and_the_same_call_goes_on(model: Path, sums: list[Row], tmp_path: Path) -> None:
    recipe = replace(RECIPE, steps=400)
    asked = works(model, sums, tmp_path / "stopped", recipe=recipe)

    def stop(number: int, done: int, total: int, note: str) -> None:
        if done > 20:
            raise Stopped("stopped on request")

    with pytest.raises(Stopped):
        train_all(asked, stop)
    assert all(any(w.scratch.iterdir()) and not (w.scratch / "trained.json").exists() for w in asked)
    went_on = train_all(asked, quiet)
    assert weights(went_on) == weights(train_all(works(model, sums, tmp_path / "whole", recipe=recipe), quiet))


@pytest.mark.usefixtures("as_worker")
def test_a_process_that_dies_is_no_failure(model: Path, sums: list[Row], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(number: int, done: int, total: int, note: str) -> None:
        if not killed:
            killed.append(beside._processes[0]._popen.pid)
            os.kill(killed[0], signal.SIGKILL)

    found = train_all(works(model, sums, tmp_path / "killed"), kill)
    assert killed
    assert weights(found) == weights(train_all(works(model, sums, tmp_path / "whole"), quiet))
    assert beside._processes[0]._popen.pid != killed[0], "a new one was started"


@pytest.mark.usefixtures("as_worker")
def test_trouble_in_the_other_process_is_told(model: Path, sums: list[Row], tmp_path: Path) -> None:
    good, bad = works(model, sums, tmp_path / "bad")
    with pytest.raises(BuildError, match="nothing to train on"):
        train_all([good, replace(bad, rows=())], quiet)


@pytest.mark.usefixtures("as_worker")
def test_both_train_at_the_same_time_however_much_they_say(
    model: Path, sums: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process says more than its pipe holds while the first one trains; it is not held up by that."""
    monkeypatch.setattr(loop, "TELL", 0.0)
    start = beside._START.replace("serve; serve", "serve; from upwright.training import loop; loop.TELL = 0.0; serve")
    monkeypatch.setattr(beside, "_START", start)
    train_all(works(model, sums, tmp_path / "warm"), quiet)
    longer, shorter = works(model, sums, tmp_path, recipe=replace(RECIPE, steps=1600, batch=1))
    shorter = replace(shorter, recipe=replace(shorter.recipe, steps=800))
    left: list[int] = []
    train_all([longer, shorter], lambda number, done, total, note: left.append(done) if number == 1 else None)
    assert not left or left[0] > 790, "it was done when the first one was"
