"""Looks for the lowest place of a landscape that it does not know, with few looks."""

# EVOLVE-BLOCK-START
import numpy as np

BATCH = 25
NEAR = 0.3
REACH = 0.4
SHRINK = 0.98


def search(points, values, left, low, high):
    """Some looks near the best place so far, the others anywhere; how near is near shrinks with every batch."""
    anywhere = np.random.uniform(low, high, (BATCH, len(low)))
    if len(values) == 0:
        return anywhere
    best = points[np.argmin(values)]
    spread = REACH * SHRINK ** (len(values) / BATCH) * (high - low)
    near = best + spread * np.random.standard_normal((BATCH, len(low)))
    return np.where(np.random.random((BATCH, 1)) < NEAR, near, anywhere)


# EVOLVE-BLOCK-END


def suggest(points, values, left, low, high):
    """Where to look next.

    Args:
        points: where it has looked, shape (looks, dimensions); values: how high it was there, shape (looks,).
        left: looks that are left.
        low, high: the sides of the box, shape (dimensions,).

    Returns: points, shape (any number, dimensions). No point at all ends the search.
    """
    return search(points, values, left, low, high)
