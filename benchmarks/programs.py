"""What a candidate costs when it costs nothing: Upwright beside its peers, on one no-op program, one no-op evaluator and one mock model.

- Upwright, every candidate in isolation: one evaluation alone, and a search whose proposals come from the mock model;
- OpenEvolve, GEPA and ShinkaEvolve with the same model server and the same evaluator, each installed into an environment of its own below
  ``bench-out/peers``. One that cannot be installed, or that wants PyTorch, is left out, and the reason is told;
- how long a limit of 3 seconds takes to end an evaluation of 20 seconds, and what is left of it.

The model is an HTTP server on loopback that speaks the OpenAI protocol and answers every request with the same small edit; only a number in it
counts up, so that no candidate is another's copy. What a candidate costs is the time from the first evaluation to the last, divided by one less
than there were; what a system does before and after is not counted. A peer runs for at most a minute. Run::

    python -m benchmarks.programs --candidates 300
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from upwright.evolution.archive import Archive
from upwright.evolution.campaign import Campaign, Setup
from upwright.warden.evaluator import EvaluatorSpec, Judge
from upwright.warden.isolation import Limits

OUT = Path("bench-out/peers")
PEERS = {"openevolve": "openevolve", "gepa": "gepa", "shinka-evolve": "shinka"}
"""Package on PyPI → what the driver in ``benchmarks/peers`` is called."""
BOUND, INSTALL = 60.0, 900.0
"""Seconds that a peer may run, and that its installation may take."""
PROGRAM = """# EVOLVE-BLOCK-START
def answer():
    # here
    return 1
# EVOLVE-BLOCK-END
"""
EVALUATOR = """import importlib.util


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return {"combined_score": float(program.answer())}
"""
STAMPED = f"""import os
import time

{EVALUATOR}

whole = evaluate


def evaluate(program_path):
    found = whole(program_path)
    with open(os.environ["STAMPS"], "a") as file:
        file.write(f"{{time.monotonic()}}\\n")
    return found
"""
REPLY = """<NAME>
another_number
</NAME>
<DESCRIPTION>
Another number.
</DESCRIPTION>
<DIFF>
<<<<<<< SEARCH
    # here
=======
    x = {number}
    # here
>>>>>>> REPLACE
</DIFF>
"""


WHOLE = "```\n" + PROGRAM.replace("    # here", "    x = {number}") + "```\n"
"""The same edit for those that want the whole program: they ask at ``/whole/v1``."""


class _Model(BaseHTTPRequestHandler):
    """Answers every request with the edit; the server's ``numbers`` count."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = (WHOLE if self.path.startswith("/whole") else REPLY).format(number=next(self.server.numbers))  # type: ignore[attr-defined]
        self._send(
            {
                "id": "mock", "object": "chat.completion", "created": 0, "model": "mock",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )  # fmt: skip

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "mock", "object": "model", "created": 0, "owned_by": "nobody"}]})

    def _send(self, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def model() -> Iterator[str]:
    """The mock model's base URL, as long as it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    server.numbers = itertools.count(2)  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def evaluator(text: str = EVALUATOR) -> Iterator[Path]:
    """A folder with an evaluator."""
    with tempfile.TemporaryDirectory(prefix="upwright-bench-") as name:
        (Path(name) / "evaluator.py").write_text(text)
        yield Path(name)


SPEC = EvaluatorSpec(exact=True, limits=Limits(seconds=20.0, memory_mb=512))


def alone(runs: int) -> dict[str, float]:
    """Milliseconds of one isolated evaluation after the other; each program is another text."""
    with evaluator() as folder, Judge(folder, SPEC, size=1) as judge:
        took = []
        for i in range(runs + 5):
            start = time.perf_counter()
            judged = judge.judge({"program.py": PROGRAM + f"# {i}\n"}, i)
            took.append(1000 * (time.perf_counter() - start))
            assert judged.score is not None, judged.why
    took = sorted(took[5:])
    return {
        "ms_mean": round(statistics.fmean(took), 2),
        "ms_median": round(statistics.median(took), 2),
        "ms_95th": round(took[int(0.95 * len(took))], 2),
    }


def searching(candidates: int, workers: int = 2) -> dict[str, float]:
    """Milliseconds per candidate of a search: asked of the model, applied, checked, judged in isolation, archived."""
    from upwright.evolution.proposers import Kit, instances

    marks: list[float] = []
    last = [0]

    def progress(done: int, total: int, note: str) -> None:
        if done > last[0]:
            marks.extend([time.perf_counter()] * (done - last[0]))
            last[0] = done

    with model() as url, evaluator() as folder, Judge(folder, SPEC, size=workers) as judge:
        setup = Setup(exact=True, workers=workers)
        with Archive(folder.parent / f"{folder.name}.db") as archive:
            proposers = instances(("llm",), Kit(_no_bench, (f"{url}#mock",)))
            search = Campaign({"program.py": PROGRAM}, proposers, judge.judge, archive, setup, progress=progress)
            found = search.run(candidates, seconds=10 * BOUND)
        for left in folder.parent.glob(f"{folder.name}.db*"):
            left.unlink()
    return {"candidates": found.tried, "failed": sum(found.failures.values()), **per_candidate(marks)}


def _no_bench(program: Any, seconds: float) -> Any:
    raise AssertionError("nobody asked for a bench")


def per_candidate(stamps: Sequence[float]) -> dict[str, float]:
    """Mean milliseconds between evaluations, over all of them."""
    if len(stamps) < 3:
        return {"evaluations": len(stamps)}
    stamps = sorted(stamps)
    return {
        "evaluations": len(stamps),
        "ms_per_candidate": round(1000 * (stamps[-1] - stamps[0]) / (len(stamps) - 1), 2),
    }


def limited(limit: float = 3.0, wanted: float = 20.0) -> dict[str, float]:
    """Seconds until a program that sleeps is ended, and processes that are left of the run."""
    slow = f"import os, time\n\n\ndef answer():\n    os.fork()\n    time.sleep({wanted})\n    return 1\n"
    spec = EvaluatorSpec(limits=Limits(seconds=limit, memory_mb=512))
    with evaluator() as folder, Judge(folder, spec, size=1) as judge:
        judge.judge({"program.py": PROGRAM}, 0)
        before = len(psutil.Process().children(recursive=True))
        start = time.perf_counter()
        judged = judge.judge({"program.py": slow}, 0)
        seconds = time.perf_counter() - start
        time.sleep(0.2)
        left = len(psutil.Process().children(recursive=True)) - before
    assert judged.failure == "timeout", judged
    return {"limit": limit, "wanted": wanted, "ended_after_s": round(seconds, 2), "processes_left": max(0, left)}


# ---- peers ---------------------------------------------------------------------------------------


def installed(package: str) -> tuple[Path | None, str]:
    """The Python of an environment that has a peer, and its version; or ``None`` and why not."""
    home = OUT.absolute() / package
    python = home / "bin" / "python"
    version = [str(python), "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]
    if python.exists() and (found := _output(version, 60)) is not None:
        return python, found.strip()
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    plan = home.parent / f"{package}.json"
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if _output([*pip, "--dry-run", "--ignore-installed", "--report", str(plan), package], INSTALL) is None:
        return None, "pip finds no way to install it"
    wants = {one["metadata"]["name"].lower() for one in json.loads(plan.read_text())["install"]}
    if "torch" in wants:
        return None, "it wants PyTorch"
    _output([sys.executable, "-m", "venv", str(home)], INSTALL)
    if _output([str(python), "-m", "pip", "install", "--quiet", package], INSTALL) is None:
        return None, "it does not install"
    return python, (_output(version, 60) or "").strip()


def _output(command: Sequence[str], seconds: float) -> str | None:
    """What a command printed; ``None`` where it failed or took longer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except (subprocess.SubprocessError, OSError):
        return None
    return done.stdout


def peer(package: str, candidates: int) -> dict[str, Any]:
    """One peer's milliseconds per candidate."""
    python, said = installed(package)
    if python is None:
        return {"left out": said}
    driver = Path(__file__).parent / "peers" / f"with_{PEERS[package]}.py"
    with model() as url, evaluator(STAMPED) as folder, tempfile.TemporaryDirectory(prefix="upwright-peer-") as scratch:
        (folder / "program.py").write_text(PROGRAM)
        stamps = Path(scratch) / "stamps"
        stamps.touch()
        environment = {
            "PATH": os.environ["PATH"], "HOME": scratch, "STAMPS": str(stamps), "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": url, "OPENAI_API_BASE": url,
        }  # fmt: skip
        command = [str(python), str(driver), url, str(folder), scratch, str(candidates)]
        with (Path(scratch) / "log").open("w+") as log:
            code = _bounded(command, scratch, environment, log)
            log.seek(0)
            tail = log.read()[-2000:]
        marks = [float(line) for line in stamps.read_text().split()]
    result = {"version": said, "ended": code, **per_candidate(marks)}
    return result if "ms_per_candidate" in result else {**result, "left out": tail}


def _bounded(command: Sequence[str], scratch: str, environment: dict[str, str], log: Any) -> str:
    """Run for at most :data:`BOUND` seconds; then the whole group is ended. How it ended, in words."""
    process = subprocess.Popen(
        command, cwd=scratch, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return f"exit code {process.wait(BOUND)}"
    except subprocess.TimeoutExpired:
        return f"stopped after {BOUND:g} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(candidates: int = 300) -> dict[str, Any]:
    """Everything, printed as JSON and returned."""
    ours = {"isolation": _wall(), "alone": alone(candidates), "searching": searching(candidates), "limit": limited()}
    print(json.dumps({"upwright": ours}, indent=2), flush=True)
    peers = {}
    for package in PEERS:
        peers[package] = peer(package, candidates)
        print(json.dumps({package: peers[package]}, indent=2), flush=True)
    return {"upwright": ours, "peers": peers}


def _wall() -> str:
    from upwright.warden.isolation import strongest_wall

    return strongest_wall().name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=300)
    measure(parser.parse_args().candidates)
