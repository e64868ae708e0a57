from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomli_w

from upwright.errors import ProjectError
from upwright.experiments.plan import ArmPlan, Plan, Spending, example, read

SMALL: dict[str, Any] = {
    "question": "Does it help?",
    "arms": [{"name": "as it is"}, {"name": "more", "append": {"prompt.md": "Think."}}],
}


def text(**changes: Any) -> str:
    return tomli_w.dumps({**SMALL, **changes})


def arm(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "as it is"}, {"name": "more", **changes}]


def test_what_is_left_out_has_a_default() -> None:
    plan = read(text())
    assert plan == Plan("Does it help?", (ArmPlan("as it is"), ArmPlan("more", append={"prompt.md": "Think."})))
    assert (plan.tasks, plan.repeats, plan.level, plan.early, plan.budget) == (64, 2, 0.95, False, Spending())
    assert [a.told for a in plan.arms] == ["as it is", "more at the end of prompt.md"]


def test_the_example_is_a_plan_and_tells_every_key() -> None:
    from dataclasses import fields

    shown = example("words", ("dates", "sums", "more"))
    plan = read(shown)
    assert plan.suite == "words"
    assert len(plan.arms) == 3
    assert '["dates", "sums"]' in shown.replace("'", '"')
    for key in (*fields(Plan), *fields(ArmPlan), *fields(Spending)):
        assert f"{key.name} = " in shown or f"[{key.name}]" in shown, key.name
    assert read(example()).arms[1].append


def test_what_an_arm_changes_is_told() -> None:
    whole = ArmPlan("x", "0", {"prompt.md": "a"}, {}, ("memory.jsonl",), "…", {"samples": 5, "choose": "vote"})
    assert whole.told == "generation 0, whole prompt.md, without memory.jsonl, edits, choose = 'vote', samples = 5"


def test_the_same_plan_has_the_same_digest() -> None:
    assert read(text()).digest == read(text(tasks=64)).digest != read(text(tasks=32)).digest


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("question = ", "is not TOML"),
        (text(colour="red"), "unknown key"),
        (text(budget={"minutes": 3}), r"\[budget\]: unknown key"),
        (text(arms=arm(prompt="x")), "arm 2: unknown key"),
        (text(question=" "), "the question is empty"),
        (text(question=3), "Expected `str`"),
        (text(arms=[{"name": "one"}]), "two arms or more"),
        (text(arms=[{"name": str(i)} for i in range(13)]), "at most 12 arms"),
        (text(arms=[{"name": "a"}, {"name": "a"}]), "the same name"),
        (text(arms=[{"name": "a"}, {"name": ""}]), "no name"),
        (text(arms=arm(files={"model/config.json": "{}"})), "no text part"),
        (text(arms=arm(files={"../charter.toml": ""})), "no text part"),
        (text(arms=arm(remove=["tasks/words.py"])), "no text part"),
        (text(tasks=1), "tasks must be 2 or more"),
        (text(repeats=0), "repeats must be 1 or more"),
        (text(tasks=90_000), "more than 100000 answers"),
        (text(level=1.0), "level must be"),
        (text(matters=-0.1), "matters must be"),
        (text(budget={"seconds": -1.0}), "a budget cannot be negative"),
        ("question = 'x'", "missing required field `arms`"),
    ],
)
def test_what_is_wrong_is_named(toml: str, told: str) -> None:
    with pytest.raises(ProjectError, match=told) as caught:
        read(toml, "my.toml")
    assert str(caught.value).startswith("my.toml")
    assert caught.value.todo


def test_toml_of_the_tests_is_toml() -> None:
    assert tomllib.loads(text())["question"] == "Does it help?"
