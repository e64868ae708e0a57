"""The one test with a real model: fetched, loaded in the machine's own precision, asked."""

from __future__ import annotations

import os

import pytest

from upwright.bodies.answer import answer
from upwright.bodies.body import Body, Example, Inference, Prompt, render_prompt, render_toml
from upwright.bodies.models import fetch
from upwright.bodies.runtimes.base import Message
from upwright.bodies.runtimes.transformers import TransformersRuntime, render
from upwright.records import Finish, Question


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    root = tmp_path_factory.mktemp("smol")
    model = fetch("smollm2-135m-instruct")
    assert (model.kind, model.licence) == ("hf", "Apache-2.0")
    os.symlink(model.path, root / "model")
    examples = (Example("red", "RED"), Example("tree", "TREE"), Example("window", "WINDOW"))
    (root / "prompt.md").write_bytes(render_prompt(Prompt("Write the word in capital letters.", examples)))
    (root / "inference.toml").write_bytes(render_toml(Inference(max_tokens=8)))
    return Body(root)


def test_smollm2_answers_and_ends_its_turns(body):
    runtime = TransformersRuntime(body)
    words = ["house", "green", "apple", "stone"]
    questions = [Question(w, w) for w in words]
    said = answer(body, questions, 1, runtime)
    assert sum(a.text == w.upper() for a, w in zip(said, words)) >= 3
    assert all(a.finish is Finish.STOP and a.confidence > -3 and a.completion_tokens < 8 for a in said)
    assert runtime.describe()["parameters"] == 134_515_008


def test_its_template_is_used_and_nothing_is_added(body):
    runtime = TransformersRuntime(body)
    text = render(runtime.tokenizer, [Message("system", "S"), Message("user", "U")])
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert runtime.stops == {2}
