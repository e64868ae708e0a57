"""Walls that hold here, and warm pools behind them that the tests of a module share."""

from __future__ import annotations

import contextlib
import functools
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from upwright.warden.isolation import IsolationError, Limits, Pool, Ran, strongest_wall
from upwright.warden.isolation.probe import holes
from upwright.warden.isolation.walls import Bubblewrap, Landlock, Wall

LIMITS = Limits(seconds=20.0, memory_mb=512, processes=8, file_mb=8, output_kb=16)

EVALUATOR = """
import importlib.util, json, os, random, sys, time

ANSWERS = {f"question {i}": f"the answer is {i * 7919 % 1013}" for i in range(5)}

def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def exam(path):
    "Share of right answers; the answers are in this process only."
    program = load(path)
    right = 0
    for question, answer in ANSWERS.items():
        right += program.solve(question) == answer
    return {"score": right / len(ANSWERS)}

def number(path):
    "Whatever number the program gives back."
    value = load(path).solve("question 0")
    return {"score": value, "kind": type(value).__name__}

def clock(path):
    "How long half a tenth of a second takes."
    program = load(path)
    began = time.perf_counter()
    program.solve("question 0")
    return {"seconds": time.perf_counter() - began}

def scores(path):
    "Keeps its score in a file, as some evaluators do."
    with open("scores.json", "w") as file:
        json.dump({"score": 0.25}, file)
    load(path).solve("question 0")
    with open("scores.json") as file:
        return {**json.load(file), "files": sorted(os.listdir(".")), "beside": sorted(os.listdir(os.path.dirname(__file__)))}

def constant(path):
    return {"score": 1.0}

def draw(path):
    import numpy
    program = load(path)
    return {"here": [random.random(), numpy.random.rand()], "there": program.draw()}
"""

ODD = """
import os, time
import numpy as np

def fine(path):
    return {"a": np.float32(1.5), "b": np.arange(3), "c": (1, True, None), "d": float("nan"), 2: -np.inf}

def odd(path):
    return {"deep": [object()]}

def slow(path):
    time.sleep(20)

def source(path):
    found = {}
    for at, _, names in os.walk(os.path.join(os.path.dirname(path), "source")):
        for name in names:
            with open(os.path.join(at, name)) as file:
                found[name] = file.read()
    return found
"""


def holding(wall: Wall) -> Wall:
    """The wall, or a skipped test that says why it does not hold; another one must then."""
    try:
        found = holes(wall)
    except IsolationError as error:
        found = [error.what]
    if found:
        assert strongest_wall().name != wall.name
        pytest.skip(f"{wall.name} does not hold here: {'; '.join(found)}")
    return wall


@pytest.fixture(scope="session", params=[Bubblewrap, Landlock], ids=["bubblewrap", "landlock"])
def wall(request: pytest.FixtureRequest) -> Wall:
    return holding(request.param())


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("evaluator")
    (made / "evaluator.py").write_text(EVALUATOR)
    (made / "odd.py").write_text(ODD)
    return made


@pytest.fixture(scope="session")
def pools(wall: Wall, folder: Path) -> Iterator[Callable[[str], Pool]]:
    """Warm pools of one wall, started when first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(kind: str) -> Pool:
            made = Pool(folder, "plain", ["numpy"], LIMITS, wall=wall, size=1, together=kind == "together")
            return stack.enter_context(made)

        yield start


@pytest.fixture
def apart(pools: Callable[[str], Pool]) -> Pool:
    return pools("apart")


@pytest.fixture(params=["apart", "together"])
def pool(request: pytest.FixtureRequest, pools: Callable[[str], Pool]) -> Pool:
    return pools(request.param)


def job(function: str) -> dict[str, Any]:
    return {"entry": "evaluator.py", "function": function, "program": "program.py"}


def run(pool: Pool, function: str, program: str, seed: int = 1, **limits: Any) -> Ran:
    """Run a program, given as indented text."""
    files = {"program.py": textwrap.dedent(program)}
    return pool.run(job(function), files, seed, replace(LIMITS, **limits) if limits else None)


def soon(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.01)
    return true()


def processes(token: str) -> list[int]:
    """Processes of this machine that have the token on their command line."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and token.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found
