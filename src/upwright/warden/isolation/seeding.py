"""Random numbers of a cell: seeded once, also in libraries that are imported later."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import random
import sys
from collections.abc import Sequence
from types import ModuleType

_LATER = {"numpy.random": "seed", "torch": "manual_seed"}
"""Module → the function of it that takes a seed below 2^32."""


def apart(seed: int, who: str) -> int:
    """A seed for ``who`` from which ``seed`` cannot be worked out.

    The state of a generator tells its seed; a candidate that knew the evaluator's could foresee what will be asked.
    """
    return int.from_bytes(hashlib.sha256(f"{who}\x1f{seed}".encode()).digest()[:8], "big")


def plant(seed: int) -> None:
    """Seed :mod:`random`, and numpy's and torch's global generators now or as soon as they are imported."""
    random.seed(seed)
    for name, function in _LATER.items():
        if name in sys.modules:
            getattr(sys.modules[name], function)(seed % (1 << 32))
    sys.meta_path.insert(0, _Seeder(seed % (1 << 32)))


class _Seeder(importlib.abc.MetaPathFinder):
    """Finds nothing itself; wraps the loader of the modules that want a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _LATER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run, seed = spec.loader.exec_module, self.seed

            def exec_module(module: ModuleType) -> None:
                run(module)
                getattr(module, _LATER[fullname])(seed)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
