"""A question in plain language, made into a plan by a language model; it is checked like any other, and shown before it is run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tomli_w

from upwright.agents.change import Texts, texts_of
from upwright.bodies.body import Body, Inference, render_toml
from upwright.bodies.models import fetch
from upwright.bodies.runtimes import load
from upwright.bodies.runtimes.base import Message, Request
from upwright.bodies.store import Store
from upwright.errors import ProjectError, RuntimeFailure, UpwrightError
from upwright.experiments.plan import Plan, example
from upwright.experiments.run import prepared
from upwright.founding import found, translated
from upwright.lineage import read_lineage
from upwright.practice import open_project
from upwright.project import Project
from upwright.records import Task

TRIES = 2
"""The model's text is sent back once with what is wrong with it."""
LOOKED = 64
"""Practice tasks that are drawn to name the skills of a suite."""
MOST_SHOWN = 2000
"""Characters of one text part that the model is shown."""
MOST_TOKENS = 1200

_TOLD = """\
You turn a question about a system into an experiment: a small TOML file that compares arms on practice tasks. Answer with the TOML alone, \
in one code fence. The first arm is what the others are compared with, usually the champion as it is. Make each other arm differ in exactly what \
the question asks about, and in nothing else. Write whatever text an arm needs yourself. Use only keys that the example has.

An example with every key:

```toml
{example}```
"""
_ASKED = """\
Suites, and skills in them:
{suites}

The champion's text parts:
{parts}

Settings of inference.toml and their values now:
{inference}

The question: {question}
"""


def endpoint_body(endpoint: str, folder: Path, key_variable: str = "") -> Body:
    """A body that is an OpenAI-compatible endpoint, ``URL#MODEL``.

    Args:
        key_variable: the environment variable with the endpoint's key; empty for none.

    Raises:
        ModelError: it is no such thing.
    """
    model = fetch(endpoint)
    if model.url is None:
        raise ProjectError("this is no endpoint", value=endpoint, todo="write it as http://host:port/v1#model")
    settings = {"url": model.url, "model": model.name, "timeout": 300.0}
    (folder / "model.toml").write_text(
        tomli_w.dumps(settings | ({"api_key_env": key_variable} if key_variable else {}))
    )
    return Body(folder)


def planned(project: Project, question: str, endpoint: str = "", key_variable: str = "") -> tuple[str, Plan]:
    """The TOML of an experiment that answers a question, and the plan that it is.

    Args:
        endpoint: ``URL#MODEL`` of the language model; by default upwright.toml's ``judge``.

    Raises:
        ProjectError: no language model is configured, or it wrote nothing that can be run; RuntimeFailure: it does not answer.
    """
    if not endpoint and not project.settings.judge:
        raise ProjectError(
            "a question in plain language needs a language model, and none is configured",
            value=question,
            todo="write the experiment as TOML (`upwright experiment --new my.toml`, then `upwright experiment my.toml`); "
            "or name a model: --endpoint http://host:port/v1#model, or judge in upwright.toml",
        )
    project.prepare()
    with translated(), project.lock():
        found(project)
    with tempfile.TemporaryDirectory(prefix="upwright-endpoint-") as folder:
        named = endpoint_body(endpoint, Path(folder), key_variable) if endpoint else None
        return _conversation(project, question, named or Body(project.root / project.settings.judge))


def _conversation(project: Project, question: str, model: Body) -> tuple[str, Plan]:
    suites = open_project(str(project.root)).suites
    objective = next(iter(suites))
    messages = [
        Message("system", _TOLD.format(example=example(objective, _skills(suites[objective].draw(LOOKED, 0))))),
        Message("user", _facts(project, question)),
    ]
    wrong = ""
    for _ in range(TRIES):
        said = _said(model, messages)
        text = _toml(said)
        try:
            return text, prepared(project, text, "the model's experiment")[0]
        except UpwrightError as error:
            wrong = error.what if error.value is None else f"{error.what} (got {error.value!r})"
            messages += [
                Message("assistant", said),
                Message("user", f"That cannot be run: {wrong}. {error.todo}\nThe whole TOML again:"),
            ]
    raise ProjectError(
        f"the language model wrote nothing that can be run: {wrong}", value=question,
        todo="write the experiment as TOML: `upwright experiment --new my.toml` shows how",
    )  # fmt: skip


def _said(model: Body, messages: Sequence[Message]) -> str:
    (completions,) = load(model).generate([Request(tuple(messages), max_tokens=MOST_TOKENS)])
    if completions[0].failure is not None:
        raise RuntimeFailure(
            f"the language model failed: {completions[0].failure.message}", todo="write the experiment as TOML"
        )
    return completions[0].text


def _toml(said: str) -> str:
    """The TOML in a reply: its longest code fence, or all of it."""
    fences = re.findall(r"^```[^\n]*\n(.*?)^```", said, re.MULTILINE | re.DOTALL)
    return max(fences, key=len) if fences else said


def _facts(project: Project, question: str) -> str:
    """What the model has to know of the project; all of it practice."""
    store, line = Store(project.state / "store"), read_lineage(project)
    champion = store.get(line.champion)
    body = Body(store.checkout(champion.digest), champion.digest)
    suites = open_project(str(project.root)).suites
    told = [f"- {name}: {', '.join(_skills(suite.draw(LOOKED, 0)))}" for name, suite in suites.items()]
    inference: Inference = body.inference
    return _ASKED.format(
        suites="\n".join(told),
        parts=_parts(texts_of(store, champion)),
        inference=render_toml(inference).decode().strip(),
        question=question,
    )


def _skills(tasks: Sequence[Task]) -> tuple[str, ...]:
    return tuple(sorted({task.skill for task in tasks}))


def _parts(texts: Texts) -> str:
    shown = {path: text for path, text in texts.items() if path not in ("model.toml", "improver.toml")}
    return "\n".join(f"--- {path}\n{text[:MOST_SHOWN]}" for path, text in shown.items()) or "(none)"
