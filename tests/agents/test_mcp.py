"""The official SDK's client drives an improvement, and is refused what it must not have."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import CallToolResult

import runs
from upwright.agents.fates import fates
from upwright.agents.server import make_server
from upwright.lineage import read_lineage
from upwright.project import Project
from upwright.warden.door import Door

FREE = ('levers = ["coach"]', "")
SERVER = "import sys; from upwright.cli import main; main(sys.argv[1:])"


def stdio(project: Project) -> StdioServerParameters:
    args = ["-c", SERVER, "--project", str(project.root), "mcp"]
    return StdioServerParameters(command=sys.executable, args=args)


def drive(server: Any, steps: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        with anyio.fail_after(240):
            async with Client(server) as client:
                await steps(client)

    anyio.run(run)


def text(result: CallToolResult) -> str:
    return "".join(part.text for part in result.content if part.type == "text")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return runs.make(tmp_path / "demo", FREE)


def test_a_client_drives_a_whole_improvement(project: Project) -> None:
    """From reading the weakness to the promotion, over standard input and output."""
    progress: list[str] = []

    async def heard(done: float, total: float | None, message: str | None) -> None:
        progress.append(message or "")

    async def steps(client: Client) -> None:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {
            "read_parent", "read_scope", "read_diagnosis", "read_failures", "propose_change", "read_verdict",
        }  # fmt: skip
        found = await client.call_tool("read_diagnosis", {}, progress_callback=heard)
        weakness = found.structured_content["diagnosis"]["weaknesses"][0]
        assert weakness["skill"] == "words"
        assert "words: 25% right" in text(found)
        failed = (await client.call_tool("read_failures", {"skill": "words", "n": 3})).structured_content
        assert [(t["said"], t["kind"]) for t in failed["tasks"]] == [("wrong", "wrong value")] * 3
        scope = (await client.call_tool("read_scope")).structured_content
        assert scope["may_change"] == ["prompt.md"]
        parent = (await client.call_tool("read_parent")).structured_content["digest"]
        prompt = text(await client.call_tool("read_parent", {"path": "prompt.md"}))
        assert prompt == "manners = 0.8\nwords = 0.3\n"
        edit = "prompt.md\n<<<<<<< SEARCH\nwords = 0.3\n=======\nwords = 0.8\n>>>>>>> REPLACE\n"
        arguments = {"edits": edit, "reason": "it knows too few words", "parent": parent, "weakness": "words"}
        done = await client.call_tool("propose_change", arguments, progress_callback=heard)
        assert not done.is_error, text(done)
        assert done.structured_content["standing"] == "promoted"
        assert "the child is the champion now" in text(done)
        again = await client.call_tool("read_verdict")
        assert again.structured_content == done.structured_content
        now = await client.read_resource("upwright://champion/prompt.md")
        assert now.contents[0].text == "manners = 0.8\nwords = 0.8\n"  # type: ignore[union-attr]
        late = await client.call_tool("propose_change", {**arguments, "edits": edit.replace("0.3", "0.8")})
        assert late.is_error
        assert "now it is" in text(late), "it was made for a champion that is not any more"

    drive(stdio(project), steps)
    line = read_lineage(project)
    assert len(line.generations) == 2
    assert line.generations[1].proposal is not None
    assert line.generations[1].proposal.author == "mcp", "the client's name is on the ledger"
    assert line.generations[1].proposal.weakness == "words"
    assert (project.champion_path / "prompt.md").read_text() == "manners = 0.8\nwords = 0.8\n"
    assert any(said.startswith("evaluate") for said in progress)
    assert any(said.startswith("prove") for said in progress)
    runs.check(project)


FORBIDDEN = (
    "../.upwright/warden/keys/secret", ".upwright/warden/keys/secret", "/etc/passwd", "tasks/words.py", "charter.toml",
    "%2e%2e/charter.toml", "prompt.md/../../charter.toml", "model/../../tasks/words.py", "",
)  # fmt: skip


def test_what_it_must_not_have_is_refused(project: Project) -> None:
    secret = (project.warden / "keys" / "secret").read_bytes()
    assert secret == bytes(32)

    async def steps(client: Client) -> None:
        for path in FORBIDDEN[:-1]:
            found = await client.call_tool("read_parent", {"path": path})
            assert found.is_error, path
            assert "has no text part" in text(found)
        for path in FORBIDDEN:
            with pytest.raises(MCPError):
                await client.read_resource(f"upwright://champion/{path}")
        for uri in (f"file://{project.warden}/keys/secret", "upwright://sealed", "upwright://warden/ledger.jsonl"):
            with pytest.raises(MCPError):
                await client.read_resource(uri)
        for tool in ("promote", "approve", "rollback", "amend", "read_sealed", "read_grader", "commit"):
            found = await client.call_tool(tool, {"test": 1})
            assert found.is_error, tool
            assert "nknown tool" in text(found)
        for path in (*FORBIDDEN[:5], "model.toml", "model/config.json", "improver/../../charter.toml"):
            found = await client.call_tool("propose_change", {"reason": "?", "files": {path: "x = 1\n"}})
            assert found.is_error, path
            assert path in text(found)
        both = await client.call_tool(
            "propose_change", {"reason": "?", "files": {"prompt.md": "words = 0.9\n", "charter.toml": ""}}
        )
        assert both.is_error, "a change is taken whole or not at all"

    drive(make_server(project), steps)
    assert fates(project) == ()
    assert len(read_lineage(project).generations) == 1


def test_the_warden_s_evidence_stays_with_people(project: Project) -> None:
    """Of a test that was lost the agent hears one word: no e-value, no counts, no sealed score."""
    said: list[str] = []

    async def steps(client: Client) -> None:
        for luck in ("", f"luck = {runs.lucky().luck}\n"):
            prompt = f"manners = 0.8\nwords = 0.7\n{luck}"
            told = await client.call_tool("propose_change", {"reason": "luck", "files": {"prompt.md": prompt}})
        assert told.structured_content["decision"] == "REJECT"
        said.extend([text(told), text(await client.call_tool("read_verdict"))])
        said.append(text(await client.call_tool("read_failures")))
        said.append(str((await client.call_tool("read_failures")).structured_content))

    drive(make_server(project), steps)
    evidence = read_lineage(project).candidates[1].evidence
    assert evidence is not None
    confirmed = read_lineage(project).generations[1].score
    assert confirmed is not None
    for words in said:
        assert "REJECT" in words
        assert evidence.reason not in words
        assert str(evidence.e_value) not in words
        assert f"{100 * confirmed.mean:.1f}" not in words


def test_a_proposal_that_takes_long_is_waited_for(project: Project) -> None:
    async def steps(client: Client) -> None:
        arguments = {"reason": "more", "files": {"prompt.md": "manners = 0.8\nwords = 0.9\n"}, "wait": 0}
        first = await client.call_tool("propose_change", arguments)
        assert first.structured_content["standing"] == "under way"
        other = await client.call_tool("propose_change", arguments)
        assert other.is_error
        assert "another change is being judged" in text(other)
        assert not (await client.call_tool("read_diagnosis")).is_error, "what is known can be read meanwhile"
        last = await client.call_tool("read_verdict", {"wait": 60})
        assert last.structured_content["standing"] == "promoted"
        again = await client.call_tool("propose_change", {**arguments, "wait": 60})
        assert again.structured_content == last.structured_content, "told again it says what became of it"

    drive(make_server(project), steps)


def test_a_person_agrees_meanwhile(tmp_path: Path) -> None:
    project = runs.make(tmp_path / "demo", FREE, ("[protected", 'oversight = "approve"\n[protected'))
    arguments = {"reason": "more", "files": {"prompt.md": "manners = 0.8\nwords = 0.9\n"}}

    async def steps(client: Client) -> None:
        done = await client.call_tool("propose_change", arguments)
        assert done.structured_content["standing"] == "waits for a person"
        assert (await client.call_tool("read_verdict")).structured_content["standing"] == "waits for a person"
        with Door.open(project.warden) as door:
            door.approve(1, "Ada")
        assert (await client.call_tool("read_verdict")).structured_content["standing"] == "under way"
        again = await client.call_tool("propose_change", arguments)
        assert again.structured_content["standing"] == "promoted"

    drive(make_server(project), steps)


def test_a_client_that_leaves_loses_nothing(project: Project) -> None:
    arguments = {"reason": "more", "files": {"prompt.md": "manners = 0.8\nwords = 0.9\n"}}

    async def leaves(client: Client) -> None:
        await client.call_tool("propose_change", {**arguments, "wait": 0})

    async def returns(client: Client) -> None:
        done = await client.call_tool("propose_change", {**arguments, "wait": 60})
        assert done.structured_content["standing"] == "promoted"

    drive(make_server(project), leaves)
    drive(make_server(project), returns)
    assert len(read_lineage(project).candidates) == 1
    runs.check(project)
