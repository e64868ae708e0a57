"""Circle packing: what the start is worth, and that only a packing is worth anything."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from upwright.warden.evaluator import EvaluatorSpec

HOME = Path(__file__).parents[2] / "examples" / "circle_packing"
START = (HOME / "program.py").read_text()


@pytest.fixture(scope="module")
def evaluator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("circle_packing_evaluator", HOME / "evaluator" / "evaluator.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def grid() -> tuple[np.ndarray, np.ndarray]:
    """Five by five circles that touch, and a small one in a gap."""
    places = [(0.1 + 0.2 * i, 0.1 + 0.2 * j) for i in range(5) for j in range(5)]
    return np.array([*places, (0.2, 0.2)]), np.array([0.1] * 25 + [0.1 * (math.sqrt(2) - 1)])


def worth(evaluator: ModuleType, tmp_path: Path, text: str) -> float:
    path = tmp_path / "program.py"
    path.write_text(text)
    return float(evaluator.evaluate(path)["sum_radii"])


def test_the_start_is_a_weak_packing(evaluator: ModuleType, tmp_path: Path) -> None:
    assert worth(evaluator, tmp_path, START) == pytest.approx(0.9598, abs=1e-4)


def test_its_spec_reads_and_scores() -> None:
    spec = EvaluatorSpec.read(HOME / "evaluator")
    assert spec.score(2.4) == 0.5
    assert spec.score(2.6) == pytest.approx(0.75)
    assert spec.exact


def test_a_grid_is_worth_what_its_radii_add_up_to(evaluator: ModuleType, grid: tuple[np.ndarray, np.ndarray]) -> None:
    assert evaluator.measured(*grid) == pytest.approx(2.5 + 0.1 * (math.sqrt(2) - 1))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c, r: (c, r + 0.01), "overlap|out of the square"),
        (lambda c, r: (c + 0.01, r), "out of the square"),
        (lambda c, r: (c, np.where(r < 0.1, 0.06, r)), "overlap"),
        (lambda c, r: (c, np.where(r < 0.1, -0.01, r)), "negative"),
        (lambda c, r: (c[:25], r[:25]), "shape"),
        (lambda c, r: (c, r * np.nan), "finite"),
        (lambda c, r: (c, r.astype(str)), "not numbers"),
        (lambda c, r: (c, r.astype(complex)), "not numbers"),
    ],
)
def test_what_is_no_packing_is_worth_nothing(
    evaluator: ModuleType, grid: tuple[np.ndarray, np.ndarray], change: object, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        evaluator.measured(*change(*grid))  # type: ignore[operator]


def test_what_a_program_says_of_its_sum_must_be_so(evaluator: ModuleType, tmp_path: Path) -> None:
    boast = START.replace("float(np.sum(radii))", "2.7")
    assert boast != START
    with pytest.raises(ValueError, match=r"says that the sum is 2\.7"):
        worth(evaluator, tmp_path, boast)
