"""What an evaluator can do with a program that is in another cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from upwright.warden.isolation import Ending, Pool, Ran
from upwright.warden.isolation.walls import Wall

from .conftest import LIMITS, job

PROGRAM = '''
import math
import numpy as np
from collections import namedtuple

SIZE = 26
NAMES = ["a", "b"]
GRID = np.eye(2)
Pair = namedtuple("Pair", "a b")
_state = 0

def add(a, b=2, *more, scale=1.0):
    """Adds."""
    return (a + b + sum(more)) * scale

def count():
    global _state
    _state += 1
    return _state

def pack(n):
    return np.arange(n) / 2, {"n": n}, (n, [n])

def fail():
    raise KeyError("lost")

def odd(kind):
    return {"object": object(), "generator": (x for x in ()), "function": add, "pair": Pair(1, 2)}[kind]

class Thing:
    pass
'''

EVALUATOR = """
import importlib.util, inspect, subprocess, sys, threading, time, traceback
from concurrent.futures import ProcessPoolExecutor

def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["program"] = module
    spec.loader.exec_module(module)
    return module

def surface(path):
    p = load(path)
    return {
        "names": sorted(n for n in vars(p) if not n.startswith("_")), "size": p.SIZE, "names of": p.NAMES,
        "grid": p.GRID, "signature": str(inspect.signature(p.add)), "doc": p.add.__doc__, "has": hasattr(p, "nothing"),
        "callable": callable(p.add), "private": p._state,
    }

def calls(path):
    p = load(path)
    array, table, pair = p.pack(3)
    return [p.add(1), p.add(1, 2, 3, scale=2.0), p.count(), p.count(), array, table, list(pair), type(array).__name__]

def errors(path):
    p, said = load(path), []
    for call in (p.fail, lambda: p.odd("object"), lambda: p.odd("generator"), lambda: p.add(lambda: 1), lambda: p.Thing()):
        try:
            call()
        except Exception as e:
            said.append(f"{type(e).__name__}: {e} {''.join(getattr(e, '__notes__', []))}")
    return said

def flat(path):
    return type(load(path).odd("pair")).__name__

def child(path):
    code = f"import sys; sys.path.insert(0, {path.rpartition('/')[0]!r}); import program; print(program.add(40))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout + done.stderr[-500:]

def fresh(path):
    "Two imports are two programs, as they are without a wall."
    one, two = load(path), load(path)
    return [one.count(), one.count(), two.count()]

def impatient(path):
    "Gives up on a call, by a signal, and asks something else."
    import signal
    p = load(path)
    def late(*_):
        raise TimeoutError("late")
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        p.forever()
    except TimeoutError as e:
        return [str(e), p.quick()]

def forked(path):
    import os
    p = load(path)
    p.count()
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, str([p.count(), p.count()]).encode())
        os._exit(0)
    os.wait()
    return [os.read(read, 100).decode(), p.count()]
"""


@pytest.fixture(scope="module")
def pool(wall: Wall, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder: Path = tmp_path_factory.mktemp("stubs")
    (folder / "evaluator.py").write_text(EVALUATOR)
    with Pool(folder, "plain", ["numpy"], LIMITS, wall=wall, size=1) as made:
        yield made


def ask(pool: Pool, function: str, program: str = PROGRAM) -> Ran:
    ran = pool.run(job(function), {"program.py": program}, 1)
    assert ran.ending is Ending.OK, ran
    return ran


def test_functions_constants_and_signatures_are_there(pool: Pool) -> None:
    found = ask(pool, "surface").value
    assert {"SIZE", "NAMES", "GRID", "Pair", "Thing", "add", "count"} <= set(found["names"])
    assert (found["size"], found["names of"], found["grid"]) == (26, ["a", "b"], [[1, 0], [0, 1]])
    assert found["signature"] == "(a, b=Ellipsis, *more, scale=Ellipsis)"
    assert found["doc"] == "Adds."
    assert (found["has"], found["callable"], found["private"]) == (False, True, 0)


def test_calls_take_and_give_data_and_keep_state(pool: Pool) -> None:
    assert ask(pool, "calls").value == [3.0, 12.0, 1, 2, [0.0, 0.5, 1.0], {"n": 3}, [3, [3]], "ndarray"]


def test_errors_keep_their_kind_and_what_is_not_data_names_the_way_out(pool: Pool) -> None:
    lost, thing, generator, function, klass = ask(pool, "errors").value
    assert lost.startswith("KeyError: ")
    assert "In the candidate" in lost
    for said in (thing, generator, function, klass):
        assert said.startswith("NotAcross: ")
        assert "together = true" in said
    assert ask(pool, "flat").value == "tuple"


def test_a_process_that_the_evaluator_starts_finds_the_program_too(pool: Pool) -> None:
    assert ask(pool, "child").value == "42.0\n"


def test_an_import_is_a_program_of_its_own_and_so_is_a_forked_process(pool: Pool) -> None:
    assert ask(pool, "fresh").value == [1, 2, 1]
    assert ask(pool, "forked").value == ["[1, 2]", 2]


def test_an_evaluator_that_gives_up_on_a_call_can_go_on(pool: Pool) -> None:
    program = "import time\ndef forever():\n    time.sleep(60)\ndef quick(): return 5"
    ran = ask(pool, "impatient", program)
    assert ran.value == ["late", 5]
    assert ran.seconds < 10
