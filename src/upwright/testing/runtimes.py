"""The conformance suite of runtimes: inherit it, and give it one.

::

    class TestMyRuntime(RuntimeContract):
        @pytest.fixture(scope="class")
        @classmethod
        def runtime(cls):
            return MyRuntime(body)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence

from upwright.bodies.runtimes.base import Completion, Message, Request, Runtime
from upwright.records import Finish


class RuntimeContract:
    """What :class:`~upwright.bodies.runtimes.base.Runtime` promises. A subclass gives a fixture ``runtime``."""

    tokens = 8
    """Most tokens asked for in one completion: keep slow runtimes fast."""

    def ask(self, text: str, n: int = 1, temperature: float = 0.0, seed: int = 0) -> Request:
        """A request of this suite."""
        return Request((Message("user", text),), seed, n, temperature, 1.0, self.tokens)

    def texts(self, results: Sequence[Sequence[Completion]]) -> list[list[str]]:
        """The texts alone."""
        return [[c.text for c in found] for found in results]

    def test_it_is_a_runtime(self, runtime: Runtime) -> None:
        """Name, ``trainable`` and the three methods are there."""
        assert isinstance(runtime, Runtime)
        assert runtime.name
        assert runtime.trainable in (True, False)

    def test_nothing_asked_nothing_said(self, runtime: Runtime) -> None:
        """No requests, no results."""
        assert runtime.generate([]) == []

    def test_n_completions_for_each_request_in_order(self, runtime: Runtime) -> None:
        """One list per request, of ``n``; the order of requests does not matter to their places."""
        requests = [
            self.ask("Say one."),
            self.ask("Count to three, slowly, please.", n=3, temperature=1.0),
            self.ask("Say two."),
        ]
        results = runtime.generate(requests)
        assert [len(found) for found in results] == [1, 3, 1]
        assert all(c.failure is None for found in results for c in found)

    def test_same_requests_same_texts(self, runtime: Runtime) -> None:
        """Greedy and sampled alike."""
        requests = [self.ask("Name a colour."), self.ask("Name a town.", n=2, temperature=1.0, seed=3)]
        assert self.texts(runtime.generate(requests)) == self.texts(runtime.generate(requests))

    def test_greedy_samples_are_equal(self, runtime: Runtime) -> None:
        """Temperature 0 leaves nothing to draw."""
        ((first, second),) = runtime.generate([self.ask("Name a fruit.", n=2)])
        assert first.text == second.text

    def test_arguments_are_left_alone(self, runtime: Runtime) -> None:
        """The list of requests is not changed."""
        requests = [self.ask("Hello."), self.ask("Good morning to you all.")]
        before = copy.deepcopy(requests)
        runtime.generate(requests)
        assert requests == before

    def test_accounts_add_up(self, runtime: Runtime) -> None:
        """Tokens, seconds, finish and log-probability are what the record says."""
        ((said,),) = runtime.generate([self.ask("Tell me a story.")])
        assert said.finish in (Finish.STOP, Finish.LENGTH)
        assert said.prompt_tokens > 0
        assert 0 < said.completion_tokens <= self.tokens
        assert said.logprob is None or said.logprob <= 0
        assert said.seconds >= 0
        assert said.money >= 0

    def test_progress_reaches_the_total(self, runtime: Runtime) -> None:
        """Progress counts completions, never falls, and ends at the total."""
        seen: list[tuple[int, int]] = []
        runtime.generate([self.ask("One.", n=2, temperature=1.0), self.ask("Two.")], lambda d, t: seen.append((d, t)))
        assert seen[-1] == (3, 3)
        assert seen == sorted(seen)

    def test_description_is_json(self, runtime: Runtime) -> None:
        """``describe`` gives JSON types and names the runtime."""
        described = runtime.describe()
        assert json.loads(json.dumps(described)) == described
        assert described["runtime"] == runtime.name

    def test_closing_twice_is_fine(self, runtime: Runtime) -> None:
        """``close`` may be called again."""
        runtime.close()
        runtime.close()
