from __future__ import annotations

import contextlib
import io
import random
import types
from collections.abc import Callable, Mapping, Sequence

import pytest

from upwright.evolution.blocks import Scope
from upwright.evolution.proposers._trace import Printed
from upwright.evolution.proposers.base import Brief, Candidate, Program
from upwright.evolution.records import program_digest

MakeBrief = Callable[..., Brief]


def candidate_of(program: Program | str, score: float | None = 0.5, **metrics: float) -> Candidate:
    files = {"program.py": program} if isinstance(program, str) else program
    return Candidate(program_digest(files), files, metrics, score)


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    return candidate_of


@pytest.fixture
def brief() -> MakeBrief:
    def make(
        program: Program | str,
        *others: Program | str,
        score: float | None = 0.5,
        n: int = 4,
        seed: int = 0,
        scope: Scope | None = None,
        metrics: Mapping[str, float] | None = None,
        failures: Sequence[str] = (),
    ) -> Brief:
        parent = candidate_of(program, score, **(metrics or {}))
        return Brief(
            parent,
            tuple(candidate_of(other) for other in others),
            tuple(failures),
            scope or Scope(),
            "quality",
            "max",
            random.Random(seed),
            n,
        )

    return make


@pytest.fixture
def bench() -> Callable[[Program, float], Printed]:
    """Runs program.py's ``run`` in this process."""

    def ran(program: Program, seconds: float) -> Printed:
        said, module = io.StringIO(), types.ModuleType("program")
        with contextlib.redirect_stdout(said):
            try:
                exec(compile(program["program.py"], "program.py", "exec"), module.__dict__)
                module.run()
            except Exception as error:
                return Printed(said.getvalue(), repr(error))
        return Printed(said.getvalue())

    return ran
