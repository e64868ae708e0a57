from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from upwright.evolution.blocks import Scope
from upwright.evolution.edits import apply, parse_reply
from upwright.evolution.proposers import prompts
from upwright.evolution.proposers.base import Brief

from .conftest import candidate_of

TEXT = "# EVOLVE-BLOCK-START\ndef run():\n    return 1\n# EVOLVE-BLOCK-END\n"


def said(brief: Brief, *refused: str) -> str:
    return prompts.messages(brief, refused)[-1].content


def test_the_worked_example_is_an_edit_that_applies() -> None:
    before = prompts.SYSTEM.split("```\n")[1]
    reply = prompts.SYSTEM.split('"largest should be the largest area" is\n')[1]
    after = apply({"area.py": before}, parse_reply(reply), Scope())
    assert "a * b > best" in after["area.py"]


def test_it_tells_what_there_is_to_know(brief: Callable[..., Brief]) -> None:
    asked = brief(
        {"program.py": TEXT, "data.txt": "secret"}, scope=Scope(("*.py",)), metrics={"quality": 1.25, "time": 3.0}, failures=["crash: no"],
    )  # fmt: skip
    asked = replace(asked, parent=replace(asked.parent, artifacts={"output": "boo\n"}))
    text = said(asked, "edit 1: its lines are nowhere")
    for part in (
        TEXT,
        "quality = 1.25",
        "as large as possible",
        "crash: no",
        "boo",
        "EVOLVE-BLOCK-START and",
        "are nowhere",
        "data.txt",
    ):
        assert part in text
    assert "secret" not in text


def test_others_are_shown_by_their_difference(brief: Callable[..., Brief]) -> None:
    other = candidate_of(TEXT.replace("1", "2"), 0.7, quality=2.0)
    text = said(replace(brief(TEXT), inspirations=(other,)))
    assert "quality = 2" in text
    assert "-    return 1\n+    return 2\n" in text


def test_a_long_program_is_cut_and_said_to_be(brief: Callable[..., Brief]) -> None:
    text = said(brief({"a.py": "x = 1\n" * 10_000, "b.py": "y = 1\n"}))
    assert len(text) < prompts.ROOM + 2_000
    assert "(cut here)" in text
    assert "not shown: b.py" in text


def test_a_refused_reply_goes_back_with_its_reason(brief: Callable[..., Brief]) -> None:
    chat = prompts.messages(brief(TEXT))
    longer = prompts.again(chat, "hm", "there are no edits")
    assert [m.role for m in longer] == ["system", "user", "assistant", "user"]
    assert "there are no edits" in longer[-1].content


def test_a_reply_is_summed_up_by_its_first_words() -> None:
    assert prompts.summary("program.py\n<<<<<<< SEARCH\n") == "a change without words"
    assert prompts.summary("\n**Use a hexagonal grid.**\n\n```\nx\n```") == "Use a hexagonal grid."
    assert len(prompts.summary("word " * 100)) == 160
