"""Time, memory, processes, files, processor: each has an end, and nothing is left after it."""

from __future__ import annotations

import time
from dataclasses import replace

from upwright.warden.isolation import Ending, Pool

from .conftest import LIMITS, processes, run


def test_sleeping_past_the_time_ends_all_of_it(pool: Pool) -> None:
    token = f"token-{time.time_ns()}"
    program = f"""
        import os, subprocess, sys, time
        def solve(question):
            command = ["/bin/sh", "-c", "trap '' TERM HUP INT; sleep 20; : {token}"]
            subprocess.Popen(command)
            subprocess.Popen(command, start_new_session=True)
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.execv(command[0], command)
                os._exit(0)
            print("started", flush=True)
            time.sleep(20)
    """
    began = time.monotonic()
    ran = run(pool, "exam", program, seconds=1.5)
    took = time.monotonic() - began
    assert ran.ending is Ending.TIMEOUT
    assert "1.5 s" in ran.why
    assert "started" in ran.output
    assert 1.5 <= took < 2.5
    assert not processes(token), "everything was gone before the verdict was"


def test_an_evaluator_that_never_ends_is_ended_too(apart: Pool) -> None:
    began = time.monotonic()
    ran = apart.run({"entry": "odd.py", "function": "slow"}, {"p.py": ""}, 1, replace(LIMITS, seconds=0.5))
    assert ran.ending is Ending.TIMEOUT
    assert 0.5 <= time.monotonic() - began < 1.5


def test_memory_ends_where_the_limit_is(pool: Pool) -> None:
    ran = run(pool, "exam", "def solve(question):\n    return len(bytearray(2 << 30))", memory_mb=256)
    assert ran.ending is Ending.MEMORY


def test_memory_of_all_processes_counts_together(pool: Pool) -> None:
    program = """
        import os, time
        def solve(question):
            for _ in range(4):
                if os.fork() == 0:
                    held = bytearray(100 << 20)
                    time.sleep(20)
            time.sleep(20)
    """
    ran = run(pool, "exam", program, memory_mb=256)
    assert ran.ending is Ending.MEMORY
    assert "256 MB" in ran.why


def test_forking_past_the_limit_ends_the_run(pool: Pool) -> None:
    program = """
        import os, time
        def solve(question):
            for _ in range(9):
                if os.fork() == 0:
                    time.sleep(20)
                    os._exit(0)
            return "nine more"
    """
    ran = run(pool, "exam", program)
    assert ran.ending is Ending.LIMIT
    assert "8 processes" in ran.why


def test_processes_that_ended_do_not_count(pool: Pool) -> None:
    program = """
        import os, subprocess, threading
        def solve(question):
            for _ in range(4):
                if os.fork() == 0:
                    os._exit(0)
                os.wait()
            threads = [threading.Thread(target=lambda: None) for _ in range(20)]
            for thread in threads:
                thread.start()
            subprocess.run(["/bin/true"], check=True)
            for _ in range(12):
                if os.fork() == 0:
                    if os.fork() == 0:
                        os._exit(0)
                    os._exit(0)
                os.wait()
            return 1
    """
    assert run(pool, "number", program).value == {"score": 1, "kind": "int"}


def test_a_fork_bomb_ends_at_once(pool: Pool) -> None:
    program = """
        import os
        def solve(question):
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
    """
    ran = run(pool, "exam", program)
    assert ran.ending is Ending.LIMIT
    assert run(pool, "exam", "def solve(question): return ''").ending is Ending.OK


def test_files_end_where_the_limit_is(pool: Pool) -> None:
    program = """
        def solve(question):
            with open("big", "wb") as file:
                for _ in range(64):
                    file.write(bytes(1 << 20))
            return ""
    """
    ran = run(pool, "exam", program)
    assert ran.ending in (Ending.CRASH, Ending.LIMIT)
    assert "OSError" in ran.why or "8 MB of files" in ran.why


def test_many_files_end_where_the_limit_is(pool: Pool) -> None:
    program = """
        import time
        def solve(question):
            for number in range(64):
                with open(f"part {number}", "wb") as file:
                    file.write(bytes(1 << 20))
            time.sleep(5)
            return ""
    """
    ran = run(pool, "exam", program)
    assert ran.ending in (Ending.CRASH, Ending.LIMIT)
    assert "No space left" in ran.why or "8 MB of files" in ran.why


def test_processor_time_ends_where_the_limit_is(pool: Pool) -> None:
    ran = run(pool, "exam", "def solve(question):\n    while True: pass", cpu_seconds=0.3)
    assert ran.ending is Ending.LIMIT
    assert "processor" in ran.why
