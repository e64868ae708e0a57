"""Where work runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from upwright.engines.base import Engine, Progress
from upwright.errors import ProjectError

if TYPE_CHECKING:
    from upwright.project import EngineSettings

__all__ = ["Engine", "Factory", "Progress", "engines", "make_engine"]

Factory = Callable[["EngineSettings", Path], Engine]
"""Makes an engine from ``[engine]`` of upwright.toml and the folder for logs."""

GROUP = "upwright.engines"
"""Entry-point group by which installed packages add engines."""


def _local(settings: EngineSettings, logs: Path) -> Engine:
    from upwright.engines.local import LocalEngine

    return LocalEngine(settings.workers, logs / "worker.log", settings.replicas)


def engines() -> Mapping[str, Callable[[], Factory]]:
    """Every engine by name, as something that imports its factory when called."""
    found: dict[str, Callable[[], Factory]] = {point.name: point.load for point in entry_points(group=GROUP)}
    return found | {"local": lambda: _local}


def make_engine(settings: EngineSettings, logs: Path) -> Engine:
    """The engine that a project asks for.

    Raises:
        ProjectError: there is no engine of this kind.
    """
    known = engines()
    if settings.kind not in known:
        raise ProjectError(
            "there is no such engine",
            value=settings.kind,
            todo=f"set [engine] kind to one of {', '.join(sorted(known))}",
        )
    return known[settings.kind]()(settings, logs)
