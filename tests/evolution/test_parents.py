from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.evolution.parents import (
    BEST,
    CLADE,
    GREED,
    LATELY,
    OTHERS,
    Standing,
    Tally,
    ancestors,
    choose,
    short_list,
)
from upwright.levers._clades import clades
from upwright.levers.base import Relative
from upwright.records import Rung


class Tree:
    """A family in which every candidate's outcome is known."""

    def __init__(self, parents: list[list[int]], outcomes: list[float]) -> None:
        self.parents, self.outcomes = parents, outcomes
        self.right, self.asked = [0.0] * len(parents), [0] * len(parents)
        for number, outcome in enumerate(outcomes):
            for one in ancestors(number, parents.__getitem__):
                self.right[one] += outcome
                self.asked[one] += 1

    def tally(self, number: int) -> Tally:
        return Tally(self.right[number], self.asked[number], self.asked[number])

    def share(self, number: int, elites: list[tuple[float, int]], best: int, draws: int = 300) -> float:
        rng = random.Random(1)
        return sum(choose(elites, self.tally, best, rng) == number for _ in range(draws)) / draws


FAMILIES = st.lists(st.tuples(st.lists(st.integers(0, 100), max_size=3), st.floats(0, 1)), min_size=1, max_size=14)


def grown(drawn: list[tuple[list[int], float]]) -> Tree:
    parents = [sorted({p % i for p in found}) if i else [] for i, (found, _) in enumerate(drawn)]
    return Tree(parents, [outcome for _, outcome in drawn])


@given(FAMILIES)
@settings(deadline=None)
def test_tallies_that_grow_with_each_outcome_are_those_of_whole_clades(drawn: list[tuple[list[int], float]]) -> None:
    tree = grown(drawn)
    archive = [
        Relative(str(n), tuple(map(str, tree.parents[n])), n, "x", Rung.EXECUTION, {"t": tree.outcomes[n]})
        for n in range(len(drawn))
    ]
    for name, pooled in clades(archive, [relative.digest for relative in archive]).items():
        own = tree.tally(int(name))
        assert own.right == pytest.approx(pooled.right)
        assert own.asked == pooled.bodies


@given(st.integers(1, 300), st.integers(1, 80))
@settings(deadline=None)
def test_only_the_nearest_hear_of_it(depth: int, most: int) -> None:
    found = ancestors(depth, lambda n: [n - 1] if n else [], most)
    assert found == list(range(depth, max(-1, depth - most - 1), -1))
    assert CLADE >= 32


def test_each_ancestor_hears_once() -> None:
    parents = [[], [0], [0], [1, 2], [3, 0]]
    assert ancestors(4, parents.__getitem__) == [4, 3, 0, 1, 2]


@given(st.integers(2, 8), st.integers(8, 40), st.floats(0.5, 0.9))
@settings(deadline=None, max_examples=20)
def test_the_one_whose_descendants_do_best_is_chosen_most(rivals: int, children: int, good: float) -> None:
    """The known best has the lowest score of its own; its children do well and the others' do not."""
    parents: list[list[int]] = [[] for _ in range(rivals)]
    outcomes = [0.9] * (rivals - 1) + [0.5]
    for root in range(rivals):
        parents += [[root]] * children
        outcomes += [good + 0.1 if root == rivals - 1 else 0.1] * children
    tree = Tree(parents, outcomes)
    elites = [(1.0 - 0.1 * number, number) for number in range(rivals)]
    shares = [tree.share(number, elites, best=0) for number in range(rivals)]
    assert max(range(rivals), key=lambda n: shares[n] - GREED * (n == 0)) == rivals - 1


@given(st.integers(1, 12), st.integers(0, 12), st.floats(0, 1))
@settings(deadline=None, max_examples=20)
def test_more_failures_never_make_a_candidate_likelier(good: int, bad: int, other: float) -> None:
    def share(failures: int) -> float:
        parents: list[list[int]] = [[], []] + [[0]] * (good + failures) + [[1]] * 5
        return Tree(parents, [0.5, 0.5] + [1.0] * good + [0.0] * failures + [other] * 5).share(
            0, [(0.5, 0), (0.5, 1)], 1
        )

    assert share(bad + 6) <= share(bad) + 0.1  # of 300 draws each


def test_one_of_which_little_came_gets_its_turn() -> None:
    tree = Tree([[], []] + [[0]] * 10, [0.6, 0.6] + [0.5] * 10)
    assert tree.share(1, [(0.6, 0), (0.6, 1)], best=0) > 0.25


def climbed(by_clade: bool, seed: int) -> float:
    """The best score that 150 choices find where one line leads up and the others down; it begins lowest."""
    rng, standing = random.Random(seed), Standing()
    scores, line = [0.55] * 5 + [0.5], list(range(6))
    outcomes = [standing.add(score) for score in scores]
    parents: list[list[int]] = [[] for _ in scores]
    right, asked = outcomes[:], [1] * len(scores)

    def tally(number: int) -> Tally:
        return Tally(right[number], asked[number]) if by_clade else Tally(outcomes[number], 1)

    for number in range(6, 156):
        elites = list(zip(scores, range(number)))
        parent = choose(elites, tally, max(elites)[1], rng)
        parents.append([parent])
        line.append(line[parent])
        scores.append(scores[parent] + (0.01 if line[parent] == 5 else -0.03) + rng.gauss(0, 0.02))
        outcomes.append(standing.add(scores[-1]))
        right.append(0.0)
        asked.append(0)
        for one in ancestors(number, parents.__getitem__):
            right[one] += outcomes[-1]
            asked[one] += 1
    return max(scores)


def test_on_a_tree_with_a_known_best_clades_find_it_and_own_scores_do_not() -> None:
    clade, own = (sum(climbed(by_clade, seed) for seed in range(10)) / 10 for by_clade in (True, False))
    assert clade > own + 0.05


@given(st.lists(st.none() | st.integers(0, 5).map(float), max_size=2 * LATELY))
@settings(deadline=None)
def test_ranks_are_shares_of_the_last_ones(scores: list[float | None]) -> None:
    standing = Standing()
    for index, score in enumerate(scores):
        before = [-1.0 if s is None else s for s in scores[max(0, index - LATELY) : index]]
        rank = standing.add(score)
        if score is None:
            assert rank == 0.0
        elif before:
            worse = sum(s < score for s in before) + 0.5 * sum(s == score for s in before)
            assert rank == pytest.approx(worse / len(before))
        else:
            assert rank == 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
@settings(deadline=None)
def test_the_short_list_has_the_best_and_some_others(scores: list[float]) -> None:
    elites = [(score, number) for number, score in enumerate(scores)]
    found = short_list(elites, random.Random(0))
    assert len(found) == len(set(found)) == min(len(scores), BEST + OTHERS)
    ranked = sorted(elites, key=lambda one: (-one[0], one[1]))
    assert found[:BEST] == [number for _, number in ranked[:BEST]]


def test_without_elites_it_is_the_best() -> None:
    assert choose([], lambda number: Tally(0, 0), 3, random.Random(0)) == 3
