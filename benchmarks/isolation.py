"""What isolation costs, and whether its limits hold.

* ``ms``: wall clock per candidate, one after the other, everything included, with an evaluator that does nothing (``no-op``) and with one that
  imports the program and calls a function of it (``one call``); evaluator and candidate apart (two cells) and together (one).
* ``timeout``: a 3-second limit on an evaluator of 20 seconds that starts processes of its own: when it ended, and how many processes were left.
* ``flat``: milliseconds per candidate and resident memory (the pool's process and all its cells') over many candidates in one pool.

Run::

    python -m benchmarks.isolation --candidates 10000
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from upwright.warden.isolation import Ending, Limits, Pool, strongest_wall

EVALUATOR = """
import importlib.util, os, subprocess, time

def nothing(path):
    return {"score": 1.0}

def call(path):
    spec = importlib.util.spec_from_file_location("program", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return {"score": program.solve(1.0)}

def slow(path):
    command = ["/bin/sh", "-c", "trap '' TERM INT HUP; sleep 20; : " + os.environ["TMPDIR"] + " upwright-benchmark"]
    subprocess.Popen(command)
    subprocess.Popen(command, start_new_session=True)
    time.sleep(20)
"""
PROGRAM = {"program.py": "def solve(x):\n    return 2 * x\n"}


@contextmanager
def pool(together: bool, size: int = 2) -> Iterator[Pool]:
    """A warm pool with numpy imported."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "evaluator.py").write_text(EVALUATOR)
        with Pool(Path(folder), "plain", ["numpy"], Limits(seconds=60.0), together=together, size=size) as made:
            for _ in range(4):
                once(made, "call", 0)
            yield made


def once(made: Pool, function: str, seed: int) -> float:
    """Seconds that one candidate takes."""
    began = time.perf_counter()
    ran = made.run({"entry": "evaluator.py", "function": function}, PROGRAM, seed)
    took = time.perf_counter() - began
    assert ran.ending is Ending.OK, ran
    return took


def cost(runs: int) -> dict[str, Any]:
    """Milliseconds per candidate: median and 90th percentile."""
    found: dict[str, Any] = {}
    for name, together in (("apart", False), ("together", True)):
        with pool(together) as made:
            for label, function in (("no-op", "nothing"), ("one call", "call")):
                took = sorted(1000 * once(made, function, i) for i in range(runs))
                found[f"{name}, {label}"] = {
                    "median": round(statistics.median(took), 2),
                    "90 %": round(took[int(0.9 * runs)], 2),
                }
            found[f"{name}, one call, two at a time"] = round(1000 * parallel(made, runs) / runs, 2)
    return found


def parallel(made: Pool, runs: int) -> float:
    """Seconds for all the runs from two threads."""
    began = time.perf_counter()
    threads = [threading.Thread(target=lambda: [once(made, "call", i) for i in range(runs // 2)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def timeout(seconds: float = 3.0) -> dict[str, Any]:
    """When a run that would take 20 seconds ended, and what was left of it."""
    with pool(together=False) as made:
        began = time.perf_counter()
        job = {"entry": "evaluator.py", "function": "slow"}
        ran = made.run(job, PROGRAM, 0, Limits(seconds=seconds))
        took = time.perf_counter() - began
        left = [
            p.pid for p in psutil.process_iter(["cmdline"]) if "upwright-benchmark" in " ".join(p.info["cmdline"] or ())
        ]
    return {"limit": seconds, "ended": str(ran.ending), "seconds": round(took, 3), "processes left": len(left)}


def flat(candidates: int) -> dict[str, Any]:
    """Milliseconds and memory over a long run, in ten parts."""
    with pool(together=False) as made:
        parts = []
        for part in range(10):
            took = [once(made, "nothing", part * candidates + i) for i in range(candidates // 10)]
            parts.append((round(1000 * statistics.median(took), 2), resident()))
        return {
            "candidates": candidates,
            "ms in each tenth": [ms for ms, _ in parts],
            "memory in MB after each tenth": [mb for _, mb in parts],
        }


def resident() -> float:
    """Megabytes that this process and all below it hold, shared pages counted once."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return round(total / 2**20, 1)


def measure(runs: int = 300, candidates: int = 10_000) -> dict[str, Any]:
    """All of it."""
    return {
        "wall": strongest_wall().name,
        "cores": os.cpu_count(),
        "ms": cost(runs),
        "timeout": timeout(),
        "flat": flat(candidates),
    }


def main() -> None:
    """Parse, measure, print JSON."""
    parser = argparse.ArgumentParser(description="What isolation costs")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--candidates", type=int, default=10_000)
    args = parser.parse_args()
    print(json.dumps(measure(args.runs, args.candidates), indent=2))


if __name__ == "__main__":
    main()
