"""A runtime that is no model: it knows each answer, or not, by seed; and it can be told to misbehave."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upwright.bodies.runtimes.base import Completion, Message, Progress, Request
from upwright.errors import RuntimeFailure
from upwright.records import Failure, FailureKind, Finish, derive_seed

Trouble = Literal["crash", "timeout", "refusal", "infrastructure", "hang", "garbage", "cut", "raise"]
"""What a question can provoke: one of the four failures; ``hang`` sleeps; ``garbage`` is a long meaningless text;
``cut`` ends at the token limit; ``raise`` brings the whole runtime down."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the fake knows about one input.

    Attributes:
        answer: the right answer.
        skill: picks the accuracy.
        wrong: what it says when it does not know.
    """

    answer: str
    skill: str = "general"
    wrong: str = "wrong"


@dataclass(frozen=True, slots=True)
class Manner:
    """How the fake behaves.

    Attributes:
        accuracy: chance in [0, 1] of the right answer, by skill; ``"*"`` is any other skill.
        lift: added to the accuracy for each worked example in the chat, in [0, 1].
        trouble: input → what goes wrong with it.
        hang_seconds: how long a hang lasts.
        seconds: reported for each completion.
    """

    accuracy: Mapping[str, float]
    lift: float = 0.0
    trouble: Mapping[str, Trouble] | None = None
    hang_seconds: float = 3600.0
    seconds: float = 0.01


class FakeRuntime:
    """Deterministic and scriptable; one token is one white-space-separated word.

    Whether an input is known is drawn once from (input, accuracy), so that a better fake knows
    everything that a worse one knows. At temperature > 0 the draw also depends on the sample's seed.

    Args:
        known: input → what there is to know, or a function of the input. Anything else is echoed.
        manner: how it behaves; the default is always right.
    """

    name = "fake"

    def __init__(
        self,
        known: Mapping[str, Known] | Callable[[str], Known | None],
        manner: Manner | None = None,
        *,
        trainable: bool = False,
    ) -> None:
        self._known = known if callable(known) else known.get
        self.manner = manner or Manner({"*": 1.0})
        self.trainable = trainable
        self.requests: list[Request] = []
        """Every request so far."""
        self.closed = False

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Complete every request ``n`` times; see :class:`~upwright.bodies.runtimes.base.Runtime`."""
        if self.closed:
            raise RuntimeFailure("the runtime was closed", todo="load the body again")
        self.requests += requests
        total, done = sum(r.n for r in requests), 0
        results = []
        for request in requests:
            results.append([self._complete(request, j) for j in range(request.n)])
            done += request.n
            if progress:
                progress(done, total)
        return results

    def _complete(self, request: Request, sample: int) -> Completion:
        question = request.messages[-1].content
        trouble = (self.manner.trouble or {}).get(question)
        if trouble == "raise":
            raise RuntimeFailure("the fake was told to fall over", value=question)
        if trouble == "hang":
            time.sleep(self.manner.hang_seconds)
        if trouble in ("crash", "timeout", "refusal", "infrastructure"):
            failure = Failure(FailureKind(trouble), f"the fake was told to fail with {trouble}")
            return Completion("", None, seconds=self.manner.seconds, failure=failure)
        sure, text = self._say(question, request, sample)
        if trouble == "garbage":
            text = "\ufffd\x00 {[(<" * request.max_tokens
        words = text.split()
        cut = trouble == "cut" or len(words) > request.max_tokens
        if cut:
            text = " ".join(words[: request.max_tokens]) if trouble != "cut" else text[: len(text) // 2]
        read = sum(len(m.content.split()) + 1 for m in request.messages) if sample == 0 else 0
        return Completion(
            text,
            Finish.LENGTH if cut else Finish.STOP,
            prompt_tokens=read,
            completion_tokens=min(len(words) + 1, request.max_tokens),
            logprob=-0.1 if sure else -1.0,
            seconds=self.manner.seconds,
        )

    def _say(self, question: str, request: Request, sample: int) -> tuple[bool, str]:
        """Whether the fake is right, and what it says."""
        known = self._known(question)
        if known is None:
            return False, question
        draw = random.Random(derive_seed("fake", question)).random()
        if request.temperature > 0:
            draw = random.Random(derive_seed("fake", question, request.seed, sample)).random()
        right = draw < self._chance(known.skill, request.messages)
        return right, known.answer if right else known.wrong

    def _chance(self, skill: str, messages: Sequence[Message]) -> float:
        base = self.manner.accuracy.get(skill, self.manner.accuracy.get("*", 0.0))
        examples = sum(m.role == "assistant" for m in messages)
        return min(1.0, base + self.manner.lift * examples)

    def describe(self) -> dict[str, Any]:
        """That it is a fake, and how accurate."""
        return {"runtime": self.name, "accuracy": dict(self.manner.accuracy)}

    def close(self) -> None:
        """Refuse further requests."""
        self.closed = True
