"""An adapter under an optimiser of its own, and log-probabilities of answers: what GRPO and DPO share.

Optimiser and weights are float32 beside a bfloat16 adapter, whose own small steps would be lost in rounding. There is no
dropout: the weights that are trained are the ones that are measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from upwright.bodies.body import Training
from upwright.errors import BuildError
from upwright.levers._branches import branch_logits
from upwright.levers._sft import _adapted, answer_logits

MICRO = 1024
"""Most tokens, with padding, in one forward pass; one row (or pair) at least."""


class Adapter:
    """An adapter in training with AdamW.

    Args:
        model_dir: a body's ``model/``; training goes on from its ``adapter/`` if there is one.
        recipe: rank, layers and weight decay of a new adapter.
    """

    def __init__(self, model_dir: Path, recipe: Training, learning_rate: float, seed: int) -> None:
        import torch

        from upwright.bodies.runtimes import _weights

        self.learning_rate = learning_rate
        self.device = _weights.device()
        self.dtype = _weights.fast_dtype(self.device)
        torch.manual_seed(seed % 2**31)
        self.model = _adapted(model_dir, replace(recipe, start="champion"), self.dtype, self.device).eval()
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone().requires_grad_() for p in self.weights]
        self.optimizer = torch.optim.AdamW(self.masters, lr=learning_rate, weight_decay=recipe.weight_decay)

    def state(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"masters": [m.detach() for m in self.masters], "optimizer": self.optimizer.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        import torch

        with torch.no_grad():
            for master, kept in zip(self.masters, state["masters"], strict=True):
                master.copy_(kept)
        self.optimizer.load_state_dict(state["optimizer"])
        self._to_model()

    def _to_model(self) -> None:
        import torch

        with torch.no_grad():
            for weight, master in zip(self.weights, self.masters, strict=True):
                weight.copy_(master)

    def gather(self, gradients: Iterable[Any]) -> None:
        """Add a part's gradients to those of the step, in float32: a sum of many parts in bfloat16 loses the small ones."""
        for master, gradient in zip(self.masters, gradients, strict=True):
            if gradient is not None:
                found = gradient.float()
                master.grad = found if master.grad is None else master.grad.add_(found)

    def descend(self, share: float = 1.0) -> float:
        """One optimiser step from what was gathered and the gradients in the model, clipped to norm 1; returns the norm they had.

        Args:
            share: of the learning rate, for a warm-up.

        Raises:
            BuildError: a gradient is not a number.
        """
        import torch

        self.gather(weight.grad for weight in self.weights)
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.grad = None
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, 1.0))
        if not math.isfinite(norm):
            raise BuildError(
                "the training diverged: its gradient is not a number", value=norm, todo="lower learning_rate"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = share * self.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._to_model()
        return norm


def said_logits(model: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Logits at the answer tokens, shape (answer tokens, vocabulary), and those tokens, shape (answer tokens,), row after row.

    Args:
        batch: of :func:`upwright.levers._sft._collate` or :func:`upwright.levers._branches.collate`.
    """
    return (branch_logits if "visible" in batch else answer_logits)(model, batch)


def picked(logits: Any, tokens: Any, entropy: bool = False, temperature: float = 1.0) -> tuple[Any, Any]:
    """Log-probability of each token under logits at a temperature, and the entropy there if asked for; nats, shape (tokens,)."""
    logs = (logits if temperature == 1.0 else logits / temperature).log_softmax(-1)
    found = logs.gather(-1, tokens[:, None])[:, 0]
    return found, -(logs.exp() * logs).sum(-1) if entropy else None


def logps(model: Any, batch: dict[str, Any], entropy: bool = False, temperature: float = 1.0) -> tuple[Any, Any]:
    """Log-probability of each answer token, and the entropy there if asked for; see :func:`said_logits` and :func:`picked`."""
    return picked(*said_logits(model, batch), entropy, temperature)
