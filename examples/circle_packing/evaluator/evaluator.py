"""Measures a packing of 26 circles in the unit square: the sum of the radii, where the packing is one."""

import importlib.util
import math

import numpy as np

CIRCLES = 26
TOLERANCE = 1e-9
"""Most that a circle may reach over a side or into another."""


def evaluate(program_path):
    """Run the program, check what it returns, add the radii up.

    Raises:
        ValueError: what the program returned is no packing.
    """
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    centers, radii, claimed = program.run_packing()
    total = measured(centers, radii)
    if not abs(total - float(claimed)) <= 1e-6:
        raise ValueError(f"the program says that the sum is {claimed}, and it is {total:.9f}")
    return {"sum_radii": total}


def measured(centers, radii):
    """The sum of the radii of a packing, added up here.

    Raises:
        ValueError: wrong shapes, something that is no finite number, a circle outside of the square, or two that overlap.
    """
    centers, radii = numbers(centers, (CIRCLES, 2), "centers"), numbers(radii, (CIRCLES,), "radii")
    if min(radii) < 0:
        raise ValueError(f"a radius is negative: {min(radii)}")
    for i in range(CIRCLES):
        (x, y), radius = centers[i], radii[i]
        out = max(radius - x, radius - y, x + radius - 1, y + radius - 1)
        if not out <= TOLERANCE:
            raise ValueError(f"circle {i} reaches {out:.3g} out of the square")
        for j in range(i):
            overlap = radius + radii[j] - math.dist(centers[i], centers[j])
            if not overlap <= TOLERANCE:
                raise ValueError(f"circles {j} and {i} overlap by {overlap:.3g}")
    return math.fsum(radii)


def numbers(given, shape, name):
    """An array of finite floats as plain Python numbers.

    Raises:
        ValueError: it has another shape, or holds something else.
    """
    array = np.asarray(given)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} are of type {array.dtype}, not numbers")
    if array.shape != shape:
        raise ValueError(f"{name} have the shape {array.shape}, not {shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} are not all finite")
    return array.tolist()
