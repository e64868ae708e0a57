"""What the body's own samples could reach: pass@k − pass@1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import comb, fsum

PASS = 1.0 - 1e-9
"""A sample passes when it gets the full score."""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate, from ``n`` samples of which ``c`` pass, that at least one of ``k`` passes.

    ``1 − C(n − c, k) / C(n, k)``. Source: Chen et al. 2021, equation 1.

    Raises:
        ValueError: not ``0 ≤ c ≤ n`` or not ``1 ≤ k ≤ n``.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"needs 0 ≤ c ≤ n and 1 ≤ k ≤ n (got n={n}, c={c}, k={k})")
    return 1.0 - comb(n - c, k) / comb(n, k)


def headroom(samples: Iterable[Sequence[float]], k: int | None = None) -> float | None:
    """Mean over tasks of pass@k − pass@1, in [0, 1]; ``None`` without a task of two samples.

    Args:
        samples: per task, the scores of its samples in [0, 1].
        k: how many samples may be tried; ``None`` is as many as every task has. Tasks with fewer than
            ``k`` samples are left out.
    """
    tasks = [scores for scores in samples if len(scores) > 1]
    if not tasks:
        return None
    tries = min(len(scores) for scores in tasks) if k is None else k
    gains = []
    for scores in tasks:
        n, c = len(scores), sum(s >= PASS for s in scores)
        if n >= tries:
            gains.append(pass_at_k(n, c, tries) - pass_at_k(n, c, 1))
    return fsum(gains) / len(gains) if gains else None
