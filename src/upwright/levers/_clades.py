"""Which relative to go on from, and which to keep in view: pure functions on the tree of a run's children.

A body is judged by its *clade*, itself and all that came of it: what a body can become shows in its descendants, and its own
score is a poor guide to that. Outcomes are pooled over the clade, a rate is drawn for every candidate from
Beta(1 + right, 1 + wrong), and the highest draw is taken, so that a body that few came of still gets its turn.

Source: the Huxley-Gödel Machine (Wang et al. 2025, arXiv 2510.21614): clade metaproductivity and its Thompson sampling.
Departures: there are no cycles of scheduled evaluations, a child is evaluated once, on the practice exam; the draw is not sharpened as the budget
runs out; a score between 0 and 1 counts as that much right; a body may have several parents (an average of weights
does), and then counts once in the clade of each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from upwright.evolution.parents import Tally, chosen, drawn
from upwright.levers.base import Relative

__all__ = ["Tally", "chosen", "clade", "clades", "diverse", "drawn", "own", "owns"]


def own(relative: Relative) -> Tally:
    """A body's own outcomes."""
    return Tally(sum(relative.scores.values()), len(relative.scores))


def clade(archive: Sequence[Relative], digest: str) -> frozenset[str]:
    """The body and all that descends from it, by digest; just the body where nothing does."""
    children: dict[str, list[str]] = {}
    for relative in archive:
        for parent in relative.parents:
            children.setdefault(parent, []).append(relative.digest)
    found, left = {digest}, [digest]
    while left:
        for child in children.get(left.pop(), ()):
            if child not in found:
                found.add(child)
                left.append(child)
    return frozenset(found)


def clades(archive: Sequence[Relative], candidates: Collection[str]) -> dict[str, Tally]:
    """Candidate → the outcomes of its whole clade, every body in it counted once.

    Raises:
        ValueError: a candidate is not in the archive.
    """
    each = {relative.digest: own(relative) for relative in archive}
    if strangers := sorted(set(candidates) - each.keys()):
        raise ValueError(f"not in the archive: {strangers[0]}")
    return {name: _pooled([each[member] for member in sorted(clade(archive, name))]) for name in sorted(candidates)}


def owns(archive: Sequence[Relative], candidates: Collection[str]) -> dict[str, Tally]:
    """Candidate → its own outcomes alone: what a clade is compared with, and a control chooses by."""
    return {relative.digest: own(relative) for relative in archive if relative.digest in candidates}


def _pooled(tallies: Sequence[Tally]) -> Tally:
    return Tally(
        sum(t.right for t in tallies), sum(t.asked for t in tallies), sum(t.bodies for t in tallies)
    )  # fmt: skip


def diverse(relatives: Sequence[Relative], n: int) -> list[Relative]:
    """At most ``n`` relatives that together solve the most: greedily, each the one that adds most to those before it.

    What is added up is the best score on each task (maximum coverage; greedy is within 1 − 1/e of the best choice, Nemhauser et
    al. 1978). Where nothing more is added the higher own score is next, then the digest that sorts first; the order of
    ``relatives`` does not matter.
    """
    left = {relative.digest: relative for relative in relatives}
    picked: list[Relative] = []
    covered: dict[str, float] = {}
    while left and len(picked) < n:
        best = min(left.values(), key=lambda r: (-_adds(r, covered), -own(r).rate, r.digest))
        picked.append(left.pop(best.digest))
        covered.update({task: max(score, covered.get(task, 0.0)) for task, score in best.scores.items()})
    return picked


def _adds(relative: Relative, covered: Mapping[str, float]) -> float:
    """Score on the exam that it would add; rounded, so that the order in which it is summed decides nothing."""
    return round(sum(max(0.0, score - covered.get(task, 0.0)) for task, score in relative.scores.items()), 9)
