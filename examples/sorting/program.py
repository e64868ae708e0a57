"""A sorting network for 8 numbers: which two are compared, one pair after the other. The fewer the better."""

# EVOLVE-BLOCK-START


def pairs(n):
    """Bubble sort: neighbours, again and again."""
    found = []
    for end in range(n - 1, 0, -1):
        for i in range(end):
            found.append((i, i + 1))
    return found


# EVOLVE-BLOCK-END


def network(n):
    """Pairs (i, j) with i < j < n, in order: the smaller of the two goes to i, the larger to j."""
    return pairs(n)
