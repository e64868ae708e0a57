"""One file for each way to run a model."""

from __future__ import annotations

import os
import threading
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from upwright.bodies.body import Body
from upwright.bodies.runtimes.base import Completion, Message, Progress, Request, Runtime
from upwright.bodies.runtimes.replicas import Replicated, affordable, helpers
from upwright.errors import BodyError

__all__ = ["Completion", "Message", "Progress", "Request", "Runtime", "load", "unload"]

GROUP = "upwright.runtimes"
"""Entry-point group by which installed packages add runtimes, ``NAME = module:factory of a body``."""

BUILT_IN = {
    "program": "upwright.bodies.runtimes.program:ProgramRuntime",
    "puppet": "upwright.testing.puppet:Puppet",
    "training": "upwright.training.runtime:TrainingRuntime",
}
"""Runtimes that ``model.toml`` may name beside those of installed packages: ``runtime = "NAME"``."""
OF_PROGRAM = ("program",)
"""Those of them that are made from ``program/``."""
OF_TEXTS = ("training",)
"""Those of them that are made from ``architecture.toml`` and ``training.toml`` too, so that bodies share one only where these agree."""

_KEPT = 2
"""How many loaded runtimes are kept, the last used; LoRA siblings share their base weights besides."""
_loaded: OrderedDict[tuple[object, ...], Runtime] = OrderedDict()
_lock = threading.Lock()


def load(body: Body) -> Runtime:
    """The runtime that a body needs, loaded; bodies with the same model files share one.

    ``model.toml`` is an endpoint (or names another runtime: ``runtime = "NAME"``; a program is ``runtime = "program"``), ``model/*.gguf`` llama.cpp,
    ``model/config.json`` Hugging Face weights.
    The runtime stays loaded until others push it out: do not close it.

    Raises:
        BodyError: the body has no model.
        ModelError: its model cannot be loaded.
        MissingExtra: the package that would run it is not installed.
    """
    named = _named(body.root / "model.toml") if body.has("model.toml") else None
    key = _fingerprint(body.root, ("model", "program") if named in OF_PROGRAM else ("model",))
    if named in OF_TEXTS:
        key += (body.architecture, repr(body.training))
    with _lock:
        if key in _loaded:
            _loaded.move_to_end(key)
            found = _loaded[key]
            if isinstance(found, Replicated):
                found.root = body.root  # the same files; those that it was loaded from may be gone
            return found
        while len(_loaded) >= _KEPT:
            _loaded.popitem(last=False)[1].close()
        runtime = _open(body)
        _loaded[key] = runtime
        return runtime


def unload() -> None:
    """Close every runtime that :func:`load` keeps."""
    with _lock:
        while _loaded:
            _loaded.popitem()[1].close()


def _open(body: Body) -> Runtime:
    if body.has("model.toml"):
        if (name := _named(body.root / "model.toml")) is not None:
            return _plug_in(name)(body)
        from upwright.bodies.runtimes.openai import OpenAIRuntime

        return OpenAIRuntime(body)
    if any((body.root / "model").glob("*.gguf")):
        from upwright.bodies.runtimes.llamacpp import LlamaCppRuntime

        return LlamaCppRuntime(body)
    if body.has("model/config.json"):
        return _transformers(body)
    raise BodyError(
        "the body has no model", value=str(body.root), todo="add model/ (weights or a .gguf file) or model.toml"
    )


def _transformers(body: Body) -> Runtime:
    """Weights in this process, and in as many others as it pays to have."""
    from upwright.bodies.runtimes.transformers import TransformersRuntime

    others = helpers(affordable(body.root / "model") - 1)
    for helper in others:
        helper.ask(body.root, [])  # they load while this process does
    own = TransformersRuntime(body)
    return Replicated(own, body.root, others) if others else own


def _named(path: Path) -> object:
    """The ``runtime`` of a ``model.toml``; what else is wrong with the file is its runtime's to say."""
    try:
        return tomllib.loads(path.read_text()).get("runtime")
    except (OSError, ValueError):
        return None


def _plug_in(name: object) -> Callable[[Body], Runtime]:
    """The runtime of this name, built in or from an installed package."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[str(name)].partition(":")
        factory: Callable[[Body], Runtime] = getattr(import_module(module), attribute)
        return factory
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted({*found, *BUILT_IN}))
        raise BodyError("model.toml: there is no such runtime", value=name, todo=f"known: {known}; or give a url")
    plugged: Callable[[Body], Runtime] = found[str(name)].load()
    return plugged


def _fingerprint(root: Path, folders: Sequence[str]) -> tuple[object, ...]:
    """What tells one body's model files from another's, without reading them: links to the same file are the same."""
    names = ["model.toml"]
    for folder in folders:
        if os.path.isdir(f"{root}/{folder}"):
            names += [f.relative_to(root).as_posix() for f in sorted((root / folder).rglob("*"))]
    stats = [(name, os.stat(f"{root}/{name}")) for name in names if os.path.isfile(f"{root}/{name}")]
    return tuple((name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in stats)
