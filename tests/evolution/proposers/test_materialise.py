from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("libcst")

from upwright.evolution.blocks import Scope, outside
from upwright.evolution.proposers._arms import Arm, changed, display, sites_of
from upwright.evolution.proposers._climb import Counted, climb
from upwright.evolution.proposers._dataflow import flow, unneeded
from upwright.evolution.proposers._literals import literals
from upwright.evolution.proposers._source import functions, source_of
from upwright.evolution.proposers._trace import Bench, Printed, read_trace, watched
from upwright.evolution.proposers.base import Brief, Proposer, Result
from upwright.evolution.proposers.materialise import SHORTEST, Materialise

TOP = '''"""Four points; how near they come to a place, and apart from each other, counts."""
import math

# EVOLVE-BLOCK-START
import numpy as np


def place():
    spots = np.zeros((4, 2))
    for k in range(4):
        spots[k] = [math.cos(k), math.sin(k)]
    spots = np.clip(spots, -0.9, 0.9)
    return spots, quality(spots)


def quality(spots):
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(spots) for b in spots[:i]]
    return float(min(gaps) - np.sum((spots - 0.3) ** 2) / 4)


# EVOLVE-BLOCK-END


def run():
    return place()[1]
'''


def value(text: str) -> float:
    space: dict[str, object] = {}
    exec(text, space)
    return float(space["run"]())  # type: ignore[operator]


def test_it_is_a_proposer(bench: Bench) -> None:
    assert isinstance(Materialise(bench), Proposer)


def test_a_climb_comes_over_a_kink() -> None:
    def roof(x: np.ndarray) -> float:
        return -abs(x[0] - 1.0) - 10 * abs(x[1] + 2.0) - float(np.max(np.abs(x[2:])))

    point, found, used, settled = climb(Counted(roof, [0.0] * 6, 4000, 60.0), [0.5] * 6, [(0, 1, 6)], False, 1)
    assert found > -1e-4
    assert settled
    assert used <= 4000
    assert point[:2] == pytest.approx([1.0, -2.0], abs=1e-3)


def test_a_climb_is_bounded_and_bears_what_is_no_number() -> None:
    said: list[int] = []

    def holes(x: np.ndarray) -> float:
        said.append(1)
        if len(said) % 3 == 0:
            raise ValueError
        return float("nan") if len(said) % 3 == 1 else -float(x @ x)

    _, found, used, _ = climb(Counted(holes, [1.0, 1.0], 100, 60.0), [0.5, 0.5], [(0, 1, 2)], True, 1)
    assert used == 100
    assert found >= -2.0


def test_a_climb_tells_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    clock = iter(range(10**6))
    monkeypatch.setattr("upwright.evolution.proposers._climb.time.monotonic", lambda: next(clock) / 10)

    def tell(point: np.ndarray, value: float, used: int, settled: bool) -> None:
        heard.append(value)

    climb(Counted(lambda x: -float(x @ x), [1.0], 400, 1e9, tell), [0.5], [(0, 1, 1)], False, 1)
    assert 2 < len(heard) < 40
    assert heard == sorted(heard)


def test_what_a_run_shows(bench: Bench) -> None:
    source = source_of("program.py", TOP, Scope())
    assert source is not None
    sites = sites_of(source)
    assert {(s.function, s.variable) for s in sites} >= {("place", "spots")}
    trace = read_trace(bench({"program.py": watched(source, sites, 7)}, 1.0), 7)
    assert trace is not None
    assert np.shape(trace.sites["place:spots:3"].value) == (4, 2)
    assert trace.calls == [("run", [([], value(TOP))])]
    assert read_trace(bench({"program.py": watched(source, sites, 7)}, 1.0), 8) is None


@pytest.mark.parametrize("kind", ["freeze", "ceiling", "floor", "factor", "offset"])
def test_what_is_put_in_changes_nothing_at_first(kind: str, bench: Bench) -> None:
    source = source_of("program.py", TOP, Scope())
    assert source is not None
    sites = sites_of(source)
    trace = read_trace(bench({"program.py": watched(source, sites, 7)}, 1.0), 7)
    assert trace is not None
    site = next(s for s in sites if s.name == "place:spots:3")
    after = changed(source, {"program.py": TOP}, Arm(kind, site), trace.sites[site.name])
    assert after is not None
    assert value(after["program.py"]) == pytest.approx(value(TOP), abs=1e-9)
    assert outside({"program.py": TOP}, after, Scope()) == []
    assert len(literals(after, Scope())) >= 8
    if kind == "freeze":
        assert "for k in range" not in after["program.py"]


def test_numbers_are_broken_into_lines() -> None:
    shown = display([[k / 3, k / 7] for k in range(20)], "    ")
    assert eval(shown) == [pytest.approx([k / 3, k / 7]) for k in range(20)]
    assert max(map(len, shown.splitlines())) <= 120


def test_only_what_nothing_needs_is_left_out() -> None:
    source = source_of(
        "m.py",
        "def f():\n    a = 1\n    b = a\n    print(b)\n    c = [a]\n    c.append(2)\n    d = 3\n    return d\n",
        Scope(),
    )
    assert source is not None
    statements = list(functions(source)[0].body.body)
    assert [source.text(s) for s in unneeded(statements[:-2], set())] == ["c = [a]", "c.append(2)"]
    assert flow(statements[2]).acts


def climbed(bench: Bench, brief: Callable[..., Brief], asks: int) -> tuple[float, str]:
    proposer = Materialise(bench, workers=1, seconds=2.0)
    best, score = TOP, value(TOP)
    for seed in range(asks):
        for draft in proposer.propose(brief(best, score=score, seed=seed, metrics={"quality": score})):
            assert outside({"program.py": best}, draft.program, Scope()) == []
            told = value(draft.program["program.py"])
            proposer.told(draft, Result(told))
            if told > score:
                best, score = draft.program["program.py"], told
    return score, best


def test_points_are_frozen_and_climb(bench: Bench, brief: Callable[..., Brief]) -> None:
    score, text = climbed(bench, brief, 4)
    assert score > value(TOP) + 0.2
    assert "math.cos" not in text
    assert "_upwright" not in text


def test_a_run_that_is_cut_short_makes_the_next_shorter(brief: Callable[..., Brief], bench: Bench) -> None:
    def cut(program: dict[str, str], seconds: float) -> Printed:
        printed = bench(program, seconds)
        return Printed(printed.output.replace('"done": true', '"done": false'), "it took longer than 5 s")

    proposer = Materialise(cut, workers=1, seconds=4.0)  # type: ignore[arg-type]
    for seed in range(4):
        proposer.propose(brief(TOP, score=value(TOP), seed=seed, metrics={"quality": value(TOP)}))
    assert SHORTEST <= proposer.seconds < 4.0


def test_nothing_is_tried_where_a_run_tells_nothing(brief: Callable[..., Brief]) -> None:
    silent = Materialise(lambda program, seconds: Printed("", "crash"))
    assert silent.propose(brief(TOP)) == []
    assert silent.propose(brief(TOP, score=None)) == []
    assert silent.propose(brief("def run(:\n")) == []
    random.seed(0)
