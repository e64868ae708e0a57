"""Loss, steps and loop of GRPO on the tiny random model, against TRL and against exact expectations."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM  # noqa: E402

from upwright.bodies.body import Body, Training  # noqa: E402
from upwright.bodies.runtimes.base import Message  # noqa: E402
from upwright.bodies.runtimes.transformers import TransformersRuntime  # noqa: E402
from upwright.errors import BuildError, Stopped  # noqa: E402
from upwright.levers import _grpo, _reinforce  # noqa: E402
from upwright.levers._grpo import Group, How, Policy, Tell, Writer, Written, advantages, policy_loss  # noqa: E402
from upwright.levers._reinforce import STATE, Reinforced, reinforce  # noqa: E402
from upwright.levers._sft import _collate  # noqa: E402
from upwright.records import derive_seed  # noqa: E402
from upwright.testing.tiny import tiny_model  # noqa: E402

RECIPE = Training(rank=4)
HOW = How(steps=10, learning_rate=1e-2, kl=0.0, most_kl=9.0, least_entropy=0.0)
CHATS = [(Message("user", f"what is {i}?"),) for i in range(12)]


def quiet(done: float, note: str) -> None:
    pass


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


class Toy:
    """One-token answers; a token is worth 1 when its id is even, or (``coin``) by chance alone."""

    def __init__(self, coin: bool = False, held: Sequence[float] = (), few: int = 10**6) -> None:
        self.coin, self.held, self.few = coin, list(held), few
        self.steps: list[int] = []
        self.writers: list[Writer] = []

    def rollout(self, writer: Writer, step: int, tell: Tell) -> tuple[list[Group], dict[str, float]]:
        self.steps.append(step)
        said = writer.write([(chat, derive_seed(step, i)) for i, chat in enumerate(CHATS)], 16, 1, tell)
        rng = random.Random(step)
        worth = [[float(rng.random() < 0.5 if self.coin else one.tokens[0] % 2 == 0) for one in group] for group in said]
        groups = [Group(g, advantages(r)) for g, r in zip(said, worth) if len(set(r)) > 1]
        return groups if step <= self.few else [], {"reward": sum(map(sum, worth)) / 16 / len(CHATS)}

    def look(self, writer: Writer, tell: Tell) -> list[float]:
        self.writers.append(writer)
        return [self.held[len(self.writers) - 1]] * 4 if self.held else [expected(writer)]

    def remember(self) -> Any:
        return {"steps": self.steps}

    def recall(self, kept: Any) -> None:
        self.steps = list(kept["steps"])


def expected(writer: Writer) -> float:
    """The exact expected reward of the task: the probability of an even token, averaged over the questions."""
    prompts = writer.runtime._tokenize([_request(chat) for chat in CHATS])
    found = []
    with torch.no_grad():
        for prompt in prompts:
            logits = writer.runtime.model(torch.tensor([prompt])).logits[0, -1].float()
            found.append(float(logits.softmax(-1)[0::2].sum()))
    return sum(found) / len(found)


def _request(chat: tuple[Message, ...]) -> Any:
    from upwright.bodies.runtimes.base import Request

    return Request(chat)


def run(model: Path, scratch: Path, toy: Toy, seed: int = 1, how: How = HOW) -> Reinforced:
    scratch.mkdir(parents=True, exist_ok=True)
    return reinforce(model, RECIPE, how, toy, scratch, seed, quiet)


def files(trained: Reinforced) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(trained.adapter.iterdir())}


# ---- it learns, and only from a reward that means something ---------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_the_expected_reward_rises_under_the_tasks_reward_and_not_under_a_coin(
    model: Path, tmp_path: Path, seed: int
) -> None:
    """Exact expectations, not samples: at the start, and of the policy after its last step."""
    gains = {}
    for coin in (False, True):
        toy = Toy(coin)
        trained = run(model, tmp_path / str(coin), toy, seed)
        (_, start), *_, (_, end) = trained.looks
        gains[coin] = end - start
        assert trained.steps == 10
        assert len(trained.history) == 10
    print(gains)
    assert gains[False] > 0.25
    assert abs(gains[True]) < 0.1


def test_debug_history(model: Path, tmp_path: Path) -> None:
    t = run(model, tmp_path / "a", Toy())
    for h in t.history: print(h)
    print(t.looks, t.best)
