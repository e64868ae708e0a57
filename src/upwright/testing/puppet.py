"""A body without a model and a lever that changes it: whole runs in a second, for tests and benchmarks.

A puppet answers ``SKILL: say WORD`` with WORD as often as its prompt says. Its ``model.toml`` is one line,
``runtime = "puppet"``; its ``prompt.md`` is what :func:`instructions` writes. :class:`Coach` is a lever that does
what a script tells it: a better prompt, a worse one, the same one, one that is merely lucky, or a failure to build.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Completion, Message, Progress, Request
from upwright.errors import BuildError
from upwright.levers.base import Built, Situation, Workshop
from upwright.records import Cost, Proposal, Rung, derive_seed, to_json
from upwright.testing.fakes import FakeRuntime, Known

MODEL = 'runtime = "puppet"\n'
"""``model.toml`` of a puppet."""

TASKS = """
import random

SKILLS = {skills!r}

def generate(seed):
    r = random.Random(seed)
    skill, word = r.choice(SKILLS), "".join(r.choices("abcdefghijkmnopqrstuvwxyz", k=8))
    return {{"input": f"{{skill}}: say {{word}}", "answer": word, "skill": skill}}
"""
_ASKED = re.compile(r"([\w-]+): say (\w+)")
_SAID = re.compile(r"^([\w-]+) = (\S+)$", re.MULTILINE)


def tasks(*skills: str) -> str:
    """A Python file with an endless suite of tasks of these skills."""
    return TASKS.format(skills=list(skills))


def instructions(right: Mapping[str, float], luck: str = "") -> bytes:
    """``prompt.md`` of a puppet.

    Args:
        right: chance in [0, 1] of a right answer, by skill.
        luck: another text draws other right answers with the same chances.
    """
    chances = "".join(f"{skill} = {chance:g}\n" for skill, chance in sorted(right.items()))
    return (chances + (f"luck = {luck}\n" if luck else "")).encode()


def parts(right: Mapping[str, float]) -> dict[str, bytes]:
    """Path → bytes of a whole puppet."""
    return {"model.toml": MODEL.encode(), "prompt.md": instructions(right)}


def write(root: Path, right: Mapping[str, float]) -> Body:
    """A puppet in the directory ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    for path, data in parts(right).items():
        (root / path).write_bytes(data)
    return Body(root)


class Puppet(FakeRuntime):
    """The runtime of a puppet; a better one knows everything that a worse one with the same luck knows."""

    name = "puppet"

    def __init__(self, body: Body) -> None:
        super().__init__(_known)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Complete every request; unlike its base, it does not remember them."""
        try:
            return super().generate(requests, progress)
        finally:
            self.requests.clear()

    def _say(self, question: str, request: Request, sample: int) -> tuple[bool, str]:
        known = _known(question)
        if known is None:
            return False, "what?"
        told = _told(request.messages)
        own = (request.seed, sample) if request.temperature > 0 else ()
        draw = random.Random(derive_seed("puppet", question, told.get("luck", ""), *own)).random()
        right = draw < float(told.get(known.skill, 0.0))
        return right, known.answer if right else known.wrong


def _known(question: str) -> Known | None:
    found = _ASKED.fullmatch(question)
    return Known(found[2], found[1]) if found else None


def _told(messages: Sequence[Message]) -> dict[str, str]:
    return dict(_SAID.findall(messages[0].content)) if messages[0].role == "system" else {}


@dataclass(frozen=True, slots=True)
class Step:
    """What the coach does once.

    Attributes:
        change: added to the chance of a right answer, by skill; nothing changes the body not at all.
        luck: see :func:`instructions`.
        fail: why the build fails; empty when it does not.
    """

    change: Mapping[str, float] = field(default_factory=dict)
    luck: str = ""
    fail: str = ""


class Coach:
    """A lever that follows a script: its n-th proposal is the n-th step; after the last it has none.

    Args:
        script: at most as many steps as the history that a loop hands out.
    """

    parts = ("prompt.md",)
    needs_weights = False
    seconds = 0.05

    def __init__(self, script: Sequence[Step] = (), name: str = "coach") -> None:
        self.script = tuple(script)
        self.name = name

    def propose(self, situation: Situation) -> Proposal | None:
        """The next step, whatever is weak."""
        number = sum(a.proposal.lever == self.name for a in situation.history)
        if number >= len(self.script):
            return None
        return self.spec(situation, self.script[number], f"step {number + 1} of the script")

    def spec(self, situation: Situation, step: Step, reason: str) -> Proposal:
        """A step as a proposal."""
        seed = situation.rng.getrandbits(32)
        weakness = situation.weaknesses[0].skill if situation.weaknesses else None
        return Proposal(self.name, to_json(step), reason, "rules", situation.parent, seed, weakness)

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """Do what the step says."""
        step: Mapping[str, Any] = proposal.settings
        workshop.progress(0, 1, "coaching")
        if step["fail"]:
            raise BuildError(step["fail"])
        told = dict(_SAID.findall(parent.prompt.instructions))
        luck = step["luck"] or told.pop("luck", "")
        right = {skill: float(chance) for skill, chance in told.items() if skill != "luck"}
        for skill, change in step["change"].items():
            right[skill] = min(1.0, max(0.0, right.get(skill, 0.0) + change))
        workshop.progress(1, 1, "coaching")
        return Built({"prompt.md": instructions(right, luck)}, Rung.EXECUTION, {"right": right}, Cost())
