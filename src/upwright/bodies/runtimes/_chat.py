"""The chat-completions wire format, as an endpoint or llama.cpp's in-process server speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upwright.bodies.runtimes.base import Completion, Request
from upwright.records import Failure, FailureKind, Finish, derive_seed


def payload(request: Request, sample: int) -> dict[str, Any]:
    """The JSON body that asks for sample ``sample`` of a request; its seed is a 31-bit ``derive_seed(seed, sample)``."""
    return {
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": derive_seed(request.seed, sample) & 0x7FFFFFFF,
        "logprobs": True,
        "top_logprobs": 1,
    }


def completion(data: Mapping[str, Any], seconds: float) -> Completion:
    """A completion from a response's JSON; ``content_filter`` and refusals are failures.

    Raises:
        KeyError, TypeError, IndexError, ValueError, AttributeError: the response is not of this format.
    """
    choice = data["choices"][0]
    message, reason = choice["message"], choice.get("finish_reason")
    usage = data.get("usage") or {}
    read, written = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
    refusal = message.get("refusal")
    if refusal or reason == "content_filter":
        failure = Failure(FailureKind.REFUSAL, str(refusal or "the endpoint's content filter stopped the answer"))
        return Completion("", None, read, written, seconds=seconds, failure=failure)
    text = message["content"]
    if not isinstance(text, str):
        raise ValueError(f"content is {text!r}, not a text")
    given = [float(t["logprob"]) for t in (choice.get("logprobs") or {}).get("content") or ()]
    mean = min(0.0, sum(given) / len(given)) if given else None
    finish = Finish.LENGTH if reason == "length" else Finish.STOP
    return Completion(text, finish, read, written, mean, seconds)
