from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from upwright.engines import make_engine
from upwright.errors import ProjectError
from upwright.testing.engines import add_job


@dataclass(frozen=True)
class Settings:
    kind: str = "local"
    workers: int = 0
    replicas: int = 1


def test_make_engine(tmp_path: Path) -> None:
    engine = make_engine(Settings(), tmp_path)  # type: ignore[arg-type]
    assert engine.name == "local"
    assert engine.run(add_job, 1, 2) == 3
    engine.close()
    with pytest.raises(ProjectError, match="no such engine"):
        make_engine(Settings("abacus"), tmp_path)  # type: ignore[arg-type]
