"""A question in plain language, with a model on loopback that says what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import runs
from cli.conftest import Cli
from upwright.errors import ModelError, ProjectError, RuntimeFailure
from upwright.experiments.kept import results
from upwright.experiments.plain import planned
from upwright.project import Project

GOOD = """Here is the experiment.

```toml
question = "Do more words help?"
tasks = 20
repeats = 1

[[arms]]
name = "as it is"

[[arms]]
name = "more words"
files = { "prompt.md" = "manners = 0.8\\nwords = 0.9\\n" }
```

It compares two prompts.
"""
BAD = GOOD.replace("tasks = 20", "task = 20")


class Model:
    """An OpenAI-compatible endpoint that gives the next of its replies, and remembers what it was asked."""

    def __init__(self) -> None:
        self.replies: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                model.asked.append(json.loads(self.rfile.read(length)))
                model.keys.append(self.headers.get("authorization"))
                message = {"role": "assistant", "content": model.replies.pop(0)}
                answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}}
                body = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1#coder"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self, number: int = -1) -> str:
        return "\n".join(m["content"] for m in self.asked[number]["messages"])


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return runs.copy(tmp_path / "demo")


def test_a_question_becomes_a_plan(project: Project, model: Model) -> None:
    model.replies = [GOOD]
    text, plan = planned(project, "Do more words help?", model.url)
    assert text.startswith('question = "Do more words help?"')
    assert [arm.name for arm in plan.arms] == ["as it is", "more words"]
    told = model.told()
    for fact in ("Do more words help?", "manners = 0.8\nwords = 0.3", "- words: words", "samples = 1", "[[arms]]"):
        assert fact in told
    assert "secret" not in told
    assert "def generate" not in told, "a suite's source stays where it is"
    assert 'runtime = "puppet"' not in told
    assert model.asked[0]["model"] == "coder"
    assert model.keys == [None]


def test_what_is_wrong_is_sent_back_once(project: Project, model: Model) -> None:
    model.replies = [BAD, GOOD]
    assert planned(project, "?", model.url)[1].tasks == 20
    assert "unknown key (got 'task')" in model.told()
    model.replies = [BAD, "I cannot do that."]
    with pytest.raises(ProjectError, match="wrote nothing that can be run"):
        planned(project, "?", model.url)
    assert not model.replies


def test_the_key_is_taken_from_the_environment(project: Project, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    model.replies = [GOOD]
    text, _ = planned(project, "?", model.url, "MY_KEY")
    assert model.keys == ["Bearer s3cret"]
    assert "s3cret" not in text + model.told()
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(ModelError, match="key is not set"):
        planned(project, "?", model.url, "MY_KEY")


def test_the_judge_of_the_project_is_the_model(project: Project, model: Model) -> None:
    judge = project.root / "judge"
    judge.mkdir()
    url, _, name = model.url.partition("#")
    (judge / "model.toml").write_text(f'url = "{url}"\nmodel = "{name}"\n')
    runs.edit(project.root, ("[run]", 'judge = "judge"\n[run]'))
    model.replies = [GOOD]
    assert planned(Project.open(project.root), "?")[1].tasks == 20


def test_without_a_model_the_way_by_toml_is_told(project: Project) -> None:
    with pytest.raises(ProjectError, match="none is configured") as caught:
        planned(project, "Does it help?")
    assert "upwright experiment --new my.toml" in caught.value.todo
    assert "--endpoint" in caught.value.todo


def test_what_is_no_endpoint(project: Project, tmp_path: Path) -> None:
    with pytest.raises((ModelError, ProjectError)):
        planned(project, "?", str(tmp_path))
    with pytest.raises(RuntimeFailure, match="nothing answers at the endpoint"):
        planned(project, "?", "http://127.0.0.1:9/v1#none")


# ---- the command ------------------------------------------------------------------------------------


def test_the_plan_is_shown_and_confirmed(
    cli: Cli,
    project: Project,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask(answer: bool, *more: str) -> Any:
        model.replies = [GOOD]
        monkeypatch.setattr("typer.confirm", lambda *_: answer)
        return cli("experiment", "Do more words help?", "--endpoint", model.url, *more, project=project.root)

    no = ask(False)
    assert no.code == 0, no.err
    assert '[[arms]]\nname = "more words"' in no.out
    assert "not run" in no.out
    assert results(project) == ()
    shown = ask(False, "--json")
    assert (shown.json["ran"], "[[arms]]" in shown.json["plan"]) == (False, True)
    yes = ask(True)
    assert "Yes: 'more words' does better" in yes.out
    assert "[[arms]]" in yes.out, "it is shown first"
    assert len(results(project)) == 1


def test_yes_asks_nobody(
    cli: Cli,
    project: Project,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> bool:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("typer.confirm", refuse)
    model.replies = [GOOD]
    said = cli("experiment", "Do more words help?", "--endpoint", model.url, "--yes", "--json", project=project.root)
    assert said.code == 0, said.err
    assert said.json["result"]["findings"][1]["says"] == "helps"
