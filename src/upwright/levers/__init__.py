"""The ways to change a body, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from upwright.errors import ProjectError
from upwright.levers.base import Factory, Lever

GROUP = "upwright.levers"
"""Entry-point group by which installed packages add levers; a built-in name cannot be taken."""

BUILT_IN = {
    "prompt": "upwright.levers.prompt:PromptSearch",
    "inference": "upwright.levers.inference:InferenceSearch",
    "memory": "upwright.levers.memory:MemoryDeltas",
    "rejection": "upwright.levers.rejection:Rejection",
    "self_edit": "upwright.levers.self_edit:SelfEdit",
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


def instances(own: Mapping[str, Lever], named: Sequence[str]) -> dict[str, Lever]:
    """The levers of a run by name: its own, then those that upwright.toml names, or all that are installed.

    Raises:
        ProjectError: a named lever is neither.
    """
    installed = registry()
    for name in named:
        if name not in installed and name not in own:
            known = ", ".join(sorted({*installed, *own}))
            raise ProjectError("upwright.toml: there is no such lever", value=name, todo=f"known levers: {known}")
    return {**own, **{name: installed[name]() for name in named or sorted(installed) if name not in own}}


def may_use(lever: Lever, may_change: Sequence[str], trainable: bool) -> bool:
    """Whether the charter allows all that a lever changes, and the body has the weights that it needs."""
    allowed = all(
        any(part == a or (a.endswith("/") and part.startswith(a)) for a in may_change) for part in lever.parts
    )
    return allowed and (trainable or not lever.needs_weights)
