from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.evolution.grid import BINS, DEFAULT, Axis, cell_of
from upwright.evolution.novelty import Marks


def marks(length: int = 100, change: float = 0.0) -> Marks:
    return Marks("s", "n", length, change)


def test_the_default_axes_are_length_and_change() -> None:
    first = marks()
    assert cell_of(DEFAULT, first, {}, first) == "5 0"
    assert cell_of(DEFAULT, marks(200, 0.55), {}, first) == "7 5"
    assert cell_of(DEFAULT, marks(10_000, 1.0), {}, first) == "9 9"
    assert cell_of(DEFAULT, marks(1, 0.0), {}, first) == "0 0"


def test_named_metrics() -> None:
    axes = (Axis("speed", 0.0, 100.0, 4), Axis("error"))
    assert cell_of(axes, marks(), {"speed": 30.0, "error": 0.0}, marks()) == "1 5"
    assert cell_of(axes, marks(), {"speed": -3.0, "error": -6.0}, marks()) == "0 2"
    assert cell_of(axes, marks(), {}, marks()) == "0 5"


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_a_bin_is_a_bin_and_they_are_in_order(a: float, b: float) -> None:
    for axis in (Axis("x", -1.0, 1.0), Axis("x"), Axis("length")):
        low, high = sorted((axis.bin(min(a, b)), axis.bin(max(a, b))))
        assert (low, high) == (axis.bin(min(a, b)), axis.bin(max(a, b)))
        assert 0 <= low <= high < BINS
