"""``[search]`` of a program's model.toml: what of it may change, and how a search over it goes.

::

    runtime = "program"

    [search]
    paths = ["**", "!data.py"]   # what may change; in files with EVOLVE-BLOCK markers only what is between them
    candidates = 400             # most of one search at effort 1.0
    seconds = 240.0              # longest that one search takes at effort 1.0
    endpoints = ["http://127.0.0.1:8080/v1#qwen"]   # language models that may propose
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields

import msgspec

from upwright.bodies.body import Body
from upwright.errors import BodyError
from upwright.evolution.blocks import Scope
from upwright.evolution.grid import CHANGE, DEFAULT, LENGTH, Axis

RUNTIME = "program"


@dataclass(frozen=True, slots=True)
class Search:
    """How a search over a program goes.

    Attributes:
        paths, blocks: see :class:`~upwright.evolution.blocks.Scope`.
        proposers: by name; empty means all that can be had. ``endpoints``: language models that may propose, ``URL#MODEL``.
        candidates: most of one search at effort 1.0; 0 sets no limit. ``seconds``: longest that it takes; 0 sets no limit. One of the
            two is needed. A search that ends after its candidates can be repeated exactly, one that ends by the clock cannot.
        islands: populations that are kept apart; ``ahead``: candidates under way at once.
        features: what tells programs apart: ``length``, ``change``, or metrics.
        syntax: texts that mean the same are the same; not so where the evaluator looks at the text itself.
        checks: runs by which a noisy gain is measured.
    """

    paths: tuple[str, ...] = ("**",)
    blocks: bool = True
    proposers: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    candidates: int = 400
    seconds: float = 240.0
    islands: int = 4
    ahead: int = 6
    features: tuple[str, ...] = (LENGTH, CHANGE)
    syntax: bool = True
    checks: int = 8

    @property
    def scope(self) -> Scope:
        """What may change."""
        return Scope(self.paths, self.blocks)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the archive's grid."""
        known = {axis.name: axis for axis in DEFAULT}
        return tuple(known.get(name, Axis(name)) for name in self.features)


def is_program(body: Body) -> bool:
    """Whether a body answers with its own program."""
    try:
        return tomllib.loads((body.root / "model.toml").read_text()).get("runtime") == RUNTIME
    except (OSError, ValueError):
        return False


def read_search(body: Body) -> Search:
    """The settings of a body; defaults where it has none.

    Raises:
        BodyError: a key is unknown, a value of the wrong type or out of range.
    """
    where = f"{body.root.name}/model.toml"
    try:
        table = tomllib.loads((body.root / "model.toml").read_text("utf-8")).get("search", {})
        known = [f.name for f in fields(Search)]
        if unknown := sorted(set(table) - set(known)):
            raise BodyError(f"{where}: unknown key in [search]", value=unknown[0], todo=f"known: {', '.join(known)}")
        found = msgspec.convert(table, type=Search)
    except (OSError, ValueError, AttributeError) as error:
        raise BodyError(f"{where}: [search]: {error}", todo="mend the file") from None
    least = {"candidates": 0, "seconds": 0, "islands": 1, "ahead": 4, "checks": 4}
    for name, low in least.items():
        if not getattr(found, name) >= low:
            raise BodyError(
                f"{where}: [search]: {name} is at least {low}", value=getattr(found, name), todo="mend the file"
            )
    if not found.candidates and not found.seconds:
        raise BodyError(f"{where}: [search] sets no limit", todo="give candidates or seconds")
    return found
