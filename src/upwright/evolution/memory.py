"""What failed and why, in few words, for the next proposals.

Failures of one kind that differ only in numbers, names in quotes and addresses are one entry with a count. Memory is bounded: the
groups heard of last are kept.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

KEPT = 64
"""Groups remembered."""
TOLD = 8
"""Entries in one brief."""
LENGTH = 240
"""Characters of one entry."""
_VARIES = re.compile(r"0x[0-9a-f]+|[-+]?\d[\d.,_]*(?:e[-+]?\d+)?|'[^']*'|\"[^\"]*\"", re.IGNORECASE)


@dataclass(slots=True)
class _Group:
    count: int
    why: str
    tried: str
    parent: str


class Memory:
    """Failures by group, the last heard of last."""

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[str, str], _Group] = OrderedDict()

    def add(self, kind: str, why: str, tried: str = "", parent: str = "") -> None:
        """Take in a failure.

        Args:
            kind: in a word (``timeout``, ``crash``, ``scope``); ``why``: a sentence; ``tried``: what had been changed.
            parent: digest of the program that was changed.
        """
        why = " ".join(why.split())
        key = kind, _VARIES.sub("#", why)[:LENGTH]
        known = self._groups.pop(key, None)
        self._groups[key] = _Group(known.count + 1 if known else 1, why, " ".join(tried.split()), parent)
        if len(self._groups) > KEPT:
            self._groups.popitem(last=False)

    def told(self, parent: str = "", most: int = TOLD) -> tuple[str, ...]:
        """Entries, newest first; those of changes to ``parent`` come before the others."""
        found = [(group.parent != parent, kind, group) for (kind, _), group in reversed(self._groups.items())]
        found.sort(key=lambda one: one[0])  # stable: within each half the newest stay first
        return tuple(_entry(kind, group) for _, kind, group in found[:most])


def _entry(kind: str, group: _Group) -> str:
    times = f" ({group.count} times)" if group.count > 1 else ""
    tried = f" — tried: {group.tried}" if group.tried else ""
    said = f"{kind}{times}: {group.why}{tried}"
    return said if len(said) <= LENGTH else said[: LENGTH - 1] + "…"
