"""Where work runs. A job is a module-level function; an engine calls it somewhere and brings the result back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
"""``progress(done, total, note)``; called from time to time while a job runs."""


class Engine(Protocol):
    """Runs jobs.

    Contract (held by :mod:`upwright.testing.engines`): ``run(job, *args)`` returns what
    ``job(*args, progress=...)`` returns; an :class:`~upwright.errors.UpwrightError` that the job
    raises arrives as itself; a job that dies (killed, out of memory) or exceeds ``timeout`` seconds
    raises :class:`~upwright.errors.RuntimeFailure` and the next job runs in a fresh worker; jobs of
    one worker share its process, so that loaded models stay warm. The same job and arguments give
    the same result on every engine.
    """

    name: str

    def run(
        self,
        job: Callable[..., T],
        *args: Any,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> T:
        """Run ``job(*args, progress=...)`` and wait for it."""
        ...

    def close(self) -> None:
        """End the workers; may be called twice."""
        ...
