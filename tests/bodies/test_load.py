from __future__ import annotations

import os

import pytest

from upwright.bodies.answer import answer
from upwright.bodies.body import Body, Inference, render_toml
from upwright.bodies.runtimes import load, unload
from upwright.bodies.runtimes.openai import OpenAIRuntime
from upwright.bodies.runtimes.transformers import TransformersRuntime
from upwright.errors import BodyError
from upwright.records import Question


@pytest.fixture(autouse=True)
def _clean():
    unload()
    yield
    unload()


def linked(tiny_body, root) -> Body:
    (root / "model").mkdir(parents=True)
    for file in (tiny_body.root / "model").iterdir():
        os.symlink(file, root / "model" / file.name)
    return Body(root)


def test_bodies_with_the_same_weights_share_a_runtime(tiny_body, tmp_path):
    first = load(linked(tiny_body, tmp_path / "a"))
    assert isinstance(first, TransformersRuntime)
    assert load(linked(tiny_body, tmp_path / "b")) is first


def test_the_least_used_leaves_first(tiny_body, tmp_path):
    bodies = []
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.toml").write_text(f'url = "http://{name}"\nmodel = "m"')
        bodies.append(Body(tmp_path / name))
    a, b = load(bodies[0]), load(bodies[1])
    assert isinstance(a, OpenAIRuntime)
    assert load(bodies[0]) is a
    load(bodies[2])
    assert load(bodies[0]) is a
    assert load(bodies[1]) is not b


def test_no_model_is_a_body_error(tmp_path):
    with pytest.raises(BodyError, match="no model"):
        load(Body(tmp_path))


def test_a_tiny_body_answers(tiny_body, tmp_path):
    body = linked(tiny_body, tmp_path / "a")
    how = Inference(temperature=1.0, samples=3, choose="vote", refine=1, max_tokens=5)
    (body.root / "inference.toml").write_bytes(render_toml(how))
    questions = [Question(f"q{i}", f"what is {i}?") for i in range(5)]
    first, again = answer(body, questions, 1), answer(body, questions, 1)
    assert [a.text for a in first] == [a.text for a in again]
    assert all(a.failure is None and a.samples == 3 for a in first)
    assert [a.text for a in answer(body, questions, 2)] != [a.text for a in first]
