from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import pytest

from upwright.warden.isolation import Ending, IsolationError, Limits, Pool
from upwright.warden.isolation.walls import Wall

from .conftest import LIMITS, job, processes, run, soon

RIGHT = """
def solve(question):
    return f"the answer is {int(question.split()[1]) * 7919 % 1013}"
"""


def test_an_honest_program_is_paid(pool: Pool) -> None:
    ran = run(pool, "exam", RIGHT)
    assert (ran.ending, ran.value, ran.why, ran.alarms) == (Ending.OK, {"score": 1.0}, "", ())
    assert 0 < ran.seconds < LIMITS.seconds


def test_what_is_printed_is_kept_and_cut(pool: Pool) -> None:
    ran = run(pool, "exam", RIGHT + "print('here I am')\n")
    assert "here I am" in ran.output
    ran = run(pool, "exam", RIGHT + "print('x' * 100_000)\n")
    assert ran.ending is Ending.OK
    assert len(ran.output) < 1.1 * LIMITS.output_kb * 1024
    assert "[cut at" in ran.output


def test_endless_printing_ends_the_run(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upwright.warden.isolation.run.DROPPED", 1 << 20)
    ran = run(pool, "exam", "while True: print('x' * 10_000)")
    assert ran.ending is Ending.LIMIT
    assert "printed" in ran.why


def test_a_program_that_raises_is_a_crash_with_its_last_line(pool: Pool) -> None:
    ran = run(pool, "exam", "def solve(question):\n    raise ValueError('not today')")
    assert (ran.ending, ran.value, ran.why) == (Ending.CRASH, None, "ValueError: not today")
    assert 'File "/' in ran.output, "the traceback is in what was printed"
    ran = run(pool, "exam", "def solve(question)\n    return 1")
    assert ran.ending is Ending.CRASH
    assert "SyntaxError" in ran.why


def test_a_program_without_the_function_is_a_crash_that_names_it(pool: Pool) -> None:
    ran = run(pool, "exam", "")
    assert ran.ending is Ending.CRASH
    assert "has no attribute 'solve'" in ran.why


def test_random_numbers_repeat_with_the_seed_and_differ_between_the_cells(apart: Pool) -> None:
    program = "import random, numpy\ndef draw(): return [random.random(), numpy.random.rand()]"
    one, same, other = (run(apart, "draw", program, seed).value for seed in (7, 7, 8))
    assert one == same
    assert not set(one["here"] + one["there"]) & set(other["here"] + other["there"])
    assert not set(one["here"]) & set(one["there"]), "the candidate cannot foresee what the evaluator draws"


def test_libraries_that_are_imported_late_are_seeded_too(wall: Wall, folder: Path) -> None:
    program = {"program.py": "def draw():\n    import numpy\n    return numpy.random.rand()"}
    with Pool(folder, "plain", [], LIMITS, wall=wall, size=1) as pool:
        one, same, other = (pool.run(job("draw"), program, seed).value for seed in (7, 7, 8))
    assert one == same
    assert one["here"][1] != other["here"][1]
    assert one["there"] != other["there"]


def test_a_program_of_several_files_is_laid_whole(pool: Pool) -> None:
    files = {
        "program.py": "from parts.inner import answer\nimport helper\ndef solve(q): return answer(q) if helper.ON else 0",
        "helper.py": "ON = True",
        "parts/__init__.py": "",
        "parts/inner.py": RIGHT.replace("solve", "answer"),
    }
    assert pool.run(job("exam"), files, 1).value == {"score": 1.0}


@pytest.mark.parametrize("path", ["../x.py", "/x.py", "a/../../x.py", "a//x.py", "./x.py", ""])
def test_paths_that_leave_the_program_are_refused(apart: Pool, path: str) -> None:
    with pytest.raises(IsolationError, match="relative and plain"):
        apart.run(job("exam"), {"program.py": "", path: ""}, 1)


def test_a_main_file_that_is_not_there_is_refused(apart: Pool) -> None:
    with pytest.raises(IsolationError, match="no such main file"):
        apart.run(job("exam"), {"other.py": "", "third.py": ""}, 1)
    assert apart.run({"entry": "evaluator.py", "function": "exam"}, {"only.py": "def solve(q): return q"}, 1).value


def test_what_json_cannot_hold_is_named(pool: Pool) -> None:
    ran = pool.run({**job("fine"), "entry": "odd.py"}, {"program.py": ""}, 1)
    assert math.isnan(ran.value.pop("d"))
    assert ran.value == {"a": 1.5, "b": [0, 1, 2], "c": [1, True, None], "2": -math.inf}
    ran = pool.run({**job("odd"), "entry": "odd.py"}, {"program.py": ""}, 1)
    assert ran.ending is Ending.PROTOCOL
    assert "['deep'][0]" in ran.why
    assert "object" in ran.why


def test_one_run_leaves_nothing_to_the_next(pool: Pool) -> None:
    leave = """
        import os, tempfile, builtins, json
        def solve(question):
            for name in ("left", os.path.join(tempfile.gettempdir(), "left")):
                open(name, "w").write("here")
            json.loads = builtins.len = None
            return ""
    """
    look = """
        import os, tempfile, json
        def solve(question):
            found = [n for n in ("left", os.path.join(tempfile.gettempdir(), "left")) if os.path.exists(n)]
            return len(found) + (json.loads is None)
    """
    run(pool, "exam", leave)
    assert run(pool, "number", look).value == {"score": 0, "kind": "int"}


def test_runs_go_on_side_by_side_from_many_threads(wall: Wall, folder: Path) -> None:
    found: list[object] = []
    with Pool(folder, "plain", [], LIMITS, wall=wall, size=2) as pool:
        threads = [
            threading.Thread(target=lambda n=n: found.append(run(pool, "number", f"def solve(q): return {n}").value))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(v["score"] for v in found) == list(range(8))  # type: ignore[index]


def test_closing_ends_runs_under_way_and_leaves_nothing(wall: Wall, folder: Path) -> None:
    token = f"token-{time.time_ns()}"
    program = f"import subprocess\ndef solve(q): subprocess.run(['/bin/sh', '-c', 'sleep 60; : {token}'])"
    pool = Pool(folder, "plain", [], LIMITS, wall=wall, size=1)
    home, found = pool._home, []
    thread = threading.Thread(target=lambda: found.append(run(pool, "exam", program)))
    thread.start()
    assert soon(lambda: bool(processes(token)), 20)
    pool.close()
    thread.join(20)
    assert found[0].ending is Ending.INFRASTRUCTURE
    assert soon(lambda: not processes(token))
    assert not home.exists()
    with pytest.raises(IsolationError, match="closed"):
        run(pool, "exam", RIGHT)
    pool.close()


def test_cells_that_were_killed_are_started_again(wall: Wall, folder: Path) -> None:
    with Pool(folder, "plain", [], LIMITS, wall=wall, size=1) as pool:
        assert run(pool, "exam", RIGHT).ending is Ending.OK
        pool._slots[0].interrupt()
        assert run(pool, "exam", RIGHT).ending is Ending.OK


def test_a_module_that_cannot_be_imported_is_told_at_the_start(wall: Wall, folder: Path) -> None:
    with pytest.raises(IsolationError, match="no_such_module"):
        Pool(folder, "plain", ["no_such_module"], Limits(), wall=wall)
    with pytest.raises(IsolationError, match="folder does not exist"):
        Pool(folder / "nowhere", "plain", [], Limits(), wall=wall)


def test_the_text_of_a_program_is_there_only_when_it_is_asked_for(apart: Pool) -> None:
    asked = {**job("source"), "entry": "odd.py"}
    files = {"program.py": "X = 1", "a/b.py": "Y = 2"}
    assert apart.run(asked, files, 1).value == {}
    assert apart.run({**asked, "source": True}, files, 1).value == {"program.py": "X = 1", "b.py": "Y = 2"}


def test_the_folder_of_a_killed_pool_is_cleared_up_by_the_next(
    wall: Wall, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(tempfile.mkdtemp(dir="/tmp"))  # short enough for the names of sockets
    monkeypatch.setattr("tempfile.tempdir", str(base))
    left, fresh = base / "upwright-cells-left", base / "upwright-cells-fresh"
    for made in (left, fresh):
        (made / "0" / "shared").mkdir(parents=True)
    os.utime(left, (1, 1))
    with Pool(folder, "plain", [], LIMITS, wall=wall, size=1) as pool:
        os.utime(pool._home, (1, 1))
        with Pool(folder, "plain", [], LIMITS, wall=wall, size=1):
            assert pool._home.exists(), "it is held"
            assert fresh.exists(), "its owner may be about to hold it"
            assert not left.exists()
    shutil.rmtree(base)


def test_a_long_name_of_the_temporary_folder_does_no_harm(
    wall: Wall, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Pool(folder, "plain", [], LIMITS, wall=wall, size=1) as pool:
        assert run(pool, "exam", RIGHT).value == {"score": 1.0}
