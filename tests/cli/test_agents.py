from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import runs
from cli.conftest import Cli
from upwright.lineage import read_lineage
from upwright.project import Project

BETTER = "manners = 0.8\nwords = 0.9\n"
EDIT = "prompt.md\n<<<<<<< SEARCH\nwords = 0.3\n=======\nwords = 0.9\n>>>>>>> REPLACE\n"
DIFF = "--- a/prompt.md\n+++ b/prompt.md\n@@ -1,2 +1,2 @@\n manners = 0.8\n-words = 0.3\n+words = 0.9\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return runs.copy(tmp_path / "demo").root


def test_ask(cli: Cli, root: Path) -> None:
    said = cli("ask", project=root)
    assert said.code == 0, said.err
    for text in (
        "# The champion: generation 0",
        "words: 25% right",
        "# Practice tasks that it failed on",
        "nothing yet",
    ):
        assert text in said.out
    assert "manners = 0.8" not in said.out
    assert "manners = 0.8\nwords = 0.3" in cli("ask", "--full", "--look", project=root).out
    data = cli("ask", "--json", project=root)
    assert (data.json["schema"], data.json["command"], data.json["generation"]) == (1, "ask", 0)
    assert data.json["diagnosis"]["weaknesses"][0]["skill"] == "words"
    assert "text" not in data.json["parts"][0]
    assert "text" in cli("ask", "--json", "--full", project=root).json["parts"][0]


@pytest.mark.parametrize("how", ["edits", "diff", "part", "named", "folder", "stdin", "json"])
def test_every_way_to_tell(how: str, cli: Cli, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "edits.txt").write_text(EDIT)
    (tmp_path / "my.diff").write_text(DIFF)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "prompt.md").write_text(BETTER)
    (tmp_path / "whole.json").write_text(json.dumps({"prompt.md": BETTER}))
    monkeypatch.setattr(sys, "stdin", io.StringIO(EDIT))
    given = {
        "edits": ["--edits", tmp_path / "edits.txt"], "diff": ["--diff", tmp_path / "my.diff"],
        "part": ["--part", f"prompt.md={tmp_path}/mine/prompt.md"], "named": [tmp_path / "mine" / "prompt.md"],
        "folder": [tmp_path / "mine"], "stdin": ["-"], "json": [tmp_path / "whole.json"],
    }[how]  # fmt: skip
    said = cli("tell", *given, "--reason", "more words", "--author", "ada-agent", "--weakness", "words", project=root)
    assert said.code == 0, said.err
    assert "promoted: the child is the champion now" in said.out
    made = read_lineage(Project.open(root)).generations[1]
    assert made.proposal is not None
    assert (made.proposal.author, made.proposal.weakness, made.reason) == ("ada-agent", "words", "more words")
    assert (root / "champion" / "prompt.md").read_text() == BETTER


def test_exit_codes(cli: Cli, root: Path, tmp_path: Path) -> None:
    def tell(text: str, *more: str) -> int:
        (tmp_path / "prompt.md").write_text(text)
        return cli("tell", tmp_path / "prompt.md", *more, project=root).code

    assert tell("manners = 0.8\nwords = 0.1\n") == 10
    assert tell("manners = 0.8\nwords = 0.3\n") == 2, "it changes nothing"
    assert tell(EDIT.replace("0.3", "0.4")) == 5, "it does not apply"
    assert tell(BETTER, "--parent", "feed") == 2
    assert cli("tell", project=root).code == 2
    assert cli("tell", tmp_path / "prompt.md", "--part", "a=b", project=root).code == 2
    assert cli("tell", tmp_path / "gone.md", project=root).code == 2
    said = cli("tell", "--part", f"charter.toml={tmp_path}/prompt.md", project=root)
    assert said.code == 2
    assert "charter.toml" in said.err
    assert "may_change allows: prompt.md" in said.err
    data = cli("tell", tmp_path / "prompt.md", "--json", project=root)
    assert (data.code, data.json["standing"], data.json["decision"]) == (0, "promoted", "PROMOTE")
    assert data.json["words"].startswith("promoted")


def test_waiting_for_a_person(cli: Cli, tmp_path: Path) -> None:
    root = runs.make(tmp_path / "demo", ("[protected", 'oversight = "approve"\n[protected')).root
    (tmp_path / "prompt.md").write_text(BETTER)
    said = cli("tell", tmp_path / "prompt.md", project=root)
    assert said.code == 11
    assert "`upwright approve 1`" in said.out
    assert cli("approve", "1", "--by", "Ada", project=root).code == 0
    assert cli("tell", tmp_path / "prompt.md", project=root).code == 0


def test_an_interrupted_tell_goes_on(cli: Cli, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from upwright.runner import Runner

    (tmp_path / "prompt.md").write_text(BETTER)
    with monkeypatch.context() as patch:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(Runner, "screen", interrupt)
        said = cli("tell", tmp_path / "prompt.md", project=root)
    assert said.code == 130
    assert "nothing is lost" in said.err
    assert cli("tell", tmp_path / "prompt.md", project=root).code == 0


def test_init_writes_the_guide(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text((runs.template() / "tasks" / "words.py").read_text())
    model = "http://127.0.0.1:1/v1#none"
    said = cli("init", tmp_path / "demo", "--model", model, "--tasks", tmp_path / "words.py", "--agent")
    assert said.code == 0, said.err
    assert "AGENTS.md" in said.out
    text = (tmp_path / "demo" / "AGENTS.md").read_text()
    assert "objective" not in text
    assert "`words`" in text
    (tmp_path / "demo" / "AGENTS.md").unlink()
    again = cli("init", tmp_path / "demo", "--agent", "--json")
    assert again.json["files"] == ["AGENTS.md"]
    assert (tmp_path / "demo" / "AGENTS.md").read_text() == text
    without = cli("init", tmp_path / "plain", "--model", model, "--tasks", tmp_path / "words.py")
    assert without.code == 0
    assert not (tmp_path / "plain" / "AGENTS.md").exists()


def test_mcp_configuration(cli: Cli, root: Path) -> None:
    server = json.loads(cli("mcp", "--config", project=root).out)["mcpServers"]["upwright"]
    assert server["args"][-1] == "mcp"
    assert cli("mcp", "--json", project=root).json["command"] == "mcp"


def test_mcp_without_the_sdk(cli: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mcp" else find(name))
    said = cli("mcp", project=root)
    assert said.code == 3
    assert "pip install 'upwright[agents]'" in said.err
