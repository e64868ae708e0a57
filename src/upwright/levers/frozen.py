"""The arm that learns nothing: a child that differs from its parent in a comment, and so answers as it does."""

from __future__ import annotations

from upwright.bodies.body import Body
from upwright.levers._search import fruitless
from upwright.levers.base import Built, Situation, Workshop
from upwright.records import Cost, Proposal, Rung

MARK = "# frozen:"
ATTEMPTS = 5


class Frozen:
    """A control: whatever it seems to gain is luck."""

    name = "frozen"
    parts: tuple[str, ...] = ("inference.toml",)
    needs_weights = False
    seconds = 30.0

    def propose(self, situation: Situation) -> Proposal | None:
        """Another comment each time; ``None`` after :data:`ATTEMPTS`."""
        if len(fruitless(situation, self.name)) >= ATTEMPTS:
            return None
        return Proposal(
            lever=self.name,
            settings={},
            reason="change nothing: what it seems to gain is luck",
            author=f"upwright.levers.{self.name}",
            parent=situation.parent,
            seed=situation.rng.getrandbits(62),
        )

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """The parent with a comment in ``inference.toml``."""
        path = parent.root / "inference.toml"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if not line.startswith(MARK)]
        text = "\n".join([*kept, f"{MARK} {proposal.seed}"]) + "\n"
        return Built({"inference.toml": text.encode()}, Rung.EXECUTION, {"changed": "a comment"}, Cost())
