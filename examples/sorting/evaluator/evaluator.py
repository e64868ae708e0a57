"""Measures a sorting network: the comparators that it has, where it sorts.

That it sorts is proved, not tried: a network that sorts every sequence of zeros and ones sorts every sequence (Knuth, The Art of Computer
Programming, volume 3, 5.3.4, theorem Z), and there are 2**n of those.
"""

import importlib.util

import numpy as np

SIZE = 8
"""Inputs; 16 is the most that is still quick. Fewest comparators known for 4 to 16: 5 9 12 16 19 25 29 35 39 45 51 56 60, proved up to 12."""
MOST = 10 * SIZE**2
"""Comparators that are looked at."""


def evaluate(program_path):
    """``comparators``, and ``depth``: the steps that they take where those that touch different inputs go at once.

    Raises:
        ValueError: it is no network, or does not sort.
    """
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    network = checked(program.network(SIZE))
    wrong = unsorted(network)
    if wrong:
        raise ValueError(f"{wrong} of {2**SIZE} sequences of zeros and ones are not sorted by these {len(network)} comparators")
    return {"comparators": len(network), "depth": depth(network)}


def checked(given):
    """The network as a list of pairs of plain integers.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(given, (list, tuple, np.ndarray)) or len(given) > MOST:
        raise ValueError(f"a network is a list of at most {MOST} pairs")
    network = []
    for pair in given:
        if not isinstance(pair, (list, tuple, np.ndarray)) or len(pair) != 2:
            raise ValueError(f"a comparator is a pair, not {pair!r:.60}")
        if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in pair):
            raise ValueError(f"a comparator is a pair of integers, not {pair!r:.60}")
        i, j = map(int, pair)
        if not 0 <= i < j < SIZE:
            raise ValueError(f"a comparator is a pair (i, j) with 0 <= i < j < {SIZE}, not {(i, j)}")
        network.append((i, j))
    return network


def unsorted(network):
    """How many of all sequences of zeros and ones it leaves unsorted."""
    numbers = np.arange(2**SIZE)
    lines = [(numbers >> i & 1).astype(bool) for i in range(SIZE)]
    for i, j in network:
        lines[i], lines[j] = lines[i] & lines[j], lines[i] | lines[j]
    wrong = np.zeros(2**SIZE, dtype=bool)
    for before, after in zip(lines, lines[1:]):
        wrong |= before & ~after
    return int(wrong.sum())


def depth(network):
    """Steps when every comparator goes as early as it can."""
    busy = [0] * SIZE
    for i, j in network:
        busy[i] = busy[j] = 1 + max(busy[i], busy[j])
    return max(busy)
