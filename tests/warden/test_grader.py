import http.server
import json
import math
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.warden.errors import GraderError
from upwright.warden.grader import KEYS, MAX_TEXT, check, first_json, grade, numbers, validate


@pytest.mark.parametrize(
    ("spec", "text", "answer", "score"),
    [
        ({"kind": "exact"}, " yes \n", "yes", 1),
        ({"kind": "exact"}, "Yes", "yes", 0),
        ({"kind": "exact"}, "b", ["a", "b"], 1),
        ({"kind": "exact"}, "7", 7, 1),
        ({"kind": "text"}, " The  QUICK, brown—fox! ", "the quick brown fox", 1),
        ({"kind": "text"}, "ﬁne", "fine", 1),
        ({"kind": "text"}, "fine not", "fine", 0),
        ({"kind": "number"}, "first 3, so the total is 1,234.50.", 1234.5, 1),
        ({"kind": "number"}, "−3", -3, 1),
        ({"kind": "number"}, "5-3 is 2", 2, 1),
        ({"kind": "number"}, "1e3", "1000", 1),
        ({"kind": "number"}, "0.1", 0.1, 1),
        ({"kind": "number"}, "none", 3, 0),
        ({"kind": "number", "tolerance": 0.01}, "3.14", math.pi, 1),
        ({"kind": "number", "tolerance": 0.001}, "3.14", math.pi, 0),
        ({"kind": "number", "relative": 0.1}, "109", 100, 1),
        ({"kind": "number", "take": "only"}, "3 or 4", 4, 0),
        ({"kind": "regex", "pattern": "a+b"}, "xaab", None, 1),
        ({"kind": "regex", "pattern": "a+b"}, "x", None, 0),
        ({"kind": "regex", "pattern": "it is (\\w+)", "group": 1}, "it is Red", "red", 1),
        ({"kind": "regex", "pattern": "it is (?P<c>\\w+)", "group": "c"}, "it is blue", "red", 0),
        ({"kind": "json"}, 'Sure: {"b": [1, 2.0], "a": true}', {"a": True, "b": [1.0, 2]}, 1),
        ({"kind": "json"}, '{"a": 1}', {"a": True}, 0),
        ({"kind": "json"}, '{"a": 1}', '{"a": 1.0}', 1),
        ({"kind": "json"}, "nothing here [", {"a": 1}, 0),
        ({"kind": "json", "partial": True}, '{"a": 1, "b": 3}', {"a": 1, "b": 2}, 0.5),
        ({"kind": "json", "partial": True}, '{"a": 1, "b": 2, "c": 3, "d": 4}', {"a": 1, "b": 2}, 0.5),
        ({"kind": "json", "partial": True}, "[1]", {"a": 1}, 0),
        ({"kind": "choice"}, "The answer is (B).", "B", 1),
        ({"kind": "choice"}, "b", "B", 1),
        ({"kind": "choice"}, "C) because A is wrong", "C", 1),
        ({"kind": "choice"}, "(A) or (B)", "A", 0),
        ({"kind": "choice", "options": ["red", "green"]}, "Green!", "B", 1),
        ({"kind": "choice", "options": ["red", "green"]}, "A", "red", 1),
        ({"kind": "choice", "options": ["red", "green"]}, "(Z)", "red", 0),
    ],
)
def test_scores(spec, text, answer, score):
    assert grade(spec, text, answer) == score


@given(st.text(max_size=200), st.sampled_from(sorted(KEYS.keys() - {"python", "program", "judge"})))
def test_any_text_gets_a_score(text, kind):
    spec = {"kind": kind, **({"pattern": "x(.*)y"} if kind == "regex" else {})}
    gold = {"number": 3, "choice": "A", "json": {"a": 1}}.get(kind, "gold")
    assert 0 <= grade(spec, text, gold) <= 1


@given(st.integers(-(10**15), 10**15))
def test_numbers_survive_their_formats(n):
    assert numbers(f"so {n:,} it is")[-1] == n
    assert grade({"kind": "number"}, str(n), n) == 1


@pytest.mark.parametrize(
    ("spec", "text", "good"),
    [
        ({"kind": "regex", "pattern": "[0-9]+"}, " 12\n", True),
        ({"kind": "regex", "pattern": "[0-9]+"}, "12a", False),
        ({"kind": "number"}, "1,200", True),
        ({"kind": "number"}, "12 apples", False),
        ({"kind": "number"}, "-", False),
        ({"kind": "choice", "options": ["yes", "no"]}, "YES.", True),
        ({"kind": "choice"}, "AB", False),
        ({"kind": "json_keys", "keys": ["a"]}, 'x {"a": 1}', True),
        ({"kind": "json_keys", "keys": ["a", "b"]}, '{"a": 1}', False),
        ({"kind": "json_keys", "keys": ["a"]}, "[]", False),
    ],
)
def test_checks_need_no_answer(spec, text, good):
    assert check(spec, text) is good


@pytest.mark.parametrize(
    "spec",
    [
        {}, {"kind": "magic"}, "exact", {"kind": "exact", "x": 1}, {"kind": "regex"}, {"kind": "regex", "pattern": "("},
        {"kind": "number", "tolerance": -1}, {"kind": "number", "take": "first"}, {"kind": "choice", "options": []},
        {"kind": "json", "partial": 1}, {"kind": "judge"}, {"kind": "judge", "url": "file:///etc/passwd"},
    ],
)  # fmt: skip
def test_malformed_specs_are_refused(spec):
    with pytest.raises(GraderError):
        validate(spec)


def test_a_public_check_cannot_need_an_answer():
    with pytest.raises(GraderError, match="known kind"):
        validate({"kind": "exact"}, check_only=True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1, True, "1", None, type("F", (float,), {})(0.5)])
def test_a_scorer_that_returns_nonsense_is_no_score(value):
    with pytest.raises(GraderError):
        grade({"kind": "python"}, "x", None, {}, lambda text, task: value)


def test_a_python_scorer():
    assert grade({"kind": "python"}, "x", None, {"answer": "x"}, lambda text, task: int(text == task["answer"])) == 1
    with pytest.raises(GraderError, match="no score"):
        grade({"kind": "python"}, "x", None)

    def broken(text, task):
        raise KeyError("gone")

    with pytest.raises(GraderError, match="KeyError"):
        grade({"kind": "python"}, "x", None, {}, broken)


def test_a_broken_answer_is_no_score():
    for spec, gold in (({"kind": "number"}, "none"), ({"kind": "choice"}, "?"), ({"kind": "number"}, True)):
        with pytest.raises(GraderError):
            grade(spec, "3", gold)
    with pytest.raises(GraderError, match="group"):
        grade({"kind": "regex", "pattern": "x", "group": 3}, "x", "x")


def test_hostile_texts_end_in_time():
    with pytest.raises(GraderError, match="too long"):
        grade({"kind": "regex", "pattern": "x"}, "a" * (MAX_TEXT + 1), None)
    with pytest.raises(GraderError, match="took longer"):
        grade({"kind": "regex", "pattern": "(a+)+$"}, "a" * 40 + "b", None)
    assert signal.getitimer(signal.ITIMER_REAL)[0] >= 0
    assert first_json("[" * 100_000) is None
    assert grade({"kind": "number"}, "1" * 100_000, 1) == 0
    assert grade({"kind": "number"}, "1,111" * 20_000, 1) == 0
    assert grade({"kind": "choice"}, "(" * 100_000, "A") == 0


class Judge(http.server.BaseHTTPRequestHandler):
    replies: list[str] = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        content = self.replies.pop(0) if self.replies else "?"
        data = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def judge_url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_judge(judge_url):
    spec = {"kind": "judge", "url": judge_url, "model": "m", "rubric": "r", "retries": 1}
    Judge.replies = ['{"score": 0.75}']
    assert grade(spec, "text", "gold", {"input": "q"}) == 0.75
    Judge.replies = ["hm", 'Fine: {"score": 1}']
    assert grade(spec, "text", "gold") == 1
    for bad in (["no", "no"], ['{"score": 2}'] * 2, ['{"score": true}'] * 2, ['{"score": 1} {"score": 0}'] * 2):
        Judge.replies = list(bad)
        with pytest.raises(GraderError, match="no usable score"):
            grade(spec, "text", "gold")


def test_an_unreachable_judge_is_no_score():
    with pytest.raises(GraderError, match="no usable score"):
        grade({"kind": "judge", "url": "http://127.0.0.1:9/v1", "retries": 0}, "t", "g")
