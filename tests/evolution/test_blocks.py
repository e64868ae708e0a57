from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.errors import BodyError
from upwright.evolution.blocks import Scope, blocks_of, lines_of, outside

FILE = "a\n# EVOLVE-BLOCK-START\nb\nc\n# EVOLVE-BLOCK-END\nd\n"


@pytest.mark.parametrize(
    "mark",
    ["# {}", "    # {}", "// {}", "/* {} */", "<!-- {} -->", "-- {}", ";; {}", "% {}", "REM {}", "(* {} *)", "{}", "# {} (sorting)"],
)  # fmt: skip
def test_markers_in_any_comment(mark: str) -> None:
    text = f"a\n{mark.format('EVOLVE-BLOCK-START')}\nb\n{mark.format('EVOLVE-BLOCK-END')}\n"
    assert Scope().spans("f", text) == (range(2, 3),)
    assert Scope().spans("f", text.replace("\n", "\r\n")) == (range(2, 3),)


@pytest.mark.parametrize("line", ['x = "EVOLVE-BLOCK-START"', "# see EVOLVE-BLOCK-START", "# EVOLVE-BLOCK-STARTED"])
def test_what_only_speaks_of_a_marker_is_none(line: str) -> None:
    assert blocks_of("f", lines_of(f"{line}\n")) == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# EVOLVE-BLOCK-START\n", "line 1: EVOLVE-BLOCK-START has no end"),
        ("\n# EVOLVE-BLOCK-END\n", "line 2: EVOLVE-BLOCK-END has no start"),
        ("# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n", "line 2: a block begins inside another"),
    ],
)
def test_markers_that_do_not_pair(text: str, why: str) -> None:
    with pytest.raises(BodyError, match=why):
        Scope().spans("f", text)


def test_spans_are_what_may_change() -> None:
    assert Scope().spans("f", FILE) == (range(2, 4),)
    assert Scope().spans("f", "a\nb") == (range(2),)
    assert Scope(blocks=False).spans("f", FILE) == (range(6),)
    assert Scope(("g",)).spans("f", FILE) == ()
    empty = "# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n"
    assert Scope().spans("f", empty * 2) == (range(1, 1), range(3, 3))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.py", ["a.py"], ["b/a.py", "a.pyc"]),
        ("**/*.py", ["a.py", "b/c/a.py"], ["a.txt"]),
        ("src/**", ["src/a", "src/b/a"], ["a", "srcs/a"]),
        ("src/", ["src/a", "src/b/a"], ["src"]),
        ("a?.[x]", ["ab.[x]"], ["ab.x", "a/.[x]"]),
        ("**", ["a", "b/a"], []),
    ],
)
def test_paths(pattern: str, yes: list[str], no: list[str]) -> None:
    assert all(Scope((pattern,)).allows(path) for path in yes)
    assert not any(Scope((pattern,)).allows(path) for path in no)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (FILE.replace("a\n", "x\n"), "line 1 is outside of the EVOLVE blocks and was changed from 'a\\n' to 'x\\n'"),
        (FILE.replace("d\n", "x\n"), "line 6 is outside"),
        (FILE + "e\n", "lines were added outside of the EVOLVE blocks, at line 7"),
        (FILE.replace("d\n", ""), "lines were removed"),
        (FILE.replace("END", "STOP"), "the markers were damaged"),
        (FILE.replace("# EVOLVE-BLOCK-START\n", "#  EVOLVE-BLOCK-START\n"), "line 2 is outside"),
        (FILE.replace("b\n", "# EVOLVE-BLOCK-END\n# EVOLVE-BLOCK-START\n"), "has 2 EVOLVE blocks where it had 1"),
        (None, "was deleted"),
    ],
)
def test_what_is_fixed_may_not_change(after: str | None, why: str) -> None:
    (told,) = outside({"f": FILE}, {} if after is None else {"f": after}, Scope())
    assert why in told


def test_what_a_glob_after_an_exclamation_mark_fits_may_not_change() -> None:
    scope = Scope(("src/", "!src/fixed.py", "!**/data/**"))
    assert scope.allows("src/a.py")
    assert not any(scope.allows(path) for path in ("a.py", "src/fixed.py", "src/data/a.py", "data/a.py"))


def test_files_out_of_the_paths_may_not_change() -> None:
    before, scope = {"src/a": "a", "b": "b"}, Scope(("src/",))
    assert outside(before, {"src/c": "a", "b": "b"}, scope) == []
    assert outside(before, {"src/a": "a", "c": "b"}, scope) == [
        "b was deleted, and only src/ may change",
        "c was added, and only src/ may change",
    ]
    assert outside(before, {**before, "b": "x"}, scope) == ["b was changed, and only src/ may change"]


LINES = st.lists(st.sampled_from(["a\n", "b\n", "\n"]), max_size=4).map("".join)


@given(st.lists(LINES, min_size=3, max_size=5), st.lists(LINES, min_size=5, max_size=5), st.booleans())
@settings(deadline=None)
def test_exactly_what_is_between_markers_may_change(parts: list[str], others: list[str], fixed: bool) -> None:
    parts = parts[: len(parts) - 1 + len(parts) % 2]

    def text(pieces: list[str]) -> str:
        marks = ["# EVOLVE-BLOCK-START\n", "# EVOLVE-BLOCK-END\n"] * len(pieces)
        return "".join(mark + piece for mark, piece in zip(["", *marks], pieces))

    mixed = [new if (index % 2 == 0) == fixed else old for index, (old, new) in enumerate(zip(parts, others))]
    same_outside = all(mixed[index] == parts[index] for index in range(0, len(parts), 2))
    assert (outside({"f": text(parts)}, {"f": text(mixed)}, Scope()) == []) == same_outside


@given(st.text("a\n\r\x0b\x0c\u2028", max_size=12))
@settings(deadline=None)
def test_lines_join_to_the_same_text(text: str) -> None:
    assert "".join(lines_of(text)) == text
    assert len(lines_of(text)) == text.count("\n") + bool(text and not text.endswith("\n"))
