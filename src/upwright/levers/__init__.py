"""The ways to change a body, one file each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from upwright.errors import ProjectError
from upwright.levers.base import Factory, Lever
from upwright.records import Rung

GROUP = "upwright.levers"
"""Entry-point group by which installed packages add levers; a built-in name cannot be taken."""

BUILT_IN = {
    "prompt": "upwright.levers.prompt:PromptSearch",
    "inference": "upwright.levers.inference:InferenceSearch",
    "memory": "upwright.levers.memory:MemoryDeltas",
    "consensus": "upwright.levers.consensus:Consensus",
    "curriculum": "upwright.levers.curriculum:CurriculumLever",
    "constitution": "upwright.levers.constitution:Constitutional",
    "distillation": "upwright.levers.distillation:Distillation",
    "rejection": "upwright.levers.rejection:Rejection",
    "self_edit": "upwright.levers.self_edit:SelfEdit",
    "training": "upwright.levers.training:TrainingRecipe",
    "reasoning": "upwright.levers.reasoning:Reasoning",
    "grpo": "upwright.levers.grpo:Grpo",
    "population": "upwright.levers.population:Population",
    "architecture": "upwright.levers.architecture:ArchitectureSearch",
    "speed": "upwright.levers.speed:SpeedSearch",
    "program": "upwright.levers.program:ProgramSearch",
}

CONTROLS = {
    "frozen": "upwright.levers.frozen:Frozen",
    "gold": "upwright.levers.training:gold_only",
    "grpo-format": "upwright.levers.grpo:format_reward",
    "grpo-random": "upwright.levers.grpo:random_reward",
    "population-own": "upwright.levers.population:own_score",
    "self_edit-raw": "upwright.levers.self_edit:raw_passages",
}
"""Control arms: levers to compare with. A run has them only where they are named."""


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
    return found | {name: _built_in(where) for name, where in {**CONTROLS, **BUILT_IN}.items()}


def instances(own: Mapping[str, Lever], named: Sequence[str]) -> dict[str, Lever]:
    """The levers of a run by name: its own, then those that upwright.toml names, or all that are installed but controls.

    Raises:
        ProjectError: a named lever is neither.
    """
    installed = registry()
    for name in named:
        if name not in installed and name not in own:
            known = ", ".join(sorted({*installed, *own}))
            raise ProjectError("upwright.toml: there is no such lever", value=name, todo=f"known levers: {known}")
    chosen = named or [name for name in sorted(installed) if name not in CONTROLS]
    return {**own, **{name: installed[name]() for name in chosen if name not in own}}


def evidence(lever: Lever) -> Rung:
    """The strongest evidence that a lever can learn from: what it declares as ``rung``, or else execution."""
    rung: Rung = getattr(lever, "rung", Rung.EXECUTION)
    return rung


def may_use(lever: Lever, may_change: Sequence[str], trainable: bool, minimum_rung: str | None = None) -> bool:
    """Whether the charter allows all that a lever changes and what it learns from, and the body has the weights that it needs.

    What is about training weights does not count for a body without any: the lever leaves it alone there.
    """
    parts = [p for p in lever.parts if trainable or not p.startswith(("model/", "training.toml"))]
    allowed = all(any(part == a or (a.endswith("/") and part.startswith(a)) for a in may_change) for part in parts)
    reaches = minimum_rung is None or evidence(lever).reaches(Rung(minimum_rung))
    return allowed and reaches and (trainable or not lever.needs_weights)


def nothing_left(levers: Iterable[Lever], minimum_rung: str | None) -> str:
    """Why a run ends when no lever proposes anything, with those that the charter's ``minimum_rung`` leaves out."""
    told = "no lever has anything left to try; raise the effort, or allow more parts"
    weak = [lever for lever in levers if minimum_rung and not evidence(lever).reaches(Rung(minimum_rung))]
    if not weak:
        return told
    names = ", ".join(f"{lever.name} ({evidence(lever).value})" for lever in weak)
    return f"{told}; the charter's minimum_rung {minimum_rung!r} leaves out {names}"
