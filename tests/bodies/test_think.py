from __future__ import annotations

import pytest

from upwright.bodies._think import final, marked, repetition, split


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("23 + 14 = 37\nAnswer: 37", "23 + 14 = 37", "37"),
        ("23 + 14 = 37. Answer: 37", "23 + 14 = 37.", "37"),
        ("So.\n**Final answer:** 37", "So.", "37"),
        ("So.\n**Answer: 37**", "So.", "37"),
        ("So.\nThe answer is: 37", "So.", "37"),
        ("Answer: 36\nNo.\nAnswer: 37", "Answer: 36\nNo.", "37"),
        ('It is a list.\nAnswer:\n{"a":\n 1}', "It is a list.", '{"a":\n 1}'),
        ("<think>add them</think>37", "add them", "37"),
        ("<think>add them</think>\nso\nAnswer: 37", "add them\nso", "37"),
        ("cut off</think> 37", "cut off", "37"),
        ("37", "37", None),
        ("The answerable question", "The answerable question", None),
        ("", "", None),
        ("Hm.\nAnswer:", "Hm.", ""),
    ],
)
def test_thought_and_answer(text: str, thought: str, answer: str | None) -> None:
    assert split(text) == (thought, answer)


def test_only_a_body_that_thinks_has_its_thought_taken_off() -> None:
    assert final("So.\nAnswer: 37", 0) == "So.\nAnswer: 37"
    assert final("So.\nAnswer: 37", 48) == "37"
    assert final(" 37 ", 48) == "37"


@pytest.mark.parametrize("answer", ["37", "yes", '{"a": "Answer"}', "1998-03-05"])
def test_what_is_marked_is_found_again(answer: str) -> None:
    assert split(marked("a step\nanother", answer)) == ("a step\nanother", answer)
    assert marked("  ", answer) == answer


def test_repetition() -> None:
    assert repetition("so it is " * 10) > 0.8
    assert repetition("one two three four five six seven eight nine ten") == 0.0
    assert repetition("so so so") == 0.0, "too short to tell"
