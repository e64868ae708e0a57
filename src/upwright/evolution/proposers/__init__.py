"""Ways to come by a next program, one file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from upwright.errors import BuildError, MissingExtra

if TYPE_CHECKING:
    from upwright.evolution.proposers._trace import Bench
    from upwright.evolution.proposers.base import Proposer

__all__ = ["Kit", "available", "instances"]


@dataclass(frozen=True, slots=True)
class Kit:
    """What proposers are made with.

    Attributes:
        bench: runs a program once, isolated as candidates are.
        endpoints: language models, ``URL#MODEL``.
    """

    bench: Bench
    endpoints: tuple[str, ...] = ()


_MADE: dict[str, tuple[str, tuple[str, ...], Callable[[Callable[..., Proposer], Kit], Proposer]]] = {
    "constants": ("constants:Constants", ("cma", "libcst"), lambda make, kit: make()),
    "structure": ("structure:Structure", ("libcst",), lambda make, kit: make()),
    "materialise": ("materialise:Materialise", ("libcst",), lambda make, kit: make(kit.bench)),
    "recombine": ("recombine:Recombine", ("libcst",), lambda make, kit: make()),
    "llm": ("llm:LanguageModels", ("httpx",), lambda make, kit: make(kit.endpoints)),
}
"""Name → module and class, packages that it needs, how it is made."""


def available(endpoints: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of the proposers that can be had here; the one that asks language models only where there are any."""
    found = [name for name, (_, needs, _) in _MADE.items() if all(find_spec(package) for package in needs)]
    return tuple(name for name in found if name != "llm" or endpoints)


def instances(names: Sequence[str], kit: Kit) -> list[Proposer]:
    """Proposers by name, made anew.

    Raises:
        BuildError: there is no such proposer.
        MissingExtra: a package that one needs is not installed.
    """
    made = []
    for name in names:
        if name not in _MADE:
            raise BuildError("there is no such proposer", value=name, todo=f"known: {', '.join(_MADE)}")
        where, needs, make = _MADE[name]
        if missing := [package for package in needs if find_spec(package) is None]:
            raise MissingExtra(missing[0], "evolve")
        module, _, attribute = where.partition(":")
        made.append(make(getattr(import_module(f"{__name__}.{module}"), attribute), kit))
    return made
