"""Asks any OpenAI-compatible endpoint, named by ``model.toml``."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import httpx

from upwright.bodies.body import Body, parse_toml
from upwright.bodies.runtimes._chat import completion, payload
from upwright.bodies.runtimes.base import Completion, Progress, Request
from upwright.errors import BodyError, ModelError, RuntimeFailure
from upwright.records import Failure, FailureKind

T = TypeVar("T")

LONGEST_WAIT = 120.0
"""Most seconds waited before one retry, whatever ``Retry-After`` says."""
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``model.toml``.

    Attributes:
        url: base URL, as ``https://host/v1``.
        model: the name that the endpoint knows the model by.
        api_key_env: the environment variable that holds the key; empty for none. The key itself is never written.
        concurrency: most requests in flight.
        timeout: seconds for one request.
        retries: further tries after 429, 5xx, time-outs and lost connections.
        price_in: money per million tokens read.
        price_out: money per million tokens written.
        context: most tokens written in one completion; 0 is unlimited.
    """

    url: str
    model: str
    api_key_env: str = ""
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 4
    price_in: float = 0.0
    price_out: float = 0.0
    context: int = 0


class _Unreachable(Exception):
    """No connection after every retry."""


class OpenAIRuntime:
    """A body whose model is behind an OpenAI-compatible endpoint.

    Texts are as repeatable as the endpoint is: it is given a seed for every sample.

    Args:
        body: a body with ``model.toml``.
        backoff: seconds before the first retry; doubled for each one after.

    Raises:
        BodyError: ``model.toml`` is malformed.
        ModelError: the environment variable with the key is not set.
    """

    name = "openai"
    trainable = False

    def __init__(self, body: Body, backoff: float = 0.5) -> None:
        path = body.root / "model.toml"
        if not path.exists():
            raise BodyError("the body has no model.toml", value=str(body.root), todo="add one with url and model")
        self.endpoint = parse_toml(path.read_text(), Endpoint, str(path))
        for key, least in (("concurrency", 1), ("retries", 0), ("timeout", 0.001)):
            if getattr(self.endpoint, key) < least:
                raise BodyError(f"{path}: {key} is too small", value=getattr(self.endpoint, key), todo="mend the file")
        variable = self.endpoint.api_key_env
        self._key = os.environ.get(variable, "") if variable else ""
        if variable and not self._key:
            raise ModelError("the endpoint's key is not set", value=variable, todo=f"export {variable}=…")
        self._backoff = backoff
        self._plain = False
        """Whether the endpoint does not know ``logprobs``."""
        self._limit = "max_tokens"
        self._closed = False

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Complete every request ``n`` times; see :class:`~upwright.bodies.runtimes.base.Runtime`.

        Raises:
            RuntimeFailure: nothing answers at the URL, or the key or the model is refused.
        """
        if self._closed:
            raise RuntimeFailure("the runtime was closed", todo="load the body again")
        flat = _run(self._all(requests, progress))
        results, start = [], 0
        for request in requests:
            results.append(flat[start : start + request.n])
            start += request.n
        return results

    async def _all(self, requests: Sequence[Request], progress: Progress | None) -> list[Completion]:
        """One completion for each sample of each request, in order."""
        wanted = [(request, sample) for request in requests for sample in range(request.n)]
        found: list[Completion | None] = [None] * len(wanted)
        lost, gate = 0, asyncio.Semaphore(self.endpoint.concurrency)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=self.endpoint.concurrency)
        async with httpx.AsyncClient(headers=headers, timeout=self.endpoint.timeout, limits=limits) as client:

            async def one(index: int) -> None:
                nonlocal lost
                async with gate:
                    try:
                        if lost and lost == sum(c is not None for c in found):
                            raise _Unreachable  # nobody has been answered yet: do not wait for the others
                        found[index] = await self._complete(client, *wanted[index])
                    except _Unreachable as error:
                        lost += 1
                        failure = Failure(FailureKind.INFRASTRUCTURE, f"the endpoint cannot be reached: {error}")
                        found[index] = Completion("", None, failure=failure)

            tasks = [asyncio.ensure_future(one(i)) for i in range(len(wanted))]
            try:
                for count, task in enumerate(asyncio.as_completed(tasks), 1):
                    await task
                    if progress:
                        progress(count, len(wanted))
            finally:
                for left in tasks:
                    left.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if wanted and lost == len(wanted):
            raise RuntimeFailure(
                "nothing answers at the endpoint", value=self.endpoint.url, todo="start it, or mend url in model.toml"
            )
        return [c for c in found if c is not None]

    async def _complete(self, client: httpx.AsyncClient, request: Request, sample: int) -> Completion:
        """One completion, retried; what still fails is a failure."""
        began, problem, unreachable = time.perf_counter(), Failure(FailureKind.INFRASTRUCTURE), False
        for attempt in range(self.endpoint.retries + 1):
            wait = self._backoff * 2**attempt
            try:
                async with asyncio.timeout(self.endpoint.timeout):  # httpx's own limits are per read
                    response = await client.post(self._url, json=(sent := self._body(request, sample)))
                    while self._learn(response, sent):
                        response = await client.post(self._url, json=(sent := self._body(request, sample)))
                if response.status_code == 200:
                    return self._priced(completion(response.json(), time.perf_counter() - began))
                if response.status_code not in _AGAIN:
                    return Completion("", None, failure=self._refused(response))
                problem = Failure(FailureKind.INFRASTRUCTURE, self._said(response))
                wait, unreachable = max(wait, _retry_after(response)), False
            except (TimeoutError, httpx.TimeoutException):
                problem = Failure(FailureKind.TIMEOUT, f"no answer within {self.endpoint.timeout:g} s")
                unreachable = False
            except httpx.ConnectError as error:
                problem, unreachable = Failure(FailureKind.INFRASTRUCTURE, str(error)), True
            except (httpx.HTTPError, KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
                what = f"the endpoint's answer makes no sense: {type(error).__name__}: {error}"
                problem, unreachable = Failure(FailureKind.INFRASTRUCTURE, what), False
            if attempt < self.endpoint.retries:
                await asyncio.sleep(min(wait, LONGEST_WAIT))
        if unreachable:
            raise _Unreachable(problem.message)
        return Completion("", None, seconds=time.perf_counter() - began, failure=problem)

    @property
    def _url(self) -> str:
        base = self.endpoint.url.rstrip("/")
        return base if base.endswith("/chat/completions") else base + "/chat/completions"

    def _body(self, request: Request, sample: int) -> dict[str, Any]:
        body = {"model": self.endpoint.model, **payload(request, sample)}
        most = body.pop("max_tokens")
        body[self._limit] = min(most, self.endpoint.context) if self.endpoint.context else most
        if self._plain:
            del body["logprobs"], body["top_logprobs"]
        return body

    def _learn(self, response: httpx.Response, sent: dict[str, Any]) -> bool:
        """Whether the endpoint refused an optional key that was sent and can be left out or named otherwise."""
        if response.status_code not in (400, 422):
            return False
        if "logprobs" in response.text and "logprobs" in sent:
            self._plain = True
            return True
        if "max_completion_tokens" in response.text and "max_tokens" in sent:
            self._limit = "max_completion_tokens"
            return True
        return False

    def _refused(self, response: httpx.Response) -> Failure:
        """A request that no retry would help."""
        said = self._said(response)
        if response.status_code in (401, 403):
            raise RuntimeFailure(
                f"the endpoint refuses the key: {said}",
                value=self.endpoint.url,
                todo="check the key in the variable that api_key_env names",
            )
        if response.status_code == 404:
            raise RuntimeFailure(
                f"the endpoint does not know the model or the path: {said}",
                value=self.endpoint.model,
                todo="check url and model in model.toml",
            )
        filtered = "content_filter" in response.text or "content_policy" in response.text
        return Failure(FailureKind.REFUSAL if filtered else FailureKind.CRASH, said)

    def _said(self, response: httpx.Response) -> str:
        """Status and message of an error, without the key."""
        try:
            text = str(response.json()["error"]["message"])
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
            text = response.text
        text = " ".join(text.split())[:300]
        return f"HTTP {response.status_code}: {text.replace(self._key, '***') if self._key else text}"

    def _priced(self, said: Completion) -> Completion:
        e = self.endpoint
        return replace(said, money=(said.prompt_tokens * e.price_in + said.completion_tokens * e.price_out) / 1e6)

    def describe(self) -> dict[str, Any]:
        """What is asked: everything in ``model.toml`` (the key's variable, not the key)."""
        return {"runtime": self.name, **asdict(self.endpoint), "httpx": httpx.__version__}

    def close(self) -> None:
        """Refuse further requests; connections close after every call already."""
        self._closed = True


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the endpoint asks to wait (RFC 9110, 10.2.3), 0 when it does not say."""
    value = response.headers.get("retry-after", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where the caller already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    box: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            box.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name="upwright-openai")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return box[0]
