"""Numbers in the source, tuned by CMA-ES (Hansen & Ostermeier 2001) with restarts in growing populations (IPOP, Auger & Hansen 2005).

One search goes on for all programs that differ in their numbers alone, whichever of them is the parent. A number outside of a list of
data moves on a logarithmic scale and so keeps its sign; an integer stays one, and at least 2; a number in a list of data moves by what the list
spans. Only the order of the scores counts.

A generation is as many members as the population has, in the order in which they were judged: the search does not wait for
slow ones, which count in the next. Who failed or was refused ranks last.
Departure from the source: the covariance is a full one up to :data:`FULL` numbers, above it is diagonal (sep-CMA-ES, Ros & Hansen 2008).
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from upwright.errors import MissingExtra
from upwright.evolution.proposers._literals import Literal, literals, skeleton, written
from upwright.evolution.proposers.base import Brief, Candidate, Draft, Program, Result, Scope
from upwright.evolution.records import program_digest

MOST = 400
"""Numbers tuned at once."""
FULL = 150
STEP = 0.3
"""First standard deviation, in units of each number's own scale; :data:`CLOSE` for a search that goes on from one that was tuned."""
CLOSE = 0.05
KEPT = 32
"""Searches that are remembered; the one that was asked longest ago is dropped."""
WIDEST = 8
"""Most that a population grows by, as a multiple of the first."""
MAGNITUDES = (20.0, 3.0)
"""Most that the logarithm of a number may change by; that of an integer, which may be a size or a count."""
_NOTE = "CMA-ES on {numbers} numbers, step {sigma:.3g}"
_SIGMA = re.compile(r"CMA-ES on \d+ numbers, step ([0-9.e+-]+)$")


class Constants:
    """The ``constants`` proposer.

    Args:
        most: numbers tuned at once.

    Raises:
        MissingExtra: ``cma`` is not installed.
    """

    name = "constants"
    cost = 0.001

    def __init__(self, most: int = MOST) -> None:
        try:
            import cma  # noqa: F401
        except ImportError:
            raise MissingExtra("cma", "evolve") from None
        self.most = most
        self._searches: OrderedDict[str, _Search] = OrderedDict()
        self._asked: dict[str, tuple[_Search, _Member]] = {}
        self._heard: dict[str, tuple[float, Program, float]] = {}
        """Parent's digest → best score, program and step that were told of before this proposer was asked."""

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """The next members of the population of the parent's search."""
        numbers = literals(brief.parent.program, brief.scope, self.most)
        if not numbers or brief.parent.score is None:
            return []
        search = self._search(brief.parent, numbers, brief)
        drafts: list[Draft] = []
        for _ in range(2 * brief.n):  # some members are the same program, after rounding
            if len(drafts) == brief.n:
                break
            member = search.next()
            program = written(brief.parent.program, numbers, member.values)
            digest = program_digest(program)
            if digest == brief.parent.digest or digest in self._asked:
                search.hear(member, None)
                continue
            note = _NOTE.format(numbers=len(numbers), sigma=search.sigma)
            drafts.append(Draft(program, self.name, note, (brief.parent.digest,), _told(numbers, member.values)))
            self._asked[digest] = search, member
        return drafts

    def told(self, draft: Draft, result: Result) -> None:
        """Rank a member; what nobody here asked for is from before an interruption, and where a search goes on from."""
        known = self._asked.pop(program_digest(draft.program), None)
        if known is not None:
            known[0].hear(known[1], result.score)
            return
        found = _SIGMA.search(draft.note)
        if found and draft.parents and result.score is not None:
            best = self._heard.get(draft.parents[0])
            if best is None or result.score > best[0]:
                self._heard[draft.parents[0]] = result.score, draft.program, float(found[1])

    def _search(self, parent: Candidate, numbers: tuple[Literal, ...], brief: Brief) -> _Search:
        """The search that goes on for this parent."""
        key = skeleton(parent.program, numbers)
        search = self._searches.pop(key, None)
        assert parent.score is not None
        if search is None or search.overtaken(parent.score):
            start, step = self._start(parent, numbers, brief.scope)
            fresh = search is None and step is None
            search = _Search(
                numbers, start, (STEP if fresh else step or CLOSE), parent.score, brief.rng.getrandbits(32)
            )
        self._searches[key] = search
        while len(self._searches) > KEPT:
            self._searches.popitem(last=False)
        return search

    def _start(self, parent: Candidate, numbers: tuple[Literal, ...], scope: Scope) -> tuple[list[float], float | None]:
        """Where a search begins: the parent's numbers, or better ones of the same program from before an interruption."""
        own = [n.value for n in numbers]
        heard = self._heard.pop(parent.digest, None)
        if heard is None or parent.score is None or heard[0] < parent.score:
            return own, None
        others = literals(heard[1], scope, self.most)
        same = len(others) == len(numbers)
        return ([n.value for n in others] if same else own), heard[2]


@dataclass(slots=True, eq=False)
class _Member:
    """A point of a generation."""

    point: Any
    values: list[float]
    epoch: int
    score: float | None = None


@dataclass(slots=True)
class _Scale:
    """How one number moves with its coordinate z: ``start + size·z``, or ``start·exp(size·z)``."""

    start: float
    size: float
    exponential: bool
    whole: bool

    def value(self, z: float) -> float:
        most = MAGNITUDES[self.whole]
        power = min(most, max(-most, self.size * z))
        moved = self.start * math.exp(power) if self.exponential else self.start + self.size * z
        if not self.whole:
            return moved
        return math.copysign(max(2.0, abs(round(moved))), self.start) if self.exponential else float(round(moved))


def _scales(numbers: Sequence[Literal], values: Sequence[float]) -> list[_Scale]:
    """A sensible scale for each number."""
    displays: dict[int, list[float]] = {}
    for number, value in zip(numbers, values, strict=True):
        displays.setdefault(number.display, []).append(value)
    found = []
    for number, value in zip(numbers, values, strict=True):
        if number.display >= 0:
            items = displays[number.display]
            size = (max(items) - min(items)) / 4 or max(abs(v) for v in items) / 4 or 0.25
            found.append(_Scale(value, max(size, 1.0) if number.whole else size, False, number.whole))
        elif value == 0.0:
            found.append(_Scale(0.0, 1.0 if number.whole else 0.25, False, number.whole))
        else:
            found.append(_Scale(value, max(0.5, 1.5 / abs(value)) if number.whole else 0.5, True, number.whole))
    return found


@dataclass(slots=True)
class _Search:
    """One CMA-ES, with its restarts.

    Attributes:
        best: best score so far, the first parent's at the beginning; ``at``: its coordinates.
        waiting: members that nobody was given yet; ``heard``: judged ones that the strategy has not learned of.
        drawn: members drawn for this generation; ``epoch``: counts restarts.
    """

    numbers: tuple[Literal, ...]
    start: Sequence[float]
    step: float
    best: float
    seed: int
    at: Any = None
    scales: list[_Scale] = field(default_factory=list)
    times: int = 0
    strategy: Any = None
    waiting: list[_Member] = field(default_factory=list)
    heard: list[_Member] = field(default_factory=list)
    drawn: int = 0
    epoch: int = 0
    rng: Any = None

    def __post_init__(self) -> None:
        self.scales = _scales(self.numbers, self.start)
        self.at = np.zeros(len(self.numbers))
        self.rng = np.random.default_rng(self.seed)
        self._begin()

    @property
    def sigma(self) -> float:
        return float(self.strategy.sigma)

    def overtaken(self, score: float) -> bool:
        """Whether a parent is better than anything that this search has seen: then it came from elsewhere."""
        return score > self.best

    def next(self) -> _Member:
        """A member that nobody was given yet. While a generation is being judged further ones are drawn like it."""
        if not self.waiting:
            size = self.strategy.popsize
            if len(self.heard) >= size:
                self._turn(self.heard[:size])
            points = self.strategy.ask(1 if self.drawn >= size else size)
            self.drawn += len(points)
            made = [_Member(p, [s.value(float(z)) for s, z in zip(self.scales, p)], self.epoch) for p in points]
            self.waiting = made[::-1]
        return self.waiting.pop()

    def hear(self, member: _Member, score: float | None) -> None:
        """A member's score; one from before a restart only counts as the best so far."""
        member.score = score
        if member.epoch == self.epoch:
            self.heard.append(member)
        if score is not None and score > self.best:
            self.best, self.at = score, np.array(member.point)

    def _turn(self, members: Sequence[_Member]) -> None:
        """End a generation: the strategy learns of it, or begins again where it has converged."""
        scores = [m.score for m in members if m.score is not None]
        if not scores:
            self.step /= 2  # nobody lives so far away
            self._begin()
            return
        worst = -min(scores) + 1e-9 + (max(scores) - min(scores))
        self.strategy.tell([m.point for m in members], [worst if m.score is None else -m.score for m in members])
        self.heard = self.heard[len(members) :]
        self.drawn = len(self.heard)
        if self.strategy.stop():
            self.times = min(WIDEST, 2 * self.times)
            self.step = STEP
            self._begin()

    def _begin(self) -> None:
        import cma

        self.times = max(1, self.times)
        self.epoch += 1
        self.waiting, self.heard, self.drawn = [], [], 0
        size = self.times * (4 + int(3 * math.log(len(self.numbers) + 1)))
        options = {
            "verbose": -9, "popsize": size, "seed": np.nan, "randn": lambda *shape: self.rng.standard_normal(shape),
            "CMA_diagonal": len(self.numbers) > FULL, "tolfun": 1e-12, "tolfunhist": 1e-13, "tolx": 1e-9,
            "tolflatfitness": 20,
        }  # fmt: skip
        point = [*self.at, 0.0] if len(self.at) == 1 else self.at  # the strategy needs two dimensions
        self.strategy = cma.CMAEvolutionStrategy(list(map(float, point)), self.step, options)


def _told(numbers: Sequence[Literal], values: Sequence[float]) -> str:
    """What changed, for people: the numbers that moved most."""
    moves = sorted(zip(numbers, values), key=lambda pair: -abs(pair[1] - pair[0].value) / (abs(pair[0].value) + 1e-9))
    shown = ", ".join(f"{n.value:.6g} → {v:.6g}" for n, v in moves[:4])
    return shown + (f" and {len(moves) - 4} more" if len(moves) > 4 else "")
