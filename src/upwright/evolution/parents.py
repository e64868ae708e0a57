"""Which candidate to go on from: by how well it and all that came of it did, not by its own score alone.

A program's *clade* is itself and its descendants. Outcomes are pooled over the clade, a rate is drawn for each program in question from
Beta(1 + right, 1 + wrong), and the highest draw is taken, so that a program that little came of still gets its turn and one whose
children keep failing loses it. An outcome is a number in [0, 1]: the share of the programs judged lately that are worse, 0 for one that failed.

Source: the Huxley-Gödel Machine (Wang et al. 2025, arXiv 2510.21614): clade metaproductivity and its Thompson sampling.
Departures: outcomes are ranks, since scores of one task crowd together; a program may have several parents, and counts once in
the clade of each; only the nearest :data:`CLADE` ancestors hear of an outcome, so that it costs the same however old the tree; and
what is drawn between is a short list, the best of an island and a few others.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

CLADE = 64
"""Ancestors that hear of an outcome, nearest first."""
BEST, OTHERS = 8, 4
"""Length of the short list: the best of an island, and others at random."""
GREED = 0.25
"""How often the best of all is taken without a draw."""
LATELY = 200
"""Programs judged lately, among which an outcome is a rank."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes added up: their sum, how many there were, and how many bodies or programs had them."""

    right: float
    asked: int
    bodies: int = 1

    @property
    def rate(self) -> float:
        """Mean outcome in [0, 1]; 0 where there was none."""
        return self.right / self.asked if self.asked else 0.0


def drawn(tallies: Mapping[str, Tally], rng: random.Random) -> dict[str, float]:
    """A rate for each candidate, drawn from Beta(1 + right, 1 + wrong); the order of ``tallies`` does not matter."""
    return {
        name: rng.betavariate(1.0 + tallies[name].right, 1.0 + tallies[name].asked - tallies[name].right)
        for name in sorted(tallies)
    }


def chosen(draws: Mapping[str, float]) -> str:
    """The candidate with the highest draw; of equals the one that sorts first.

    Raises:
        ValueError: there is none.
    """
    return min(draws, key=lambda name: (-draws[name], name))


def ancestors(number: int, parents_of: Callable[[int], Sequence[int]], most: int = CLADE) -> list[int]:
    """The candidate and its ancestors, nearest first, each once, at most ``most`` + 1."""
    found, left = {number: None}, deque([number])
    while left:
        for parent in parents_of(left.popleft()):
            if parent not in found:
                if len(found) > most:
                    return list(found)
                found[parent] = None
                left.append(parent)
    return list(found)


class Standing:
    """Ranks of scores among the last :data:`LATELY`."""

    def __init__(self, scores: Iterable[float | None] = ()) -> None:
        self._last: deque[float] = deque()
        self._sorted: list[float] = []
        for score in scores:
            self.add(score)

    def add(self, score: float | None) -> float:
        """Take in a score, and give its outcome in [0, 1]: the share of those before it that are worse, half of its equals."""
        if score is None:
            rank, value = 0.0, -1.0
        else:
            low, high, value = bisect_left(self._sorted, score), bisect_right(self._sorted, score), score
            rank = (low + high) / (2 * len(self._sorted)) if self._sorted else 0.5
        if len(self._last) == LATELY:
            del self._sorted[bisect_left(self._sorted, self._last.popleft())]
        self._last.append(value)
        self._sorted.insert(bisect_left(self._sorted, value), value)
        return rank


def short_list(elites: Sequence[tuple[float, int]], rng: random.Random) -> list[int]:
    """Numbers of the best of an island, and of some others.

    Args:
        elites: (score, number) of the candidates that hold a cell.
    """
    ranked = sorted(elites, key=lambda one: (-one[0], one[1]))
    others = ranked[BEST:]
    return [number for _, number in [*ranked[:BEST], *rng.sample(others, min(OTHERS, len(others)))]]


def choose(elites: Sequence[tuple[float, int]], tally: Callable[[int], Tally], best: int, rng: random.Random) -> int:
    """The number of the candidate to go on from.

    Args:
        elites: (score, number) of the candidates that hold a cell of the island whose turn it is.
        tally: a candidate's clade.
        best: the best of all.
    """
    if not elites or rng.random() < GREED:
        return best
    names = {f"{number:012}": number for number in short_list(elites, rng)}
    return names[chosen(drawn({name: tally(number) for name, number in names.items()}, rng))]
