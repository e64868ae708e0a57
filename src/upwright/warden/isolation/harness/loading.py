"""Load an evaluator's file as its own system would."""

from __future__ import annotations

import importlib.util
import os
import sys
import types

SHIMS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shims")
"""Modules that evaluators of other systems import, in our own words."""


def prepare(folder: str) -> None:
    """Make the evaluator's folder and the shims importable; an evaluator's own module of the same name comes first."""
    for path in (SHIMS, folder):
        if path in sys.path:
            sys.path.remove(path)
        sys.path.insert(0, path)


def load(folder: str, entry: str, name: str) -> types.ModuleType:
    """The evaluator's file, run as module ``name``.

    Raises:
        ImportError: there is no such file. Whatever the file raises.
    """
    prepare(folder)
    path = os.path.join(folder, entry)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ImportError(f"the evaluator has no file {entry}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
