"""The evaluator of a project, as a search uses it: :class:`~upwright.evolution.records.Trials` over an evaluator's folder.

Where the evaluator has quick stages a search runs those first, and a program that ends in one of them has no score: what it measured there is
of another size than what the others have. What is compared with the parent at the end, and what the warden measures, is judged whole.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from upwright.evolution.records import Judged, Program
from upwright.records import canonical_digest
from upwright.tasks import evaluator
from upwright.tasks.base import Evaluator

if TYPE_CHECKING:  # a project without programs does not load what runs them
    from upwright.warden.evaluator import Judge


class FolderTrials:
    """Runs programs through the evaluator of a suite; its processes start with the first one.

    Raises:
        GraderError: evaluator.toml is malformed.
    """

    def __init__(self, source: Evaluator) -> None:
        from upwright.warden.evaluator_spec import EvaluatorSpec

        self._source, self._spec = source, EvaluatorSpec.read(source.folder)
        scale = self._spec.of(source.metric)
        self.digest = canonical_digest([source.sha256, source.metric])
        self.metric, self.exact = source.metric, scale.exact
        self.direction: Literal["max", "min"] = "max" if scale.sign > 0 else "min"
        self.workers = 2
        self._staged: Judge | None = None
        self._lock = threading.Lock()

    def judge(self, program: Program, seed: int) -> Judged:
        """Run a program once, quick stages first."""
        judged = self._judge().judge(program, seed, self.metric)
        if judged.stage and judged.score is not None:
            why = (
                f"it ended after quick stage {judged.stage}, with {self.metric} = {judged.metrics[self.metric]:g} there"
            )
            return replace(judged, score=None, failure="stage", artifacts={**judged.artifacts, "why": why})
        return judged

    def watch(self, program: Program, seconds: float) -> tuple[str, str]:
        """What a program prints; it may take as long as any run."""
        judged = self._judge().judge(program, 0, self.metric)
        return judged.artifacts.get("output", ""), judged.artifacts.get("why", "") if judged.failure else ""

    def close(self) -> None:
        """End the processes of the quick stages; those that judge whole are the process's own."""
        with self._lock:
            if self._staged is not None:
                self._staged.close()
                self._staged = None

    def _judge(self) -> Judge:
        whole = evaluator.judge(self._source)
        if not (self._spec.kind == "evaluate" and self._spec.cascade and self._spec.thresholds):
            return whole
        with self._lock:
            if self._staged is None:
                from upwright.warden.evaluator import Judge

                self._staged = Judge(whole.folder, self._spec, waiver=bool(evaluator.waiver()), size=self.workers)
            return self._staged
