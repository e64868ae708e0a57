"""Who is champion: derived from the ledger and from nothing else.

The ``promotion`` entry *is* the move. One append is atomic, so a kill at any moment leaves either
the old champion or the new one, never two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from upwright.warden.ledger import Entry

MACHINES = frozenset({"loop", "watch"})
"""Names that are no person's: a rollback by one of these does not move the anchor."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """A move of the champion pointer forward. ``time`` is ISO 8601 in UTC."""

    test: int
    digest: str
    former: str
    time: str


@dataclass(slots=True)
class Lineage:
    """Pointers. ``anchor`` is the last generation that a person approved (genesis at first).

    The anchor is what protected suites are also compared with, so that small losses cannot creep.
    """

    genesis: str = ""
    champion: str = ""
    anchor: str = ""
    promotions: list[Promotion] = field(default_factory=list)
    approved: set[int] = field(default_factory=set)

    def apply(self, entry: Entry) -> None:
        """Take in the next entry."""
        data: Any = entry.data
        if entry.kind == "founding":
            self.genesis = self.champion = self.anchor = data["genesis"]
        elif entry.kind == "promotion":
            self.champion = data["digest"]
            self.promotions.append(Promotion(data["test"], data["digest"], data["former"], entry.time))
            if data["test"] in self.approved:
                self.anchor = data["digest"]
        elif entry.kind == "approve":
            self.approved.add(data["test"])
            self.anchor = next((p.digest for p in self.promotions if p.test == data["test"]), self.anchor)
        elif entry.kind == "rollback":
            self.champion = data["to"]
            if data["by"] not in MACHINES:
                self.anchor = data["to"]

    def was_champion(self, digest: str) -> bool:
        """Whether a digest ever was champion."""
        return digest == self.genesis or any(p.digest == digest for p in self.promotions)
