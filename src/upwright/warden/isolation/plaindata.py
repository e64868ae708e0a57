"""What an evaluator's harness may return: JSON data, with numpy's numbers made plain."""

from __future__ import annotations

import json
import sys
from typing import Any

MAX_BYTES = 16 << 20
MAX_DEPTH = 64


class NotPlain(TypeError):
    """A returned value that JSON cannot hold."""


def dumps(value: Any) -> bytes:
    """JSON text of a returned value; NaN and infinities as JavaScript writes them.

    Raises:
        NotPlain: names the type and where it is.
    """
    data = json.dumps(_plain(value, "the value", 0)).encode()
    if len(data) > MAX_BYTES:
        raise NotPlain(f"the evaluator returned {len(data)} bytes of data, more than {MAX_BYTES}")
    return data


def _plain(value: Any, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotPlain(f"{where} is nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool):
        return value
    for base in (str, int, float):
        if isinstance(value, base):
            return _base_value(value, base)
    if isinstance(value, dict):
        return {_key(k, where): _plain(v, f"{where}[{k!r:.40}]", depth + 1) for k, v in dict.items(value)}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(value)]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic) and value.dtype.kind in "biufU":
        return value.tolist()
    raise NotPlain(f"{where} that the evaluator returned is of type {type(value).__name__}, which JSON cannot hold")


def _base_value(value: Any, base: type) -> Any:
    """The number or text that a subclass holds in C, whatever its methods say."""
    if base is str:
        return str.__str__(value)
    return int.__int__(value) if base is int else float.__float__(value)


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int | float):
        return repr(key)
    raise NotPlain(f"a key of {where} is of type {type(key).__name__}, which JSON cannot hold")
