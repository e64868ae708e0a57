"""Choosing the next token so that a draw depends on ``(seed, sample, step)`` and on nothing else in the batch.

Imports torch: only runtimes that hold weights import this module, and inside functions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUCLEUS = 512
"""Candidates looked at for top-p before a row is sorted in full."""


def uniforms(seeds: NDArray[np.uint64], steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """One uniform in [0, 1) per row: SplitMix64 (Steele et al. 2014) at counter ``step`` of stream ``seed``.

    Args:
        seeds: shape (rows,).
        steps: shape (rows,), tokens written so far by each row.
    """
    with np.errstate(over="ignore"):
        z = seeds + (steps.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    # 23 bits, so that uniform × total stays below total in float32.
    uniform: NDArray[np.float32] = (z >> np.uint64(41)).astype(np.float32) * np.float32(2.0**-23)
    return uniform


def choose(
    logits: Tensor, temperature: NDArray[np.float32], top_p: NDArray[np.float32], uniform: NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    """Next tokens, and their log-probabilities at temperature 1.

    Args:
        logits: shape (rows, vocabulary), any float type.
        temperature: shape (rows,); 0 is greedy.
        top_p: shape (rows,); nucleus mass in (0, 1] (Holtzman et al. 2020).
        uniform: shape (rows,); draws by inverse CDF.

    Returns:
        tokens, shape (rows,), int64; log-probabilities in nats, shape (rows,), float32.
    """
    logits = logits.float()  # (rows, vocabulary)
    tokens = logits.argmax(-1)  # (rows,)
    hot = np.flatnonzero(temperature > 0)
    if hot.size:
        at = torch.as_tensor(hot, device=logits.device)
        heat = torch.as_tensor(temperature[hot], device=logits.device)[:, None]
        probs = torch.softmax(logits[at] / heat, -1)  # (hot, vocabulary)
        draw = torch.as_tensor(uniform[hot], device=logits.device)[:, None]  # (hot, 1)
        cut = top_p[hot] < 1
        drawn = torch.empty(hot.size, dtype=torch.int64, device=logits.device)
        for rows in (np.flatnonzero(cut), np.flatnonzero(~cut)):
            if rows.size:
                r = torch.as_tensor(rows, device=logits.device)
                mass = torch.as_tensor(top_p[hot][rows], device=logits.device)[:, None]
                drawn[r] = _nucleus(probs[r], mass, draw[r]) if cut[rows[0]] else _inverse(probs[r], draw[r])
        tokens[at] = drawn
    logprobs = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    return tokens, logprobs


def _inverse(weights: Tensor, draw: Tensor) -> Tensor:
    """Index of the first cumulative weight above ``draw`` × total; weights (rows, k), draw (rows, 1) → (rows,)."""
    cdf = weights.cumsum(-1)
    index = torch.searchsorted(cdf, draw * cdf[:, -1:], right=True)[:, 0]
    return index.clamp_(max=weights.shape[-1] - 1)


def _nucleus(probs: Tensor, mass: Tensor, draw: Tensor) -> Tensor:
    """Draw from the smallest set of likeliest tokens whose mass reaches ``mass`` (rows, 1)."""
    k = min(NUCLEUS, probs.shape[-1])
    best, ids = probs.topk(k, dim=-1)  # (rows, k), falling
    if k < probs.shape[-1] and bool((best.sum(-1, keepdim=True) < mass).any()):
        best, ids = probs.sort(dim=-1, descending=True)
    before = best.cumsum(-1) - best
    kept = torch.where(before < mass, best, torch.zeros_like(best))
    return ids.gather(-1, _inverse(kept, draw)[:, None])[:, 0]
