from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Message, Request
from upwright.bodies.runtimes.openai import OpenAIRuntime
from upwright.errors import BodyError, ModelError, RuntimeFailure, Stopped
from upwright.records import FailureKind, Finish
from upwright.testing.runtimes import RuntimeContract

SERVER = """
import os, sys, threading
os.environ["OMP_WAIT_POLICY"] = "passive"
import xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.port, p.verbosity, p.warmup = sys.argv[1], 2048, 1, 0, -1, False
p.hostnames = ["127.0.0.1"]
p.cache_ram_mib = 0
p.cache_prompt = False
s = xllamacpp.Server(p)
print("AT", s.listening_address, flush=True)
threading.Timer(240, lambda: os._exit(1)).start()
sys.stdin.read()
os._exit(0)
"""


@pytest.fixture(scope="module")
def llama_url(smol_gguf):
    """A real OpenAI-compatible server: llama.cpp's, in another process."""
    command = [sys.executable, "-c", SERVER, str(smol_gguf)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("AT "):
                break
        else:
            pytest.fail("the server did not start")
        yield line.split()[1] + "/v1"
        process.communicate("", timeout=20)


def write(root, **settings) -> Body:
    lines = [f"{k} = {json.dumps(v)}" for k, v in settings.items()]
    root.mkdir(exist_ok=True)
    (root / "model.toml").write_text("\n".join(lines))
    return Body(root)


class TestContractAgainstLlamaCpp(RuntimeContract):
    tokens = 4

    @pytest.fixture(scope="class")
    @classmethod
    def runtime(cls, llama_url, tmp_path_factory):
        return OpenAIRuntime(write(tmp_path_factory.mktemp("endpoint"), url=llama_url, model="smol", concurrency=1))


def test_a_real_server_gives_logprobs_and_usage(llama_url, tmp_path):
    runtime = OpenAIRuntime(write(tmp_path, url=llama_url, model="smol", price_in=1.0, price_out=2.0))
    ((said,),) = runtime.generate([ask("Say hi.", max_tokens=3)])
    assert said.finish is Finish.LENGTH
    assert said.completion_tokens == 3
    assert said.logprob < 0
    assert said.money == pytest.approx((said.prompt_tokens + 2 * 3) / 1e6)
    ((long,),) = runtime.generate([ask("word " * 3000)])
    assert long.failure.kind is FailureKind.CRASH
    assert "context" in long.failure.message


def ask(text, **settings):
    return Request((Message("user", text),), **settings)


def reply(text="fine", finish="stop", **message):
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return 200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}})


class Misbehaving:
    """An HTTP server that answers from a script, one entry a request, the last one for ever."""

    def __init__(self):
        self.script, self.seen, self.headers, self.times = [reply()], [], [], []
        self.flying = self.most = 0
        self.delay = 0.0
        lock, outer = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    outer.seen.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.times.append(time.monotonic())
                    outer.flying += 1
                    outer.most = max(outer.most, outer.flying)
                    entry = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                status, text, *extra = entry(body) if callable(entry) else entry
                time.sleep(extra[1] if len(extra) > 1 else outer.delay)
                with lock:
                    outer.flying -= 1
                try:
                    self.send_response(status)
                    for key, value in (extra[0] if extra else {}).items():
                        self.send_header(key, value)
                    self.send_header("content-length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()


@pytest.fixture
def server():
    s = Misbehaving()
    yield s
    s.server.shutdown()
    s.thread.join()
    s.server.server_close()


@pytest.fixture
def runtime(server, tmp_path):
    return OpenAIRuntime(write(tmp_path, url=server.url, model="m", timeout=0.5, retries=2), backoff=0.01)


@pytest.mark.parametrize("bad", [(500, "oops"), (503, ""), (200, "not json"), (200, "{}"), (200, '{"choices": []}')])
def test_passing_trouble_is_retried(server, runtime, bad):
    server.script = [bad, bad, reply()]
    ((said,),) = runtime.generate([ask("hello")])
    assert said.text == "fine"
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    "bad", [(500, "oops"), (429, "slow down"), (200, "not json"), (200, "[]"), (200, '{"choices": 3}')]
)
def test_lasting_trouble_is_an_infrastructure_failure(server, runtime, bad):
    server.script = [bad]
    ((said,),) = runtime.generate([ask("hello")])
    assert said.failure.kind is FailureKind.INFRASTRUCTURE
    assert said.finish is None
    assert len(server.seen) == 3


def test_retry_after_is_honoured(server, runtime):
    server.script = [(429, "", {"retry-after": "1"}), reply()]
    runtime.generate([ask("hello")])
    assert server.times[1] - server.times[0] >= 1.0


def test_a_slow_answer_times_out(server, runtime):
    server.script = [(*reply(), {}, 1.0)]
    ((said,),) = runtime.generate([ask("hello")])
    assert said.failure.kind is FailureKind.TIMEOUT
    assert "0.5 s" in said.failure.message


@pytest.mark.parametrize(
    "entry",
    [
        reply("", "content_filter"),
        reply(None, "stop", refusal="I cannot help with that"),
        (400, '{"error": {"code": "content_filter", "message": "filtered"}}'),
    ],
)
def test_refusals_are_failures_and_not_retried(server, runtime, entry):
    server.script = [entry]
    ((said,),) = runtime.generate([ask("hello")])
    assert said.failure.kind is FailureKind.REFUSAL
    assert len(server.seen) == 1


def test_one_failure_leaves_the_others(server, runtime):
    server.script = [lambda body: (400, "bad prompt") if "bad" in str(body) else reply()]
    results = runtime.generate([ask("good"), ask("bad"), ask("good", n=2)])
    assert [[c.failure and c.failure.kind for c in found] for found in results] == [
        [None],
        [FailureKind.CRASH],
        [None, None],
    ]


def test_optional_keys_are_dropped_when_refused(server, runtime):
    def strict(body):
        if "logprobs" in body:
            return 400, '{"error": {"message": "logprobs is not supported"}}'
        if "max_tokens" in body:
            return 400, '{"error": {"message": "use max_completion_tokens instead"}}'
        return reply()

    server.script = [strict]
    results = runtime.generate([ask("hello", n=3, temperature=1.0, max_tokens=9)])
    assert [(c.text, c.logprob) for c in results[0]] == [("fine", None)] * 3
    assert server.seen[-1]["max_completion_tokens"] == 9


def test_concurrency_is_bounded_and_seeds_differ(server, tmp_path):
    server.delay = 0.05
    runtime = OpenAIRuntime(write(tmp_path, url=server.url, model="m", concurrency=3))
    runtime.generate([ask("hello", n=9, temperature=1.0)])
    assert 1 < server.most <= 3
    assert len({body["seed"] for body in server.seen}) == 9


@pytest.mark.parametrize(("status", "word"), [(401, "key"), (403, "key"), (404, "model")])
def test_a_wrong_key_or_model_stops_everything(server, runtime, status, word):
    server.script = [(status, "no")]
    with pytest.raises(RuntimeFailure, match=word):
        runtime.generate([ask("hello")] * 20)


def test_nothing_there_is_a_runtime_failure(tmp_path):
    runtime = OpenAIRuntime(write(tmp_path, url="http://127.0.0.1:9/v1", model="m", retries=1), backoff=0.01)
    with pytest.raises(RuntimeFailure, match="nothing answers"):
        runtime.generate([ask("hello")] * 50)


def test_the_key_is_sent_and_never_shown(server, tmp_path, monkeypatch):
    body = write(tmp_path, url=server.url, model="m", api_key_env="TEST_KEY", retries=0)
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(ModelError, match="TEST_KEY"):
        OpenAIRuntime(body)
    monkeypatch.setenv("TEST_KEY", "s3cret-value")
    runtime = OpenAIRuntime(body)
    server.script = [(500, "your key s3cret-value is bad")]
    ((said,),) = runtime.generate([ask("hello")])
    assert server.headers[0]["Authorization"] == "Bearer s3cret-value"
    assert "s3cret" not in said.failure.message + json.dumps(runtime.describe()) + repr(runtime.endpoint)


def test_a_stop_request_in_progress_cancels_the_rest(server, runtime):
    server.delay = 0.1

    def stop(done, total):
        raise Stopped("enough")

    with pytest.raises(Stopped):
        runtime.generate([ask("hello")] * 100, stop)
    assert len(server.seen) < 40


def test_it_works_inside_a_running_loop(runtime):
    async def inside():
        return runtime.generate([ask("hello")])

    assert asyncio.run(inside())[0][0].text == "fine"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://x", "model": "m", "modle": "m"}, "unknown key"),
        ({"url": "http://x"}, "model"),
        ({"url": "http://x", "model": "m", "retries": -1}, "retries is too small"),
        ({"url": "http://x", "model": "m", "concurrency": 0}, "concurrency is too small"),
    ],
)
def test_a_malformed_model_toml_is_a_body_error(tmp_path, settings, message):
    with pytest.raises(BodyError, match=message):
        OpenAIRuntime(write(tmp_path, **settings))
