"""Tasks from any dataset of Reasoning Gym (Apache-2.0), by name: ``reasoning_gym:basic_arithmetic``.

A configuration may follow as JSON: ``reasoning_gym:basic_arithmetic?{"min_terms": 2}``. The source
writes a small generator file with name and configuration in it, so that the warden can freeze it
like any other. The package does not load torch; importing it takes some two seconds.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from upwright.errors import MissingExtra, TaskError
from upwright.project import write_atomic
from upwright.records import canonical_digest
from upwright.tasks.base import Generator
from upwright.tasks.python import PythonFile

ADAPTER = '''"""Reasoning Gym dataset {name}: written by Upwright; the dataset's own scorer grades."""

import json

import reasoning_gym

NAME = {name!r}
CONFIG = json.loads({config!r})
SEEDS = {{}}  # question → seed, for tasks that come back to score() without their data


def entry(seed):
    return reasoning_gym.create_dataset(NAME, seed=seed, size=1, **CONFIG)[0]


def generate(seed):
    made = entry(seed)
    SEEDS[made["question"]] = seed
    return {{
        "input": made["question"],
        "answer": made["answer"],
        "skill": NAME,
        "difficulty": 1,
        "scorer": {{"kind": "python"}},
        "check": None,
        "data": {{"seed": seed}},
    }}


def score(text, task):
    seed = task["data"]["seed"] if task.get("data") else SEEDS[task["input"]]
    dataset = reasoning_gym.create_dataset(NAME, seed=seed, size=1, **CONFIG)
    return float(dataset.score_answer(answer=text.strip(), entry=dataset[0]))
'''


class ReasoningGym:
    """``reasoning_gym:NAME`` or ``reasoning_gym:NAME?JSON``: an endless source."""

    kind = "reasoning_gym"

    def load(self, spec: str, root: Path) -> Generator:
        """A generator file under ``root/.upwright/tasks``.

        Raises:
            MissingExtra: Reasoning Gym is not installed.
            TaskError: the name or the configuration is wrong.
        """
        if find_spec("reasoning_gym") is None:
            raise MissingExtra("reasoning_gym", "reasoning-gym")
        name, config = parse(spec)
        _check_dataset(name, config)
        text = ADAPTER.format(name=name, config=json.dumps(config, sort_keys=True))
        path = root / ".upwright" / "tasks" / f"{name}-{canonical_digest([name, config])[:12]}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            write_atomic(path, text.encode())
        loaded = PythonFile().load(path.name, path.parent)
        assert isinstance(loaded, Generator)
        return loaded


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``NAME?JSON`` → name and configuration.

    Raises:
        TaskError: the configuration is not a JSON object, or sets what Upwright sets.
    """
    name, _, text = spec.partition("?")
    try:
        config = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise TaskError(
            f"reasoning_gym:{name}: the configuration is not JSON: {error}", value=text, todo='write it as {"key": 1}'
        ) from None
    if not isinstance(config, dict):
        raise TaskError(f"reasoning_gym:{name}: the configuration needs to be a JSON object", value=config)
    for key in ("seed", "size"):
        if key in config:
            raise TaskError(f"reasoning_gym:{name}: {key!r} is set by Upwright", value=config[key], todo="leave it out")
    return name.strip(), config


def _check_dataset(name: str, config: dict[str, Any]) -> None:
    import difflib

    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 3)
        todo = f"did you mean {', '.join(near)}?" if near else "names are listed in Reasoning Gym's gallery"
        raise TaskError("reasoning_gym: there is no such dataset", value=name, todo=todo)
    try:
        made = reasoning_gym.create_dataset(name, seed=1, size=1, **config)[0]
    except Exception as error:
        raise TaskError(
            f"reasoning_gym:{name}: the dataset refuses its configuration: {error}", value=config, todo="mend it"
        ) from error
    if not isinstance(made.get("question"), str):
        raise TaskError(f"reasoning_gym:{name}: the dataset makes no text questions", value=made.get("question"))
