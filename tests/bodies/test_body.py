"""Parts of a body: those of its directory, and those that it has instead."""

from __future__ import annotations

import pytest

from upwright.bodies.body import Body, Inference, Prompt, Training
from upwright.errors import BodyError


def test_texts_stand_in_for_the_directorys(body_with):  # type: ignore[no-untyped-def]
    root = body_with(prompt_md="old", inference_toml="samples = 3\n", memory_jsonl="").root
    draft = Body(root, "d" * 64, {"prompt.md": "new", "inference.toml": None, "training.toml": "rank = 2\n"})
    assert draft.prompt == Prompt("new")
    assert draft.prompt is draft.prompt, "parsed once"
    assert draft.inference == Inference()
    assert draft.training == Training(rank=2)
    assert draft.memory == ()
    assert [draft.has(p) for p in ("prompt.md", "inference.toml", "training.toml", "memory.jsonl", "model.toml")] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert Body(root, "e" * 64).prompt == Prompt("old")


def test_a_malformed_text_is_told_by_its_part(body_with):  # type: ignore[no-untyped-def]
    draft = Body(body_with(prompt_md="old").root, "d" * 64, {"inference.toml": "sample = 3"})
    with pytest.raises(BodyError, match=r"inference\.toml: unknown key"):
        _ = draft.inference


@pytest.mark.parametrize("name", ["real", "rehearsal"])
@pytest.mark.parametrize("value", ["1.0", "1", "-0.1", "nan", "2.5"])
def test_a_share_of_the_examples_is_less_than_all_of_them(body_with, name, value):  # type: ignore[no-untyped-def]
    body = body_with(training_toml=f"{name} = {value}\n")
    with pytest.raises(BodyError, match=f"training.toml.*{name} is a share of the examples.*less than 1") as caught:
        _ = body.training
    assert caught.value.todo
    assert getattr(body_with(training_toml=f"{name} = 0.99\n").training, name) == 0.99
