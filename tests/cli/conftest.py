from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import synthetic
from upwright.cli import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


Cli = Callable[..., Said]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object, project: Path | None = None) -> Said:
        before = () if project is None else ("--project", str(project))
        capfd.readouterr()
        code: object = 0
        try:
            main([*before, *(str(a) for a in arguments)])
        except SystemExit as end:
            code = end.code
        out, err = capfd.readouterr()
        return Said(int(code or 0), out, err)  # type: ignore[call-overload]

    return run


@pytest.fixture(scope="session")
def past() -> Path:
    """A project with a past; read it, do not change it."""
    return synthetic.past()


@pytest.fixture
def changed(past: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return synthetic.copy(past, tmp_path / "demo")
