from __future__ import annotations

import os
import shutil
import signal
import time

import psutil
import pytest

from upwright.bodies.body import Body
from upwright.bodies.runtimes import load, replicas, unload
from upwright.bodies.runtimes.base import Message, Request
from upwright.bodies.runtimes.replicas import DEATHS, LEAST, WANTED, Helper, Replicated, affordable
from upwright.bodies.runtimes.transformers import TransformersRuntime
from upwright.testing.runtimes import RuntimeContract
from upwright.testing.tiny import tiny_model


def ask(k, **settings):
    return Request((Message("user", f"tell me {k} words now"),), seed=k, max_tokens=6, **settings)


def texts(results):
    return [[c.text for c in found] for found in results]


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    root = tmp_path_factory.mktemp("replicated")
    tiny_model(root / "model")
    return Body(root)


@pytest.fixture(scope="module")
def helper():
    one = Helper(1)
    yield one
    one.close()


@pytest.fixture
def runtime(body, helper):
    return Replicated(TransformersRuntime(body), body.root, [helper])


class TestContract(RuntimeContract):
    @pytest.fixture
    def runtime(self, body, helper, monkeypatch):
        monkeypatch.setattr(replicas, "LEAST", 1)
        runtime = Replicated(TransformersRuntime(body), body.root, [helper])
        yield runtime
        runtime.close()


class TestReplicated:
    def test_the_same_texts_as_one_process_in_the_same_places(self, runtime):
        requests = [ask(k) for k in range(2 * LEAST)] + [ask(99, n=5, temperature=1.0)]
        assert texts(runtime.generate(requests)) == texts(runtime.own.generate(requests))

    def test_the_helper_answers_its_part(self, runtime, helper):
        requests = [ask(k) for k in range(2 * LEAST)]
        runtime.own.generate = counted = Counted(runtime.own.generate)
        runtime.generate(requests)
        assert counted.requests == LEAST  # every other one
        assert helper._process is not None

    def test_few_requests_stay_here(self, body):
        lazy = Helper(1)
        Replicated(TransformersRuntime(body), body.root, [lazy]).generate([ask(k) for k in range(LEAST)])
        assert lazy._process is None

    def test_progress_counts_both_and_never_falls(self, runtime):
        seen = []
        runtime.generate([ask(k) for k in range(4 * LEAST)], lambda done, total: seen.append((done, total)))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1] == (4 * LEAST, 4 * LEAST)
        assert {total for _, total in seen} == {4 * LEAST}

    def test_a_killed_helper_s_part_is_answered_here(self, runtime, helper):
        requests = [ask(k) for k in range(2 * LEAST)]
        wanted = texts(runtime.own.generate(requests))
        assert helper.ask(runtime.root, requests)
        os.kill(helper._process.pid, signal.SIGKILL)
        helper._process.wait()
        assert helper.answer(lambda: None) is None
        assert texts(runtime.generate(requests)) == wanted

    def test_a_body_that_only_the_helper_cannot_load_is_answered_here(self, runtime, tmp_path):
        requests = [ask(k) for k in range(2 * LEAST)]
        wanted = texts(runtime.generate(requests))
        runtime.root = tmp_path / "gone"
        assert texts(runtime.generate(requests)) == wanted

    def test_a_stop_ends_the_helper_s_work_too(self, runtime, helper):
        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            runtime.generate([ask(k) for k in range(2 * LEAST)], stop)
        assert helper._process is None
        assert texts(runtime.generate([ask(k) for k in range(2 * LEAST)]))  # it is started again

    def test_the_description_says_how_many(self, runtime):
        assert runtime.describe()["processes"] == 2


class Counted:
    def __init__(self, generate):
        self.generate, self.requests = generate, 0

    def __call__(self, requests, progress=None):
        self.requests += len(requests)
        return self.generate(requests, progress)


class TestHelper:
    def test_one_that_keeps_dying_is_given_up(self, body):
        helper = Helper(1)
        for _ in range(DEATHS):
            assert helper.ask(body.root, [ask(1)])
            os.kill(helper._process.pid, signal.SIGKILL)
            assert helper.answer(lambda: None) is None
        assert not helper.ask(body.root, [ask(1)])

    def test_it_ends_with_the_process_that_started_it(self, body):
        helper = Helper(1)
        helper.ask(body.root, [])
        process = psutil.Process(helper._process.pid)
        helper._pipe.close()  # what the system does for a process that was killed
        for _ in range(300):
            if process.status() == psutil.STATUS_ZOMBIE or not process.is_running():
                break
            time.sleep(0.1)
        assert helper._process.wait(5) == 0
        helper._pipe = None
        helper.close()


class TestHowMany:
    @pytest.fixture(autouse=True)
    def four_cores(self, monkeypatch):
        monkeypatch.setattr(replicas, "cores", lambda: 4)

    def test_one_unless_asked(self, body, monkeypatch):
        monkeypatch.delenv(WANTED, raising=False)
        assert affordable(body.root / "model") == 1

    @pytest.mark.parametrize(("wanted", "found"), [("1", 1), ("3", 3), ("64", 4)])
    def test_what_was_asked_for_within_the_cores(self, body, monkeypatch, wanted, found):
        monkeypatch.setenv(WANTED, wanted)
        assert affordable(body.root / "model") == found

    def test_never_more_than_the_memory_holds(self, body, monkeypatch):
        monkeypatch.setenv(WANTED, "4")
        size = sum(f.stat().st_size for f in (body.root / "model").glob("*.safetensors"))

        class Memory:
            available = 2 * 2 * size / replicas.MEMORY * 1.2

        monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
        assert affordable(body.root / "model") == 2


class TestLoad:
    def test_a_body_is_loaded_with_its_helpers(self, body, tmp_path, monkeypatch):
        monkeypatch.setenv(WANTED, "2")
        monkeypatch.setattr(replicas, "cores", lambda: 2)
        unload()
        try:
            runtime = load(body)
            assert isinstance(runtime, Replicated)
            assert len(runtime.generate([ask(k) for k in range(2 * LEAST)])) == 2 * LEAST
            twin = tmp_path / "twin"
            (twin / "model").mkdir(parents=True)
            for file in (body.root / "model").iterdir():
                os.link(file, twin / "model" / file.name)
            assert load(Body(twin)) is runtime
            assert runtime.root == twin
            shutil.rmtree(twin)
        finally:
            unload()
            replicas.close_helpers()
