from __future__ import annotations

import os
import sys

import pytest

from upwright.bodies.body import Body
from upwright.bodies.runtimes import load, unload
from upwright.bodies.runtimes.base import Message, Request
from upwright.bodies.runtimes.llamacpp import LlamaCppRuntime
from upwright.errors import BodyError, MissingExtra, ModelError, RuntimeFailure
from upwright.records import FailureKind
from upwright.testing.runtimes import RuntimeContract


@pytest.fixture(scope="module")
def gguf_body(smol_gguf, tmp_path_factory):
    root = tmp_path_factory.mktemp("gguf")
    (root / "model").mkdir()
    os.symlink(smol_gguf, root / "model" / smol_gguf.name)
    return Body(root)


class TestContract(RuntimeContract):
    tokens = 4

    @pytest.fixture(scope="class")
    @classmethod
    def runtime(cls, gguf_body):
        return LlamaCppRuntime(gguf_body, context=512)


def test_it_is_chosen_for_a_gguf_and_fails_alone(gguf_body):
    runtime = load(gguf_body)
    assert isinstance(runtime, LlamaCppRuntime)
    system = Message("system", "Answer with one word.")
    requests = [
        Request((system, Message("user", "What is the capital of France?")), max_tokens=4),
        Request((system, Message("user", "word " * 9000)), max_tokens=4),
    ]
    good, bad = runtime.generate(requests)
    assert good[0].text
    assert good[0].logprob < 0
    assert bad[0].failure.kind is FailureKind.CRASH
    assert "context" in bad[0].failure.message
    unload()
    with pytest.raises(RuntimeFailure, match="closed"):
        runtime.generate(requests)


def test_two_files_none_or_garbage(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(BodyError, match=r"one \.gguf"):
        LlamaCppRuntime(Body(tmp_path))
    (tmp_path / "model" / "a.gguf").write_bytes(b"GGUF and then nothing")
    with pytest.raises(ModelError, match="cannot load"):
        LlamaCppRuntime(Body(tmp_path))


def test_a_missing_package_names_the_extra(gguf_body, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtra, match=r"upwright\[llamacpp\]"):
        LlamaCppRuntime(gguf_body)
