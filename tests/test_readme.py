"""The README is held to the disk: its tree, its snippets and its links."""

import json
import re
from pathlib import Path

import pytest

from upwright.tasks.fields import task_from

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SOURCE = ROOT / "src" / "upwright"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def test_the_tree_names_everything_that_is_there_and_nothing_else():
    tree = README.split("<!-- tree -->")[1].split("```")[1]
    named = {line.split()[0].rstrip("/") for line in tree.splitlines()[2:] if line.strip()}
    there = {p.name for p in SOURCE.iterdir() if p.name[0] not in "._" and p.name != "py.typed"}
    assert named == there


def test_the_python_snippets_run():
    found = blocks("python")
    assert found
    for snippet in found:
        exec(compile(snippet, "README.md", "exec"), {})


def test_the_json_line_is_a_task():
    for block in blocks("json"):
        task = task_from(json.loads(block), "README.md")
        assert task.skill == "dates"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str):
    assert (ROOT / target).exists()


def test_every_command_of_the_help_is_named():
    from upwright.cli.app import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {name for name in names if name not in README} <= {"resume", "amend"}
