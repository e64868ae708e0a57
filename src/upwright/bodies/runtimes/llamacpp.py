"""Runs a GGUF file (``model/*.gguf``) in this process through llama.cpp; needs the extra ``llamacpp``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from upwright.bodies.body import Body
from upwright.bodies.runtimes._chat import completion, payload
from upwright.bodies.runtimes.base import Completion, Progress, Request
from upwright.errors import BodyError, MissingExtra, ModelError, RuntimeFailure
from upwright.records import Failure, FailureKind


class LlamaCppRuntime:
    """A body whose weights are a GGUF file.

    Requests run one at a time in one slot: llama.cpp's batches depend on what else is in them, and the
    contract asks for the same texts every time. A prefix that follows on the last request's is not read
    again (the first request of a call starts afresh, so that a call does not depend on the one before).

    Args:
        body: a body with one ``model/*.gguf``.
        context: most tokens of a prompt and its completion together.
        threads: ``None`` is one per physical core.

    Raises:
        BodyError: there is no GGUF file, or more than one.
        ModelError: llama.cpp cannot load it.
        MissingExtra: xllamacpp is not installed.
    """

    name = "llamacpp"
    trainable = False

    def __init__(self, body: Body, context: int = 4096, threads: int | None = None) -> None:
        files = sorted((body.root / "model").glob("*.gguf"))
        if len(files) != 1:
            raise BodyError("a body runs one .gguf file", value=[f.name for f in files], todo="leave one in model/")
        # Idle threads that spin slow the others down where cores are shared; read when OpenMP starts.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        try:
            import xllamacpp
        except ImportError:
            raise MissingExtra("xllamacpp", "llamacpp") from None
        import psutil

        self.path = files[0]
        self.context = context
        self.threads = threads or psutil.cpu_count(logical=False) or 1
        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.n_ctx, params.n_parallel = context, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.cpuparams.poll = params.cpuparams_batch.poll = 0
        params.cache_ram_mib = 0
        params.warmup = False
        params.verbosity = -1
        params.hostnames, params.port = ["127.0.0.1"], 0
        try:
            self._server: Any = xllamacpp.Server(params)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(
                f"llama.cpp cannot load the file: {error}",
                value=str(self.path),
                todo="check that it is a whole GGUF file",
            ) from error
        self._version = str(xllamacpp.__version__)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[list[Completion]]:
        """Complete every request ``n`` times; see :class:`~upwright.bodies.runtimes.base.Runtime`."""
        if self._server is None:
            raise RuntimeFailure("the runtime was closed", todo="load the body again")
        total, done, fresh = sum(r.n for r in requests), 0, True
        results: list[list[Completion]] = []
        for request in requests:
            found: list[Completion] = []
            for sample in range(request.n):
                if sample and request.temperature == 0:  # greedy samples are all the same
                    found.append(replace(found[0], prompt_tokens=0, seconds=0.0))
                else:
                    found.append(self._complete(request, sample, fresh))
                    fresh = False
                done += 1
                if progress:
                    progress(done, total)
            results.append(found)
        return results

    def _complete(self, request: Request, sample: int, fresh: bool) -> Completion:
        began = time.perf_counter()
        try:
            data = self._server.handle_chat_completions({**payload(request, sample), "cache_prompt": not fresh})
            if "error" in data:
                raise RuntimeError(str(data["error"].get("message", data["error"])))
            said = completion(data, time.perf_counter() - began)
        except Exception as error:
            return Completion(
                "", None, seconds=time.perf_counter() - began, failure=Failure(FailureKind.CRASH, str(error))
            )
        return said if sample == 0 else replace(said, prompt_tokens=0)

    def describe(self) -> dict[str, Any]:
        """What ran: file, context, threads and version."""
        return {
            "runtime": self.name,
            "model": self.path.name,
            "bytes": self.path.stat().st_size,
            "context": self.context,
            "device": "cpu",
            "threads": self.threads,
            "xllamacpp": self._version,
        }

    def close(self) -> None:
        """Stop llama.cpp and free the weights."""
        self._server = None
