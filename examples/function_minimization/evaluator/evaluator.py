"""Measures a search: how near it comes to the lowest place of landscapes that it does not know, with few looks.

A landscape is a tilted bowl with ripples, zero at its lowest place and nowhere else. Where that is, how the axes are turned, and how
steep and how rippled it is, is drawn anew in every run. The program sees none of it: it says where to look and is told how high it is there.
What counts is the height at the places where it looked, and that is computed here. Nothing that a program says of itself is read.
"""

import importlib.util
import math

import numpy as np

LOOKS = {2: 200, 6: 600}
"""Dimensions → looks."""
EACH = 4
"""Landscapes for each number of dimensions."""
SIDE = 5.0
"""The box reaches from -SIDE to SIDE."""
FAR, NEAR = 2.0, -6.0
"""Logarithm (to base 10) of the height that is worth 0, and of the one that is worth 1."""


def evaluate(program_path):
    """Search all landscapes; ``closeness`` is the mean over them, in [0, 1].

    Raises:
        ValueError: the program returned something else than points.
    """
    rng = np.random.default_rng(np.random.randint(2**31, size=4))
    landscapes = [landscape(rng, dimensions) for dimensions in LOOKS for _ in range(EACH)]
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    found = [searched(program.suggest, *one) for one in landscapes]
    by_size = {f"closeness_{d}d": math.fsum(found[i * EACH : (i + 1) * EACH]) / EACH for i, d in enumerate(LOOKS)}
    return {"closeness": math.fsum(found) / len(found), **by_size}


def landscape(rng, dimensions):
    """Where it is lowest, how its axes are turned, how steep each is, how high the ripples are and how many to a unit."""
    turned, _ = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))
    lowest = rng.uniform(-0.8 * SIDE, 0.8 * SIDE, dimensions)
    steep = 10 ** rng.uniform(-0.5, 0.5, dimensions)
    return lowest, turned, steep, rng.uniform(1.0, 4.0), rng.uniform(0.4, 0.8)


def heights(points, lowest, turned, steep, ripple, often):
    """How high it is at points, shape (n, dimensions); shape (n,), never below 0."""
    z = (points - lowest) @ turned
    return (steep * z**2 + ripple * (1 - np.cos(2 * np.pi * often * z))).sum(axis=1)


def searched(suggest, lowest, *shape):
    """Closeness that a search reaches on a landscape, in [0, 1]."""
    dimensions = len(lowest)
    points, values, left = np.empty((0, dimensions)), np.empty(0), LOOKS[dimensions]
    while left:
        sides = np.full(dimensions, -SIDE), np.full(dimensions, SIDE)
        asked = checked(suggest(points.copy(), values.copy(), left, *sides), dimensions)[:left]
        if not len(asked):
            break
        points = np.concatenate([points, asked])
        values = np.concatenate([values, heights(asked, lowest, *shape)])
        left -= len(asked)
    if not len(values):
        return 0.0
    best = math.log10(max(float(values.min()), 1e-300))
    return min(1.0, max(0.0, (FAR - best) / (FAR - NEAR)))


def checked(given, dimensions):
    """Points as an array of floats, moved into the box.

    Raises:
        ValueError: something else than finite numbers, or of another shape.
    """
    asked = np.asarray(given)
    if not asked.size:
        return np.empty((0, dimensions))
    if asked.dtype.kind not in "fiu" or asked.ndim != 2 or asked.shape[1] != dimensions:
        raise ValueError(f"points are numbers of shape (n, {dimensions}), not {asked.dtype} of shape {asked.shape}")
    asked = asked.astype(np.float64)
    if not np.isfinite(asked).all():
        raise ValueError("a point is not finite")
    return np.clip(asked, -SIDE, SIDE)
