from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from upwright.engines.base import Progress
from upwright.engines.local import InlineEngine, LocalEngine
from upwright.engines.worker import IN_WORKER
from upwright.errors import RuntimeFailure, Stopped
from upwright.testing.engines import (
    EngineContract,
    ProcessEngineContract,
    deaf_job,
    die_job,
    nap_job,
    pid_job,
)


class TestInline(EngineContract):
    @pytest.fixture(params=["InlineEngine", "workers=0"])
    def engine(self, request: pytest.FixtureRequest) -> InlineEngine | LocalEngine:
        return InlineEngine() if request.param == "InlineEngine" else LocalEngine(workers=0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    with LocalEngine(log=tmp_path_factory.mktemp("log") / "worker.log") as engine:
        yield engine


class TestLocal(ProcessEngineContract):
    @pytest.fixture
    def engine(self, shared: LocalEngine, request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
        if "close" in request.node.name:
            with LocalEngine() as own:
                yield own
        else:
            yield shared


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    with LocalEngine(log=tmp_path / "logs" / "worker.log") as engine:
        yield engine


def spawn_job(pidfile: str, *, progress: Progress) -> int:
    """Start a grandchild that outlives the job."""
    child = subprocess.Popen(["sleep", "60"])
    Path(pidfile).write_text(f"{os.getpid()} {child.pid}")
    progress(0, 1, "spawned")
    return child.pid


def env_job(name: str, *, progress: Progress) -> tuple[str | None, int]:
    return os.environ.get(name), hash("a fixed string")


def gone(pid: int, within: float = 5.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_overhead(engine: LocalEngine) -> None:
    engine.run(pid_job)
    times = []
    for _ in range(300):
        start = time.perf_counter()
        engine.run(pid_job)
        times.append(time.perf_counter() - start)
    assert sorted(times)[len(times) // 10] < 0.5e-3  # the best tenth: what it takes when nothing else runs


def test_a_worker_killed_from_outside_while_busy_and_while_idle(engine: LocalEngine) -> None:
    pid = engine.run(pid_job)
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(RuntimeFailure, match="SIGKILL"):
        engine.run(deaf_job, 30.0)
    pid = engine.run(pid_job)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert engine.run(pid_job) != pid, "a worker that died idle costs no job"


def test_last_words_are_shown(engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="last words") as caught:
        engine.run(die_job)
    assert str(tmp_path / "logs" / "worker.log") in caught.value.todo


def test_time_out_and_close_end_the_whole_group(tmp_path: Path) -> None:
    with LocalEngine() as engine:
        child = engine.run(spawn_job, str(tmp_path / "pids"))
        assert psutil.pid_exists(child)
        with pytest.raises(RuntimeFailure):
            engine.run(deaf_job, 30.0, timeout=0.2)
        assert gone(child)
        child = engine.run(spawn_job, str(tmp_path / "pids"))
    assert gone(child)
    with pytest.raises(RuntimeFailure, match="closed"):
        engine.run(pid_job)


def test_workers_run_at_once_from_threads() -> None:
    with LocalEngine(workers=2) as engine:
        found: list[int] = []

        def go() -> None:
            engine.run(nap_job, 0.3)
            found.append(engine.run(pid_job))

        threads = [threading.Thread(target=go) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 2
        assert engine.run(env_job, "OMP_NUM_THREADS")[0]


def test_workers_hash_alike() -> None:
    seen = set()
    for _ in range(2):
        with LocalEngine() as engine:
            seen.add(engine.run(env_job, IN_WORKER)[1])
    assert len(seen) == 1


def test_no_workers_within_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IN_WORKER, "1")
    with pytest.raises(RuntimeFailure, match="__main__"):
        LocalEngine()


DRIVER = """
import sys, time, os, signal
from upwright.engines.local import LocalEngine
from upwright.errors import Stopped
from upwright.testing.engines import nap_job, deaf_job, pid_job

def main_job(x, *, progress):
    return ("from main", x)

if __name__ == "__main__":
    engine = LocalEngine()
    print(engine.run(pid_job), flush=True)
    job = {"nap": nap_job, "deaf": deaf_job}[sys.argv[1]]
    if sys.argv[2] == "main":
        print(engine.run(main_job, 3), flush=True)
    try:
        engine.run(job, 60.0, progress=lambda *a: print("busy", flush=True) if not globals().setdefault("said", 0) and not globals().update(said=1) else None)
    except Stopped as stop:
        print("STOPPED", stop.exit_code, flush=True)
        print(engine.run(pid_job), flush=True)
    engine.close()
"""


def drive(tmp_path: Path, job: str, mode: str = "-") -> tuple[subprocess.Popen[str], int]:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, str(script), job, mode], stdout=subprocess.PIPE, text=True)
    assert driver.stdout
    worker = int(driver.stdout.readline())
    return driver, worker


def test_one_ctrl_c_stops_the_job_and_keeps_the_worker(tmp_path: Path) -> None:
    driver, worker = drive(tmp_path, "nap", "main")
    with driver:
        assert driver.stdout
        assert driver.stdout.readline() == "('from main', 3)\n", "jobs of a script's own main module run too"
        assert driver.stdout.readline() == "busy\n"
        driver.send_signal(signal.SIGINT)
        out, _ = driver.communicate(timeout=20)
    assert out.split() == ["STOPPED", "130", str(worker)]
    assert driver.returncode == 0
    assert gone(worker)


def test_a_second_ctrl_c_kills_the_worker(tmp_path: Path) -> None:
    driver, worker = drive(tmp_path, "deaf")
    with driver:
        assert driver.stdout
        assert driver.stdout.readline() == "busy\n"
        driver.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert driver.poll() is None
        assert psutil.pid_exists(worker)
        driver.send_signal(signal.SIGINT)
        out, _ = driver.communicate(timeout=20)
    lines = out.split()
    assert lines[:2] == ["STOPPED", "130"]
    assert int(lines[2]) != worker
    assert gone(worker)


@pytest.mark.parametrize("job", ["nap", "deaf"])
def test_kill_9_of_the_parent_leaves_no_orphan(tmp_path: Path, job: str) -> None:
    driver, worker = drive(tmp_path, job)
    with driver:
        assert driver.stdout
        assert driver.stdout.readline() == "busy\n"
        driver.kill()
        driver.wait()
        assert gone(worker)


def test_kill_9_of_the_parent_takes_grandchildren(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = (
        "import sys, time; from upwright.engines.local import LocalEngine; from test_local import spawn_job;"
        f"engine = LocalEngine(); engine.run(spawn_job, {str(pids)!r}); print('up', flush=True); time.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env) as driver:
        assert driver.stdout
        assert driver.stdout.readline() == b"up\n"
        driver.kill()
        driver.wait()
        for pid in map(int, pids.read_text().split()):
            assert gone(pid)


def test_inline_ctrl_c() -> None:
    def press(*, progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped):
        InlineEngine().run(press)
