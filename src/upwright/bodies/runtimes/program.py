"""A body that is a program: to every question it answers its own text.

Such a body has no weights. It is ``program/`` and a ``model.toml`` of one line, ``runtime = "program"``. Its answer is canonical JSON of
its files, path → text; whoever grades runs it. Nothing that the body holds is run here, and an answer costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from upwright.bodies.body import Body
from upwright.bodies.program import program_text, read_program
from upwright.bodies.runtimes.base import Completion, Progress, Request
from upwright.records import Finish

NAME = "program"


class ProgramRuntime:
    """The runtime of a body that is a program.

    Raises:
        BodyError: it has no program.
    """

    name = NAME
    trainable = False

    def __init__(self, body: Body) -> None:
        program = read_program(body.root)
        self._text = program_text(program)
        self._facts = {"files": len(program), "characters": sum(map(len, program.values()))}

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """The program, for every request as often as it is asked for; messages, seed, temperature and limits on tokens mean nothing here."""
        total = sum(request.n for request in requests)
        if progress is not None:
            progress(total, total)
        return [[Completion(self._text, Finish.STOP)] * request.n for request in requests]

    def describe(self) -> dict[str, Any]:
        """How much there is, and the SHA-256 of the text."""
        return {"runtime": self.name, **self._facts, "sha256": hashlib.sha256(self._text.encode()).hexdigest()}

    def close(self) -> None:
        """Nothing is held."""
