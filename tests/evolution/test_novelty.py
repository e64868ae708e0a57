from __future__ import annotations

import subprocess
import sys

import pytest

from upwright.evolution.novelty import Marks, Novelty

BASE = '''
def f(a, b):
    """What it is for."""
    total = a * 0.5
    for x in (1.0, 2.0, b):
        if x in {"one", "two"}:
            total += x
    return total
'''


def marks(text: str, path: str = "program.py", syntax: bool = True) -> Marks:
    return Novelty({"program.py": BASE}, syntax).marks({path: text})


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("    return", "    # a comment\n\n    return"),
        BASE.replace("a * 0.5", "(a  *  0.50)"),
        BASE.replace('{"one", "two"}', "{'one',\n            'two'}"),
        BASE.replace("\n", "\r\n"),
    ],
)
def test_what_means_the_same_is_the_same(other: str) -> None:
    assert other != BASE
    assert marks(other).same == marks(BASE).same
    assert marks(other, syntax=False).same != marks(BASE, syntax=False).same, "where the text counts, it counts"


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("total", "found"),
        BASE.replace("What it is for.", "Something else."),
        BASE.replace('    """What it is for."""\n', ""),
        BASE.replace("0.5", "0.5000000000001"),
    ],
)
def test_what_hardly_differs_is_near(other: str) -> None:
    assert marks(other).same != marks(BASE).same
    assert marks(other).near == marks(BASE).near


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("0.5", "0.50001"),
        BASE.replace("a * 0.5", "a + 0.5"),
        BASE.replace('"one"', '"three"'),
        BASE.replace("(1.0, 2.0, b)", "(1.0, b)"),
        BASE.replace("def f", "def g"),
        BASE.replace("1.0", "1"),
        BASE.replace("a, b", "a, b=1"),
        BASE.replace("return total", "return total, 'x'"),
    ],
)
def test_what_differs_is_neither(other: str) -> None:
    assert marks(other).same != marks(BASE).same
    assert marks(other).near != marks(BASE).near


def test_other_languages_and_what_is_no_python_are_compared_as_text() -> None:
    for path, text in (("a.c", "int x = 1.0;\nint y;\n"), ("program.py", "x = = 1.0\nint y\n")):
        assert marks(text.replace("\n", "  \n"), path).same == marks(text, path).same
        assert marks(text.replace("\n", "\n\n"), path).same != marks(text, path).same
        assert marks(text.replace("\n", "\n\n"), path).near == marks(text, path).near
        assert marks(text.replace("1.0", "1.1"), path).near != marks(text, path).near


@pytest.mark.parametrize("text", ["(" * 5000, "\0", "x = " + "-" * 100_000 + "1", "'\\d'", "\ud800"])
def test_odd_texts_are_read_all_the_same(text: str) -> None:
    assert marks(text).same == marks(text).same


def test_the_path_counts_too() -> None:
    assert marks(BASE, "other.py").same != marks(BASE).same


def test_change_grows_with_what_is_different() -> None:
    small = marks(BASE.replace("return total", "return total * a"))
    large = marks("import math\nprint([math.sin(x) ** 2 for x in range(9)])\n")
    assert marks(BASE).change == 0.0
    assert 0.0 < small.change < large.change <= 1.0
    assert marks(BASE.replace("0.5", "0.7")).change == 0.0, "a number is a number"


def test_files_that_are_the_origins_count_as_unchanged() -> None:
    origin = {f"{i}.py": BASE.replace("f", f"f{i}") for i in range(4)}
    both = Novelty(origin)
    assert both.marks(origin).change == 0.0
    one = both.marks({**origin, "0.py": "x = [1]\n"})
    assert 0.1 < one.change < 0.5
    assert both.marks({k: v for k, v in origin.items() if k != "0.py"}).change > 0.0


def test_digests_are_the_same_in_every_process() -> None:
    script = "from upwright.evolution.novelty import Novelty;import sys;t=sys.stdin.read();print(Novelty({'program.py':t}).marks({'program.py':t+'x={1,2}'}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", script], input=BASE, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert said == {f"{Novelty({'program.py': BASE}).marks({'program.py': BASE + 'x={1,2}'})}\n"}
