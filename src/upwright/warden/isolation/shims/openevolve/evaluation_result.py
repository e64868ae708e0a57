"""``EvaluationResult``: metrics, and artifacts beside them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class EvaluationResult:
    """What an evaluator may return instead of a table of metrics."""

    metrics: dict[str, float]
    artifacts: dict[str, str | bytes] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, metrics: dict[str, float]) -> EvaluationResult:
        """A result without artifacts."""
        return cls(metrics)

    def to_dict(self) -> dict[str, float]:
        """The metrics alone."""
        return self.metrics

    def has_artifacts(self) -> bool:
        """Whether there is any artifact."""
        return len(self.artifacts) > 0

    def get_artifact_keys(self) -> list[str]:
        """Names of the artifacts."""
        return [*self.artifacts]

    def get_artifact_size(self, key: str) -> int:
        """Bytes of one artifact; 0 where there is none of this name."""
        found = self.artifacts.get(key, b"")
        return len(found if isinstance(found, bytes) else str(found).encode())

    def get_total_artifact_size(self) -> int:
        """Bytes of all artifacts."""
        return sum(map(self.get_artifact_size, self.artifacts))
