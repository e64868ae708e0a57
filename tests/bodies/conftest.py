from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from upwright.bodies.body import Body


@pytest.fixture(scope="session")
def tiny_body(tmp_path_factory) -> Body:
    from upwright.testing.tiny import tiny_model

    root = tmp_path_factory.mktemp("tiny")
    tiny_model(root / "model")
    return Body(root)


@pytest.fixture(scope="session")
def smol_gguf() -> Path:
    from upwright.bodies.models import fetch

    path = fetch("smollm2-135m-instruct-gguf").path
    assert path is not None
    return path


@pytest.fixture
def body_with(tmp_path):
    """Make a body from ``path=text`` pairs."""

    def make(**files: str | bytes) -> Body:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Body(tmp_path)

    return make
