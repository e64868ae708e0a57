"""Looks for a way to multiply two matrices with fewer products of numbers than the schoolbook's."""

# EVOLVE-BLOCK-START
import numpy as np

SWEEPS = 40
FREQUENCY = 1.7
SIZE = 1.0
RIDGE = 0.5
FADE = 0.99
PULL = 0.1


def search(target, rank):
    """Alternating least squares: one factor at a time is fitted to the other two.

    A ridge holds each back, at first where it was, later more and more at the nearest of -1, 0 and 1.
    """
    factors = [
        SIZE * np.sin(FREQUENCY * (k + 1 + np.arange(rank * n) ** 1.5)).reshape(rank, n)
        for k, n in enumerate(target.shape)
    ]
    ridge = RIDGE
    for sweep in range(SWEEPS):
        pull = min(1.0, PULL * sweep / SWEEPS)
        for i in range(3):
            a, b = (factors[j] for j in range(3) if j != i)
            products = np.einsum("ra,rb->rab", a, b).reshape(rank, -1)
            flat = np.moveaxis(target, i, 0).reshape(target.shape[i], -1)
            whole = np.clip(np.round(factors[i]), -1, 1)
            near = (1 - pull) * factors[i] + pull * whole
            normal = products @ products.T + ridge * np.eye(rank)
            factors[i] = np.linalg.solve(normal, products @ flat.T + ridge * near)
        ridge *= FADE
    return factors


# EVOLVE-BLOCK-END


def decompose(n, m, p):
    """Factors U, V and W, shapes (rank, n·m), (rank, m·p), (rank, n·p): one product fewer than the schoolbook's."""
    target = np.zeros((n * m, m * p, n * p))
    for i in range(n):
        for j in range(m):
            for k in range(p):
                target[i * m + j, j * p + k, i * p + k] = 1
    return search(target, n * m * p - 1)
