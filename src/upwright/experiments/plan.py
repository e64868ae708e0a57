"""What an experiment asks: the question, the arms, how often, and how much it may cost. A small TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from upwright.agents.change import tellable
from upwright.errors import ProjectError
from upwright.records import canonical_digest, to_json

MOST_ARMS = 12
MOST_TASKS = 100_000


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm: a generation, with changes to its texts. Without any it is that generation as it stands.

    Attributes:
        name: what the answer calls it.
        body: the generation that it starts from: ``champion``, a number, or the beginning of a digest.
        files: path → whole new text; ``append``: path → text that is put at its end; ``remove``: paths that go.
        edits: SEARCH/REPLACE blocks or a unified diff.
        inference: settings of inference.toml that differ.
    """

    name: str
    body: str = "champion"
    files: Mapping[str, str] = field(default_factory=dict)
    append: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    edits: str = ""
    inference: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What it changes, in words."""
        said = [f"whole {path}" for path in sorted(self.files)]
        said += [f"more at the end of {path}" for path in sorted(self.append)]
        said += [f"without {path}" for path in sorted(self.remove)]
        said += ["edits"] if self.edits else []
        said += [f"{key} = {value!r}" for key, value in sorted(self.inference.items())]
        start = "" if self.body == "champion" else f"generation {self.body}"
        return ", ".join([start] * bool(start) + said) or "as it is"


@dataclass(frozen=True, slots=True)
class Spending:
    """``[budget]``: what ends an experiment early, at the last point where all arms have answered the same tasks.

    Attributes:
        seconds: of wall time; ``tasks``: answers, over all arms. 0 is no limit.
    """

    seconds: float = 0.0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment.

    Attributes:
        question: what is asked, in words; goes on the ledger.
        arms: the first is what the others are compared with.
        suite: whose practice tasks are asked; empty is the charter's objective. ``skills``: only these; empty is all.
        tasks: in each repeat; ``repeats``: each with tasks (where there are enough) and seeds of its own, the same for all arms.
        seed: another one draws other tasks.
        level: coverage of all intervals together.
        matters: the smallest difference that matters, in score; 0 is the charter's minimum_gain.
        early: end as soon as every arm's difference is clear.
    """

    question: str
    arms: tuple[ArmPlan, ...]
    suite: str = ""
    skills: tuple[str, ...] = ()
    tasks: int = 64
    repeats: int = 2
    seed: int = 0
    level: float = 0.95
    matters: float = 0.0
    early: bool = False
    budget: Spending = field(default_factory=Spending)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return canonical_digest(to_json(self))


def read(text: str, where: str = "the experiment") -> Plan:
    """A plan from its TOML; what is unknown, missing or out of range is an error that names it.

    Raises:
        ProjectError: what is wrong, and where.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{where} is not TOML: {error}", todo="correct that line") from None
    _known(data, Plan, where)
    _known(data.get("budget", {}), Spending, f"{where}, [budget]")
    for number, arm in enumerate(data.get("arms", ()), 1):
        _known(arm, ArmPlan, f"{where}, arm {number}")
    try:
        plan = msgspec.convert(data, type=Plan)
    except msgspec.ValidationError as error:
        raise ProjectError(f"{where}: {error}", todo=_HELP) from None
    for wrong, value, what in _ranges(plan):
        if wrong:
            raise ProjectError(f"{where}: {what}", value=value, todo=_HELP)
    return plan


_HELP = "`upwright experiment --new` shows an example with every key"


def _known(table: Any, cls: type, where: str) -> None:
    known = [f.name for f in fields(cls)]
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            raise ProjectError(f"{where}: unknown key", value=key, todo=f"known keys: {', '.join(known)}")


def _ranges(plan: Plan) -> list[tuple[bool, object, str]]:
    names = [arm.name for arm in plan.arms]
    odd = sorted({path for arm in plan.arms for path in (*arm.files, *arm.append, *arm.remove) if not tellable(path)})
    count = plan.tasks * plan.repeats * len(plan.arms)
    return [
        (not plan.question.strip(), plan.question, "the question is empty"),
        (len(plan.arms) < 2, len(plan.arms), "an experiment needs two arms or more: the first is compared with"),
        (len(plan.arms) > MOST_ARMS, len(plan.arms), f"there are at most {MOST_ARMS} arms"),
        (any(not name.strip() for name in names), names, "an arm has no name"),
        (len(set(names)) < len(names), names, "two arms have the same name"),
        (bool(odd), odd, "an arm changes what is no text part of a body"),
        (plan.tasks < 2, plan.tasks, "tasks must be 2 or more"),
        (plan.repeats < 1, plan.repeats, "repeats must be 1 or more"),
        (count > MOST_TASKS, count, f"that is more than {MOST_TASKS} answers"),
        (not 0.5 <= plan.level < 1, plan.level, "level must be at least 0.5 and less than 1"),
        (not 0 <= plan.matters <= 1, plan.matters, "matters must be in [0, 1]"),
        (plan.budget.seconds < 0 or plan.budget.tasks < 0, to_json(plan.budget), "a budget cannot be negative"),
    ]


EXAMPLE = '''\
# An experiment: arms side by side on practice tasks, the same tasks and seeds for all of them.
# Run it with `upwright experiment FILE.toml`. It changes nothing and promotes nothing.

question = "Does asking for the value alone help?"

suite = "{suite}"          # whose practice tasks; leave it out for the charter's objective
skills = []             # only these skills, such as {skills}; empty for all
tasks = 64              # in each repeat
repeats = 2             # each with its own tasks (where there are enough) and sampling seeds
seed = 0                # another one draws other tasks
level = 0.95            # coverage of all intervals together
# matters = 0.05        # the smallest difference that matters, in score; default: the charter's minimum_gain
# early = true          # end as soon as every difference is clear (the intervals are then a little wider)

[budget]                # what ends it early; 0 is no limit
seconds = 600           # wall time
tasks = 0               # answers, over all arms

# The first arm is what the others are compared with. Without changes it is the champion as it is.
[[arms]]
name = "as it is"

[[arms]]
name = "the value alone"
append = {{ "prompt.md" = "Answer with the value alone." }}     # text at the end of a part

[[arms]]
name = "five samples, a vote"
inference = {{ temperature = 0.7, samples = 5, choose = "vote" }}    # settings of inference.toml

# Other ways to say what an arm is:
# body = "0"                                   # another generation: a number or the beginning of a digest
# files = {{ "prompt.md" = """the whole new text""" }}
# remove = ["memory.jsonl"]
# edits = """
# prompt.md
# <<<<<<< SEARCH
# a line as it is
# =======
# as it should be
# >>>>>>> REPLACE
# """
'''


def example(suite: str = "words", skills: tuple[str, ...] = ()) -> str:
    """A commented plan to begin with.

    Args:
        suite: of the project; ``skills``: some that it has.
    """
    return EXAMPLE.format(suite=suite, skills=list(skills[:2]) or ["dates"])
