"""What every runtime is: requests in, completions out, in the same order.

A runtime only generates. How a body turns a question into messages, votes over samples or refines
is :mod:`upwright.bodies.answer`; scoring is :mod:`upwright.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from upwright.records import Failure, Finish

Role = Literal["system", "user", "assistant"]
Progress = Callable[[int, int], None]
"""``progress(done, total)`` in units of completions."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to complete ``n`` times.

    Attributes:
        messages: the chat so far; the last turn is the user's.
        seed: sampling seed; sample ``j`` draws from ``(seed, j)`` whatever else is in the batch.
        n: how many completions (≥ 1); they share the prompt's KV cache where the runtime can.
        temperature: 0 is greedy.
        top_p: nucleus mass in (0, 1].
        max_tokens: most tokens written per completion.
    """

    messages: tuple[Message, ...]
    seed: int = 0
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion.

    Attributes:
        logprob: mean log-probability per written token in nats at temperature 1, or ``None`` when
            the runtime cannot tell.
        seconds: wall seconds, this completion's share of its batch.
        prompt_tokens: tokens read; only the first of ``n`` completions counts a shared prompt.
        failure: set when the run failed; then ``text`` is empty and ``finish`` is ``None``.
    """

    text: str
    finish: Finish | None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    logprob: float | None = None
    seconds: float = 0.0
    money: float = 0.0
    failure: Failure | None = None


@runtime_checkable
class Runtime(Protocol):
    """Runs one loaded body.

    Contract (held by :mod:`upwright.testing.runtimes`): ``generate`` returns one list per request, in
    order, of exactly ``request.n`` completions; it does not mutate its arguments; the same requests
    in the same order give the same texts; a failed completion is a :class:`Failure` in its place and
    never an exception; only trouble with the whole runtime raises
    :class:`~upwright.errors.RuntimeFailure`.
    """

    name: str
    trainable: bool
    """Whether the body's weights are at hand to be trained."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Complete every request ``n`` times."""
        ...

    def describe(self) -> dict[str, Any]:
        """What ran: model name, parameters, dtype, device or endpoint, versions. JSON types."""
        ...

    def close(self) -> None:
        """Free memory and connections; may be called twice."""
        ...
