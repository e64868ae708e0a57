"""What the loop itself costs: everything but the model and the scorer, in milliseconds a candidate.

A puppet (see :mod:`upwright.testing.puppet`) stands in for the body, and a coach that knows no rest proposes. Of its candidates
three in four are worse and are screened out, one in four changes nothing; that is what most candidates
of a real run are. The time inside the runtime and inside the scorer is measured and taken off (but for the reports of
progress that the runtime makes: those are the loop's), so what is left is the loop's: journal, store, cache, allocator,
diagnosis, proposals, events. ``cpu_ms`` is processor time (user and system) of this process, which a busy machine does
not stretch; ``warden_cpu_ms`` is that of the warden's.

A second, shorter run lets every candidate knock at the door of a warden in its own process; there the
warden's time (drawing and grading sealed tasks, writing and signing its ledger, syncing it to the disk) is in the figure.
Run::

    python benchmarks/overhead.py --candidates 10000 --knocks 100
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from upwright.levers.base import Situation
from upwright.loop import Event, Limits, run
from upwright.project import Project
from upwright.records import Proposal
from upwright.tasks.suite import Suite
from upwright.testing import puppet
from upwright.testing.puppet import Coach, Puppet, Step
from upwright.warden import door

SETTINGS = """
levers = ["coach"]
[run]
practice = 24
samples = 0
screen = 16
[engine]
workers = 0
[suites.words]
source = "tasks/words.py"
"""
CHARTER = """
objective = "words"
minimum_gain = {gain}
may_change = ["prompt.md"]
[sealed]
batch = 16
n_max = 16
confirm = 16
"""


class Restless(Coach):
    """Proposes for ever.

    Args:
        knocks: whether its candidates are equally good with other luck (and knock), or worse and screened out.
    """

    def __init__(self, knocks: bool) -> None:
        super().__init__()
        self.knocks = knocks

    def propose(self, situation: Situation) -> Proposal | None:
        """Something new, drawn from the situation's generator."""
        rng = situation.rng
        if self.knocks:
            return self.spec(situation, Step(luck=f"{rng.getrandbits(48)}"), "other luck")
        change = {"words": -0.2 - rng.random() / 10} if rng.random() < 0.75 else {}
        return self.spec(situation, Step(change), "restless")


def project(root: Path, gain: float) -> Project:
    """A project without a protected suite; ``gain`` decides what the screen lets through."""
    (root / "tasks").mkdir(parents=True)
    (root / "tasks" / "words.py").write_text(puppet.tasks("words"))
    puppet.write(root / "body", {"words": 0.5})
    (root / "upwright.toml").write_text(SETTINGS)
    (root / "charter.toml").write_text(CHARTER.format(gain=gain))
    return Project.open(root)


class Clock:
    """Wall and processor seconds spent in wrapped functions."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def generating(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        """``generate``, timed without its reports of progress."""
        timed = self.around(generate)

        def timed_without(runtime: Puppet, requests: Any, progress: Callable[[int, int], None] | None = None) -> Any:
            if progress is None:
                return timed(runtime, requests)
            return timed(runtime, requests, self.without(progress))

        return timed_without

    def without(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, not counted although what calls it is."""

        def uncounted(*args: Any) -> None:
            wall, cpu = time.perf_counter(), time.process_time()
            function(*args)
            self.wall -= time.perf_counter() - wall
            self.cpu -= time.process_time() - cpu

        return uncounted

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu

        return timed


@contextmanager
def aside(clock: Clock) -> Any:
    """Time the model and the scorer."""
    with (
        mock.patch.object(Puppet, "generate", clock.generating(Puppet.generate)),
        mock.patch.object(Suite, "grade", clock.around(Suite.grade)),
    ):
        yield


def measure(candidates: int, knocks: bool) -> dict[str, Any]:
    """Run so many candidates; milliseconds each and memory, of the first and the last tenth."""
    process, clock = psutil.Process(), Clock()
    marks: list[tuple[float, float]] = []
    memory: list[float] = []
    warden: list[float] = []

    def on_event(event: Event) -> None:
        if event.verb == "propose":
            marks.append((time.perf_counter() - clock.wall, time.process_time() - clock.cpu))
            if len(marks) % 50 == 0:
                memory.append(process.memory_info().rss / 2**20)
            if len(marks) in (1, candidates + 1):
                times = psutil.Process(door.STARTED[-1].pid).cpu_times()
                warden.append(times.user + times.system)

    with tempfile.TemporaryDirectory(prefix="upwright-overhead-") as folder, aside(clock):
        made = project(Path(folder) / "demo", 1e-6 if knocks else 0.1)
        line = run(made, levers=[Restless(knocks)], limits=Limits(rounds=candidates + 1), on_event=on_event)
    wall, cpu = ([1000 * (b[i] - a[i]) for a, b in itertools.pairwise(marks)] for i in (0, 1))
    tenth = max(1, len(wall) // 10)
    return {
        "candidates": len(wall),
        "knocked": line.tests,
        "ms_per_candidate": round(statistics.fmean(wall), 3),
        "cpu_ms_per_candidate": round(statistics.fmean(cpu), 3),
        "warden_cpu_ms_per_candidate": round(1000 * (warden[-1] - warden[0]) / len(wall), 3),
        "ms_median": round(statistics.median(wall), 3),
        "cpu_ms_first_tenth": round(statistics.fmean(cpu[:tenth]), 3),
        "cpu_ms_last_tenth": round(statistics.fmean(cpu[-tenth:]), 3),
        "ms_first_tenth": round(statistics.fmean(wall[:tenth]), 3),
        "ms_last_tenth": round(statistics.fmean(wall[-tenth:]), 3),
        "rss_mb_after_first_tenth": round(memory[len(memory) // 10], 1) if memory else None,
        "rss_mb_at_the_end": round(memory[-1], 1) if memory else None,
        "model_and_scorer_ms": round(1000 * clock.wall / max(1, len(wall)), 3),
    }


def main(candidates: int = 10_000, knocks: int = 100) -> dict[str, Any]:
    """Both runs."""
    return {"screened": measure(candidates, knocks=False), "knocking": measure(knocks, knocks=True)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--knocks", type=int, default=100)
    given = parser.parse_args()
    print(json.dumps(main(given.candidates, given.knocks), indent=2))
