"""The ways to change a body, one file each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from upwright.levers.base import Factory, Lever

GROUP = "upwright.levers"
"""Entry-point group by which installed packages add levers; a built-in name cannot be taken."""

BUILT_IN = {
    "prompt": "upwright.levers.prompt:PromptSearch",
    "inference": "upwright.levers.inference:InferenceSearch",
    "memory": "upwright.levers.memory:MemoryDeltas",
    "rejection": "upwright.levers.rejection:Rejection",
    "training": "upwright.levers.training:TrainingRecipe",
}


def _built_in(where: str) -> Factory:
    def make() -> Lever:
        module, _, name = where.partition(":")
        lever: Lever = getattr(import_module(module), name)()
        return lever

    return make


def _installed(point: EntryPoint) -> Factory:
    def make() -> Lever:
        factory: Callable[[], Lever] = point.load()
        return factory()

    return make


def registry() -> dict[str, Factory]:
    """Every installed lever by name; a lever's module is imported when its factory is called."""
    found = {point.name: _installed(point) for point in entry_points(group=GROUP)}
    return found | {name: _built_in(where) for name, where in BUILT_IN.items()}
