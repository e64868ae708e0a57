"""26 circles in the unit square, as large as they will go: the sum of the radii counts."""

# EVOLVE-BLOCK-START
import math

import numpy as np


def pack():
    """Put circles on rings, then shrink them until they fit.

    Returns the centres (26 rows of x and y), the radii and their sum.
    """
    centers = np.zeros((26, 2))
    placed = 0
    for count, distance in ((1, 0.0), (8, 0.3), (16, 0.7)):
        for k in range(count):
            angle = 2 * math.pi * k / count
            centers[placed] = [0.5 + distance * math.cos(angle), 0.5 + distance * math.sin(angle)]
            placed += 1
    centers = np.clip(centers, 0.01, 0.99)
    radii = fit(centers)
    return centers, radii, float(np.sum(radii))


def fit(centers):
    """Radii with which nothing overlaps: as far as the nearest side, then smaller, pair by pair."""
    n = len(centers)
    radii = np.ones(n)
    for i in range(n):
        x, y = centers[i]
        radii[i] = min(x, y, 1 - x, 1 - y)
    for i in range(n):
        for j in range(i + 1, n):
            distance = np.sqrt(np.sum((centers[i] - centers[j]) ** 2))
            if radii[i] + radii[j] > distance:
                scale = distance / (radii[i] + radii[j])
                radii[i] *= scale
                radii[j] *= scale
    return radii


# EVOLVE-BLOCK-END


def run_packing():
    """What the evaluator asks for."""
    return pack()


if __name__ == "__main__":
    print(run_packing()[2])
