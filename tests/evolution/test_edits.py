from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.evolution.blocks import Scope
from upwright.evolution.edits import Edit, EditError, apply, parse_reply, rendered, unified

ANY = Scope()

LINE = st.text("ab \t#<>=+-@\\`~", max_size=6) | st.sampled_from(
    ["=======", "<<<<<<< SEARCH", ">>>>>>> REPLACE", "--- a/x", "+++ b/x", "@@ -1 +1 @@", "```", "-- ", "", "x"]
)
TEXT = st.tuples(st.lists(LINE, max_size=8), st.booleans()).map(
    lambda pair: "\n".join(pair[0]) + "\n" * (pair[1] and bool(pair[0]))
)
PROGRAM = st.dictionaries(st.sampled_from(["a.py", "b/c.txt", "d e.md", "Makefile"]), TEXT, max_size=3)


def block(old: str, new: str, path: str = "") -> str:
    return f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


def changed(program: dict[str, str] | str, reply: str, scope: Scope = ANY) -> dict[str, str] | str:
    """The program after a reply; a text stands for the one file a.py."""
    whole = {"a.py": program} if isinstance(program, str) else program
    after = apply(whole, parse_reply(reply), scope)
    return after["a.py"] if isinstance(program, str) else after


def refused(program: dict[str, str] | str, reply: str, scope: Scope = ANY) -> str:
    with pytest.raises(EditError) as caught:
        changed(program, reply, scope)
    return caught.value.why


# ---- SEARCH/REPLACE ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        ("a\nb\nc\n", "b\n", "x\ny\n", "a\nx\ny\nc\n"),
        ("a\nb\nc\n", "a\n", "", "b\nc\n"),
        ("a\nb\nc\n", "c\n", "x\n", "a\nb\nx\n"),
        ("a\nb\nc", "c\n", "x\n", "a\nb\nx"),
        ("a\nb\nc", "c\n", "", "a\nb"),
        ("a\nb", "b\n", "b\nc\n", "a\nb\nc"),
        ("a\nb\n", "a\nb\n", "", ""),
        ("a\r\nb\r\nc\r\n", "b\n", "x\ny\n", "a\r\nx\r\ny\r\nc\r\n"),
        ("a\r\nb", "b\n", "b\nc\n", "a\r\nb\r\nc"),
        ("a  \nb\t\n", "a\nb\n", "a\nx\n", "a  \nx\n"),
        ("def f():\n    if x:\n        y\n", "if x:\n    y\n", "if x:\n    z\n\n    w\n", "def f():\n    if x:\n        z\n\n        w\n"),
        ("if x:\n    y\n", "    if x:\n        y\n", "    if x:\n        z\n", "if x:\n    z\n"),
        ("", "", "x\n", "x\n"),
        ("é\n", "é\n", "ü\n", "ü\n"),
    ],
)  # fmt: skip
def test_lines_become_lines(before: str, old: str, new: str, after: str) -> None:
    assert changed(before, block(old, new)) == after


def test_a_reply_may_have_its_own_line_ends() -> None:
    assert changed("a\nb\n", block("b\n", "x\n").replace("\n", "\r\n")) == "a\nx\n"


def test_edits_are_looked_up_in_the_program_as_it_was() -> None:
    assert changed("a\nb\n", block("a\n", "b\n") + block("b\n", "a\n")) == "b\na\n"


def test_the_same_edit_twice_is_one() -> None:
    assert changed("a\nb\n", block("a\n", "x\n") * 2) == "x\nb\n"


def test_what_stays_is_in_no_ones_way() -> None:
    assert changed("a\nb\nc\n", block("a\nb\n", "x\nb\n") + block("b\nc\n", "b\ny\n")) == "x\nb\ny\n"


def test_a_place_is_needed_and_only_one() -> None:
    assert "2 places, a.py line 1, a.py line 3" in refused("a\nb\na\n", block("a\n", "x\n"))
    why = refused("one\ntwo\nthree\n", block("one\ntwo\nfour\n", "x\n"))
    assert "nowhere in a.py" in why
    assert "a.py lines 1–3, where 2 of its 3 lines are" in why
    assert "SEARCH part is empty" in refused("a\n", block("", "x\n"))
    assert "change nothing" in refused("a\n", block("a\n", "a\n"))


def test_edits_that_meet_are_refused() -> None:
    assert "edits 1 and 2 both change" in refused("a\nb\nc\n", block("a\nb\n", "x\n") + block("b\nc\n", "y\n"))
    assert "edits 1 and 2 both change" in refused("a\nb\n", block("a\n", "a\nx\n") + block("a\n", "a\ny\n"))


def test_every_wrong_edit_is_told_at_once_and_none_is_applied() -> None:
    why = refused("a\nb\nb\n", block("a\n", "x\n") + block("b\n", "y\n") + block("zz\n", "y\n"))
    assert "edit 2: its lines are at 2 places" in why
    assert "edit 3: its lines are nowhere" in why
    assert "edit 1" not in why


MARKED = "x = 1\n# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\ny = 1\n"


def test_scope() -> None:
    assert changed(MARKED, block("x = 1\n", "x = 2\n")) == MARKED.replace("START\nx = 1", "START\nx = 2")
    assert "a.py line 5, where nothing may change" in refused(MARKED, block("y = 1\n", "y = 2\n"))
    both = block("# EVOLVE-BLOCK-START\nx = 1\n", "# EVOLVE-BLOCK-START\nx = 3\n")
    assert changed(MARKED, both) == MARKED.replace("START\nx = 1", "START\nx = 3")
    assert "line 1 is outside of the EVOLVE blocks" in refused(MARKED, f"```\n{MARKED.replace('x', 'z')}```")
    assert "only src/** may change" in refused({"a.py": "a\n"}, "a.py\n```\nb\n```", Scope(("src/**",)))
    assert "no path of a file" in refused({"a.py": "a\n"}, "../b.py\n```\nb\n```")


def test_the_file_is_named_above_or_found() -> None:
    two = {"a.py": "a\nb\n", "c/d.py": "b\nd\n"}
    for path in ("c/d.py", "`c/d.py`", "### c/d.py", "**c/d.py**", "File: c/d.py", "// c/d.py", "./c/d.py"):
        assert changed(two, block("b\n", "x\n", path)) == {**two, "c/d.py": "x\nd\n"}
    assert changed(two, "c/d.py\n```python\n" + block("b\n", "x\n") + "```\n") == {**two, "c/d.py": "x\nd\n"}
    assert changed(two, "```python c/d.py\n" + block("b\n", "x\n") + "```\n") == {**two, "c/d.py": "x\nd\n"}
    assert changed(two, block("b\n", "x\n").replace("SEARCH", "SEARCH c/d.py")) == {**two, "c/d.py": "x\nd\n"}
    assert changed(two, "Here it is.\n" + block("d\n", "x\n")) == {**two, "c/d.py": "b\nx\n"}
    assert "a.py line 2, c/d.py line 1" in refused(two, block("b\n", "x\n"))
    assert "there is no file e.py" in refused(two, block("b\n", "x\n", "e.py"))
    assert changed(two, block("", "x\n", "e.py")) == {**two, "e.py": "x\n"}
    assert "is there already" in refused(two, block("", "x\n", "a.py"))


def test_marks_that_do_not_close_are_told() -> None:
    assert "no REPLACE mark" in refused("a\n", "<<<<<<< SEARCH\na\n=======\nb\n")
    assert "no REPLACE mark" in refused("a\n", "<<<<<<< SEARCH\na\n" + block("a\n", "x\n"))
    assert "without its SEARCH" in refused("a\n", "a\n=======\nb\n>>>>>>> REPLACE\n")
    assert "no line of =======" in refused("a\n", "<<<<<<< SEARCH\na\n>>>>>>> REPLACE\n")
    assert "2 lines of =======" in refused("a\n", block("a\n=======\nb\n", "x\n"))
    assert "no edit in the reply" in refused("a\n", "I would leave it.")


# ---- unified diffs -------------------------------------------------------------------------------


def test_a_diff_as_models_write_it() -> None:
    reply = "Sure:\n```diff\n--- a.py\n+++ a.py\n@@ -1,9 +1,9 @@ def f():\n a\n-b\n+x\n\n c\n```\nDone."
    assert changed("a\nb\n\nc\n", reply) == "a\nx\n\nc\n"
    assert changed("a\nb\n\nc\n", "```diff\n@@ @@\n-b\n+x\n```") == "a\nx\n\nc\n"
    assert changed("a\nb\nb\n", "--- a.py\n+++ a.py\n@@ -3 +3 @@\n-b\n+x\n") == "a\nb\nx\n", "the number says which"
    assert "2 places" in refused("a\nb\nb\n", "--- a.py\n+++ a.py\n@@ -9 +9 @@\n-b\n+x\n")
    assert "no hunk" in refused("a\n", "```diff\n-a\n+b\n```")
    assert "no hunk" in refused("a\n", "--- a.py\n+++ a.py\n-a\n+b\n")
    assert "renames" in refused("a\n", "--- a.py\n+++ b.py\n@@ -1 +1 @@\n-a\n+b\n")
    assert "find its place" in refused("a\n", "--- a.py\n+++ a.py\n@@ @@\n+b\n")


def test_miscounted_hunks_of_several_files() -> None:
    reply = "--- a/a.py\n+++ b/a.py\n@@ -1,7 +1,9 @@\n-a\n+x\n--- a/b.py\n+++ b/b.py\n@@ -1,2 +1,1 @@\n-b\n+y\n"
    assert changed({"a.py": "a\n", "b.py": "b\n"}, reply) == {"a.py": "x\n", "b.py": "y\n"}


def test_files_come_and_go() -> None:
    before = {"a.py": "a\n", "b.py": "b\n", "c.py": ""}
    after = {"a.py": "a\n", "d.py": "d", "e.py": ""}
    assert changed(before, unified(before, after)) == after
    assert "is not what it holds" in refused({"a.py": "a\n"}, "--- a/a.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n")
    assert "no file b.py to delete" in refused({"a.py": "a\n"}, "--- a/b.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n")


# ---- whole files ---------------------------------------------------------------------------------


def test_whole_files() -> None:
    assert changed("a\n", "Here:\n```python\nx\ny\n```\n") == "x\ny\n"
    assert changed("a\n", "~~~~\n```\nx\n```\n~~~~") == "```\nx\n```\n"
    assert changed("a\r\n", "```\nx\ny\n```") == "x\r\ny\r\n"
    two = {"a.py": "a\n", "b.py": "b\n"}
    assert changed(two, "a.py\n```\nx\n```\n\n```python title=b.py\ny\n```") == {"a.py": "x\n", "b.py": "y\n"}
    assert "does not say which file" in refused(two, "```\nx\n```")
    assert "2 code fences (lines 1, 4)" in refused("a\n", "```\nx\n```\n```\ny\n```")
    assert "does not end" in refused("a\n", "```python\nx\ny")
    assert "written as a whole by another" in refused(two, "a.py\n```\nx\n```\n" + block("a\n", "y\n", "a.py"))
    assert "as a whole twice" in refused(two, "a.py\n```\nx\n```\na.py\n```\ny\n```")


def test_a_quotation_beside_edits_is_no_file_and_a_named_one_is() -> None:
    reply = "Now it is\n```\na\n```\n" + block("a\n", "x\n")
    assert changed("a\n", reply) == "x\n"
    assert changed({"a.py": "a\n"}, "b.py\n```\nnew\n```\n" + block("a\n", "x\n")) == {"a.py": "x\n", "b.py": "new\n"}


def test_characters_that_cannot_be_written_are_refused() -> None:
    assert "cannot be written" in refused("a\n", block("a\n", "\ud800\n"))


# ---- properties ----------------------------------------------------------------------------------


@given(PROGRAM, PROGRAM, st.integers(0, 4))
@settings(deadline=None)
def test_a_unified_diff_brings_the_one_to_the_other(
    before: dict[str, str], after: dict[str, str], context: int
) -> None:
    if before != after:
        assert apply(before, parse_reply(unified(before, after, context)), ANY) == after


@given(TEXT, TEXT)
@settings(deadline=None)
def test_so_it_does_with_other_line_ends(old: str, new: str) -> None:
    before, after = ({"a.py": text.replace("\n", "\r\n")} for text in (old, new))
    if before != after and old.count("\n"):
        assert apply(before, parse_reply(unified(before, after)), ANY) == after


PLAIN = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)
LINES = st.lists(LINE, max_size=4).map(tuple)


@given(st.lists(st.builds(lambda old, new: Edit("lines", "", old, new), LINES, LINES), min_size=1, max_size=3))
@settings(deadline=None)
def test_rendered_blocks_are_read_as_they_were(edits: list[Edit]) -> None:
    read = parse_reply(rendered(edits))
    assert [(edit.old, edit.new) for edit in read] == [(edit.old, edit.new) for edit in edits]


@given(PLAIN, st.data())
@settings(deadline=None)
def test_a_block_of_lines_that_are_there_once_replaces_just_them(lines: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(lines) - 1))
    stop = data.draw(st.integers(start + 1, len(lines)))
    new = data.draw(st.lists(st.sampled_from("uvwxyz"), max_size=3))
    before = {"a.py": "\n".join(lines) + "\n"}
    after = [*lines[:start], *new, *lines[stop:]]
    edit = Edit("lines", "", tuple(lines[start:stop]), tuple(new))
    assert apply(before, parse_reply(rendered([edit])), ANY)["a.py"] == "".join(line + "\n" for line in after)


@given(
    st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=7),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2),
)
@settings(deadline=None)
def test_lines_that_are_there_more_than_once_or_never_are_always_refused(lines: list[str], old: list[str]) -> None:
    before = {"a.py": "".join(line + "\n" for line in lines)}
    places = sum(lines[i : i + len(old)] == old for i in range(len(lines)))
    edit = Edit("lines", "", tuple(old), ("new",))
    if places == 1:
        assert apply(before, [edit], ANY)["a.py"].count("new") == 1
    else:
        with pytest.raises(EditError):
            apply(before, [edit], ANY)


@given(st.text(max_size=200) | st.lists(LINE, max_size=15).map("\n".join))
@settings(deadline=None)
def test_any_reply_is_read_or_refused(text: str) -> None:
    try:
        edits = parse_reply(text)
    except EditError:
        return
    assert edits
    try:
        apply({"a.py": "a\nb\n", "b.py": ""}, edits, ANY)
    except EditError:
        return
