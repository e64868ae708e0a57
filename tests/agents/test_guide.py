from __future__ import annotations

from pathlib import Path

import pytest

import runs
from upwright.agents.guide import FILE, SHORT, client_config, guide, write_guide
from upwright.errors import ProjectError


def test_the_guide_tells_this_project(tmp_path: Path) -> None:
    text = guide(runs.write_project(tmp_path / "demo"))
    assert "`demo`" in text
    assert "suite `words`" in " ".join(text.split())
    assert "What may change: `prompt.md`." in text
    assert "The gate alone promotes; you cannot." in text
    other = runs.write_project(tmp_path / "other", ("[protected", 'oversight = "approve"\n[protected'))
    assert "A person agrees to every promotion" in guide(other)


def test_every_command_that_it_names_is_there(tmp_path: Path) -> None:
    import re

    from upwright.cli.reference import commands

    known = {name for name, _ in commands()}
    text = guide(runs.write_project(tmp_path / "demo"))
    named = set(re.findall(r"`(upwright [a-z]+)", text))
    assert {"upwright ask", "upwright tell", "upwright mcp"} <= named <= known


def test_every_tool_that_it_names_is_there(tmp_path: Path) -> None:
    import re

    import anyio

    from upwright.agents.server import make_server

    server = make_server(runs.write_project(tmp_path / "demo"))
    tools = {tool.name for tool in anyio.run(server.list_tools)}
    assert set(re.findall(r"\b(?:read|propose)_\w+", SHORT)) <= tools


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo")
    assert write_guide(project).name == FILE
    write_guide(project)
    (project.root / FILE).write_text("# My own\n")
    with pytest.raises(ProjectError, match=r"an AGENTS\.md of its own"):
        write_guide(project)


def test_a_client_s_configuration_starts_the_server(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo")
    server = client_config(project)["mcpServers"]["upwright"]
    assert server["args"] == ["--project", str(project.root), "mcp"]
    assert Path(server["command"]).name == "upwright"
