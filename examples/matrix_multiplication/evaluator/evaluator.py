"""Measures a way to multiply two matrices: how many products of numbers it takes.

A way is a decomposition of the tensor of matrix multiplication. Row r of U says what is added up of the first matrix (its rows, one after the other), row r of
V what of the second; the two sums are multiplied, and row r of W says how often the product is added to each entry of the result. The number of
rows is the number of products. The schoolbook takes n·m·p.

A decomposition is right or it is not: the entries, rounded to halves, are multiplied out in whole numbers. What is only nearly right counts as the
schoolbook's products less at most 0.9, by how much smaller its error is than that of a schoolbook from which as many products were
left out. So there is a slope, and nothing that is only nearly right is ever worth as much as one product saved.
"""

import importlib.util

import numpy as np

SHAPE = (2, 2, 2)
"""Rows of the first matrix, its columns, columns of the second. (2, 2, 2): 7 is least. (3, 3, 3): 23 is the best that is known."""
LARGEST = 1000.0
"""Magnitude of an entry."""


def evaluate(program_path):
    """``cost`` as above, ``products`` (one more than the schoolbook's where the decomposition is not exact), and ``error``.

    Raises:
        ValueError: what the program returned are no factors.
    """
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return measured(*factors(program.decompose(*SHAPE)))


def measured(u, v, w):
    """Metrics of a decomposition.

    Args:
        u: shape (rank, n·m); v: shape (rank, m·p); w: shape (rank, n·p), floats.
    """
    n, m, p = SHAPE
    school, rank = n * m * p, len(u)
    target = tensor()
    if rank <= school:
        twice = [np.rint(2 * f).astype(np.int64) for f in (u, v, w)]
        if (np.einsum("ra,rb,rc->abc", *twice) == 8 * target).all():
            return {"cost": float(rank), "products": rank, "error": 0.0}
    error = float(((np.einsum("ra,rb,rc->abc", u, v, w) - target) ** 2).sum()) / school
    left_out = (school - rank) / school
    share = min(error / left_out, 2.0) if rank < school else 2.0
    return {"cost": school - 0.9 + 0.9 * share, "products": school + 1, "error": error}


def tensor():
    """1 where an entry of the first matrix times one of the second belongs into one of the result; shape (n·m, m·p, n·p)."""
    n, m, p = SHAPE
    target = np.zeros((n * m, m * p, n * p), dtype=np.int64)
    for i in range(n):
        for j in range(m):
            for k in range(p):
                target[i * m + j, j * p + k, i * p + k] = 1
    return target


def factors(given):
    """U, V and W as arrays of floats.

    Raises:
        ValueError: they are something else.
    """
    n, m, p = SHAPE
    if not isinstance(given, (list, tuple)) or len(given) != 3:
        raise ValueError("a decomposition is three arrays, U, V and W")
    found = []
    for name, one, width in zip("UVW", given, (n * m, m * p, n * p)):
        array = np.asarray(one)
        if array.dtype.kind not in "fiu" or array.ndim != 2 or array.shape[1] != width:
            raise ValueError(f"{name} is numbers of shape (rank, {width}), not {array.dtype} of shape {array.shape}")
        array = array.astype(np.float64)
        if not (np.abs(array) <= LARGEST).all():
            raise ValueError(f"{name} has entries that are not finite, or beyond {LARGEST:g}")
        found.append(array)
    if len({len(array) for array in found}) != 1 or not len(found[0]) <= 4 * n * m * p:
        raise ValueError(f"U, V and W have {[len(a) for a in found]} rows: it must be the same number, at most {4 * n * m * p}")
    return found
