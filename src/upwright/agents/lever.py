"""The lever ``told``: the child is what an agent told; it searches nothing and is never offered to the allocator."""

from __future__ import annotations

from upwright.agents.change import TELLABLE
from upwright.bodies.body import Body
from upwright.levers.base import Built, Situation, Workshop
from upwright.records import Cost, Proposal, Rung

NAME = "told"


class Told:
    """Builds a child from a proposal whose settings hold the new texts: ``{"files": {path: text, or None to delete}}``.

    What an outside agent went by is not known here, so its child counts as learned from an independent judge's word, and a
    charter that demands more does not hear it.
    """

    name = NAME
    parts: tuple[str, ...] = TELLABLE
    needs_weights = False
    seconds = 0.0
    rung = Rung.JUDGE

    def propose(self, situation: Situation) -> Proposal | None:
        """Nothing: what is proposed comes from outside (:mod:`upwright.agents.hearing`)."""
        return None

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """The texts that were told, as they are."""
        files = proposal.settings["files"]
        workshop.progress(1, 1, "as told")
        changes = {path: None if text is None else str(text).encode() for path, text in files.items()}
        return Built(changes, self.rung, {"author": proposal.author, "changed": sorted(files)}, Cost())
