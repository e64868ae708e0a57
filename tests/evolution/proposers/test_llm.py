from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from upwright.bodies.runtimes.base import Completion, Progress, Request, Runtime
from upwright.bodies.runtimes.openai import Endpoint
from upwright.errors import BuildError, ModelError
from upwright.evolution.proposers.base import Brief, Proposer, Result
from upwright.evolution.proposers.llm import LanguageModels, connected, endpoint_of
from upwright.evolution.records import program_digest
from upwright.records import Finish

TEXT = "# EVOLVE-BLOCK-START\ndef run():\n    return 1\n# EVOLVE-BLOCK-END\nLAST = 5\n"
GOOD = "Return more.\n\n<<<<<<< SEARCH\n    return 1\n=======\n    return {}\n>>>>>>> REPLACE\n"
NOWHERE = "<<<<<<< SEARCH\n    return 7\n=======\n    return 2\n>>>>>>> REPLACE\n"
OUTSIDE = "<<<<<<< SEARCH\nLAST = 5\n=======\nLAST = 6\n>>>>>>> REPLACE\n"


class Mock:
    """An endpoint on loopback: ``reply(request, number)`` is the text that it answers, or a status to refuse with."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.reply: Callable[[dict[str, Any], int], str | int] = lambda request, number: GOOD.format(number + 2)
        lock, mock = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(mock.asked)
                    mock.asked.append(request)
                    mock.keys.append(self.headers.get("Authorization", ""))
                said = mock.reply(request, number)
                choice = {"message": {"content": said}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 1000, "completion_tokens": 100}
                data = json.dumps(
                    {"choices": [choice], "usage": usage} if isinstance(said, str) else {"error": {"message": "no"}}
                )
                self.send_response(said if isinstance(said, int) else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Fake:
    """An endpoint without a wire: every reply is another good one."""

    name, trainable = "fake", False

    def __init__(self, endpoint: Endpoint, asked: list[str]) -> None:
        self.endpoint, self.asked = endpoint, asked

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        found = []
        for request in requests:
            self.asked.append(self.endpoint.model)
            money = (1000 * self.endpoint.price_in + 100 * self.endpoint.price_out) / 1e6
            text = GOOD.format(len(self.asked) + 1)
            found.append([Completion(text, Finish.STOP, 1000, 100, None, 1.0, money)] * request.n)
        return found

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


@pytest.fixture
def mock() -> Iterator[Mock]:
    server = Mock()
    yield server
    server.close()


def test_it_is_a_proposer(mock: Mock) -> None:
    assert isinstance(LanguageModels([f"{mock.url}#m"]), Proposer)


def test_replies_become_drafts(mock: Mock, brief: Callable[..., Brief]) -> None:
    proposer = LanguageModels([f"{mock.url}#m?price_in=2&price_out=10"])
    asked = brief(TEXT)
    drafts = proposer.propose(asked)
    assert {d.program["program.py"] for d in drafts} == {TEXT.replace("1", "2"), TEXT.replace("1", "3")}
    for draft in drafts:
        assert draft.note == f"m at {mock.url}: Return more."
        assert draft.parents == (asked.parent.digest,)
    assert TEXT in mock.asked[0]["messages"][-1]["content"]
    assert mock.asked[0]["seed"] != mock.asked[1]["seed"]
    (account,) = proposer.accounts.values()
    assert (account.replies, account.drafts, account.read, account.written) == (2, 2, 2000, 200)
    assert account.money == pytest.approx((2000 * 2 + 200 * 10) / 1e6)


@pytest.mark.parametrize(
    ("wrong", "why"), [(NOWHERE, "nowhere"), (OUTSIDE, "nothing may change"), ("I would rather not.", "")]
)
def test_what_cannot_be_applied_goes_back_once_with_the_reason(
    mock: Mock, brief: Callable[..., Brief], wrong: str, why: str
) -> None:
    mock.reply = lambda request, number: wrong if len(request["messages"]) == 2 else GOOD.format(9)
    proposer = LanguageModels([f"{mock.url}#m"])
    (draft,) = proposer.propose(brief(TEXT, n=1))
    assert "return 9" in draft.program["program.py"]
    assert mock.asked[1]["messages"][2] == {"role": "assistant", "content": wrong}
    assert why in mock.asked[1]["messages"][3]["content"]
    (account,) = proposer.accounts.values()
    assert (account.sent_back, account.refused, account.drafts) == (1, 0, 1)


def test_what_is_refused_twice_is_counted_and_told_next_time(mock: Mock, brief: Callable[..., Brief]) -> None:
    mock.reply = lambda request, number: NOWHERE
    proposer = LanguageModels([f"{mock.url}#m"])
    assert proposer.propose(brief(TEXT, n=1)) == []
    assert len(mock.asked) == 2
    (account,) = proposer.accounts.values()
    assert (account.sent_back, account.refused, account.drafts) == (1, 1, 0)
    proposer.propose(brief(TEXT, n=1))
    assert "its lines are nowhere" in mock.asked[2]["messages"][-1]["content"]


def faked(*endpoints: str) -> tuple[LanguageModels, list[str]]:
    """A proposer whose endpoints are fakes, and the models that were asked, in order."""
    asked: list[str] = []
    return LanguageModels([f"http://x/v1#{e}" for e in endpoints], lambda endpoint: Fake(endpoint, asked)), asked


def teach(proposer: LanguageModels, brief: Callable[..., Brief], better: Callable[[str], bool], asks: int) -> None:
    """Ask, and let the drafts that ``better`` is true of be better than their parent."""
    for seed in range(asks):
        for draft in proposer.propose(brief(TEXT, seed=seed, n=1)):
            proposer.told(draft, Result(0.9 if better(draft.note) else 0.2))


def test_who_gains_more_is_asked_more(brief: Callable[..., Brief]) -> None:
    proposer, models = faked("good", "bad")
    teach(proposer, brief, lambda note: note.startswith("good"), 80)
    assert models[40:].count("good") > 2 * models[40:].count("bad")
    accounts = proposer.accounts
    assert accounts["good at http://x/v1"].gains == models.count("good")
    assert accounts["bad at http://x/v1"].gains == 0


def test_of_two_that_gain_alike_the_cheaper_is_asked_more(brief: Callable[..., Brief]) -> None:
    proposer, models = faked("dear?price_in=30&price_out=30", "cheap")
    teach(proposer, brief, lambda note: True, 60)
    assert models[20:].count("cheap") > 2 * models[20:].count("dear")


def test_an_endpoint_that_is_gone_rests_and_ends_nothing(mock: Mock, brief: Callable[..., Brief]) -> None:
    gone = Mock()
    gone.close()
    proposer = LanguageModels([f"{gone.url}#gone?retries=0", f"{mock.url}#here"])
    for seed in range(5):
        proposer.propose(brief(TEXT, seed=seed, n=1))
    accounts = proposer.accounts
    assert accounts[f"here at {mock.url}"].drafts >= 2
    assert "nothing answers" in accounts[f"gone at {gone.url}"].trouble or not accounts[f"gone at {gone.url}"].replies
    alone = LanguageModels([f"{gone.url}#gone?retries=0"])
    assert alone.propose(brief(TEXT)) == []


def test_a_refusing_endpoint_is_on_its_account(mock: Mock, brief: Callable[..., Brief]) -> None:
    mock.reply = lambda request, number: 400
    proposer = LanguageModels([f"{mock.url}#m"])
    assert proposer.propose(brief(TEXT, n=1)) == []
    (account,) = proposer.accounts.values()
    assert (account.replies, account.lost) == (1, 1)
    assert "400" in account.trouble


def test_the_key_is_sent_and_never_written(
    mock: Mock, brief: Callable[..., Brief], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{mock.url}#m?api_key_env=A_KEY_OF_NOBODY"
    monkeypatch.delenv("A_KEY_OF_NOBODY", raising=False)
    with pytest.raises(ModelError, match="A_KEY_OF_NOBODY"):
        LanguageModels([text])
    monkeypatch.setenv("A_KEY_OF_NOBODY", "sesame")
    drafts = LanguageModels([text]).propose(brief(TEXT, n=1))
    assert mock.keys == ["Bearer sesame"]
    assert "sesame" not in repr(drafts)


def test_what_was_told_before_an_interruption_counts(brief: Callable[..., Brief]) -> None:
    first, _ = faked("good", "bad")
    (start,) = first.propose(brief(TEXT, n=1))
    again, models = faked("good", "bad")
    again.told(replace(start, note="good at http://x/v1: x"), Result(0.3))
    digest = program_digest(start.program)
    for number in range(30):
        for name, score in (("good", 0.6), ("bad", None)):
            program = {"program.py": f"{name} = {number}\n"}
            again.told(
                replace(start, program=program, parents=(digest,), note=f"{name} at http://x/v1: x"), Result(score)
            )
    teach(again, brief, lambda note: note.startswith("good"), 10)
    assert models.count("good") >= 9


@pytest.mark.parametrize(
    "text", ["http://x/v1", "qwen", "#qwen", "http://x/v1#", "http://x/v1#m?nonsense=1", "http://x/v1#m?price_in=much"]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(BuildError):
        endpoint_of(text)


def test_settings_of_an_endpoint_are_read() -> None:
    found = endpoint_of("https://x/v1#a/b?api_key_env=K&price_in=0.5&price_out=1.5&timeout=20&context=4000")
    assert (found.url, found.model, found.api_key_env) == ("https://x/v1", "a/b", "K")
    assert (found.price_in, found.price_out, found.timeout, found.context) == (0.5, 1.5, 20.0, 4000)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(BuildError, match="each once"):
        LanguageModels(["http://x/v1#m", "http://x/v1#m"])


def test_how_endpoints_are_asked_can_be_given() -> None:
    seen: list[Endpoint] = []

    def connect(endpoint: Endpoint) -> Runtime:
        seen.append(endpoint)
        return connected(endpoint)

    LanguageModels(["http://127.0.0.1:9/v1#m"], connect)
    assert [e.model for e in seen] == ["m"]
