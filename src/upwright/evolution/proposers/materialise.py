"""Arrays that a program computes are made into numbers of its source, and tuned by what the program itself returns.

A program is run once, watched. An array that it computes becomes a literal (:mod:`._arms`), the computing of it goes, and the numbers
climb (:mod:`._climb`) for some seconds in a run of their own, by a number that one of the program's functions returns: the one that
is the metric, if there is one, else any, in either direction. What comes out is a draft like every other, with numbers in the
place of code and no search in it. Whether the number that was climbed by means anything, the evaluator says: a climb that
left the ground (a sum of which the evaluator thinks otherwise) is a draft without a score.

A program that has such numbers climbs to a maximum first, in runs that double in length; from there it is kicked over a valley, or
its numbers get company. Which of these, and which change, is drawn by Thompson sampling on what has brought gains.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

import libcst as cst

from upwright.evolution.proposers._arms import Arm, arms, changed, sites_of
from upwright.evolution.proposers._climb import PATIENCE
from upwright.evolution.proposers._literals import Literal, literals, skeleton, written
from upwright.evolution.proposers._source import Source, source_of, sources
from upwright.evolution.proposers._trace import (
    Bench,
    Climb,
    Climbed,
    Measure,
    Trace,
    climbing,
    read_climb,
    read_trace,
    watched,
)
from upwright.evolution.proposers.base import Brief, Draft, Program, Result
from upwright.evolution.records import program_digest

SECONDS = 45.0
"""Of the processor, for one climb at most; half as many after a run that was cut short."""
SHORTEST = 1.0
FIRST = 80
"""Evaluations for each number in the first climb; a climb over a valley gets :data:`VALLEY`."""
VALLEY = 500
SLACK = 10.0
"""Further seconds that a run may take, for the start and for the evaluator."""
MOST = 400
"""Numbers that climb at once."""
ASIDE = 0.1
"""How often something else is tried with a program that is on its way uphill."""
HOPELESS = 0.1
"""Nothing is tried whose chance of a gain was drawn below this."""
DATA = 8
"""Numbers in a list of a program that has data: only its arrays get company, for without data they are better frozen."""
CLIMB, KICK = "climb", "kick"
"""To climb over the numbers that are there: uphill, or from a maximum over a valley."""


@dataclass(slots=True)
class _Known:
    """What is known of programs that differ in numbers alone.

    Attributes:
        more: how many times as long as the first the next climb may take.
        tried: names of arms that were tried.
    """

    more: float = 1.0
    tried: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Try:
    """A change that is to be climbed from."""

    kind: str
    program: Program
    arm: Arm | None
    measure: Measure
    path: str
    key: str = ""

    @property
    def name(self) -> str:
        """What its gains are counted by: the change, or for a climb the program but for its numbers."""
        return self.arm.name if self.arm else f"{self.kind} {self.key[:16]}"


class Materialise:
    """The ``materialise`` proposer.

    ``propose`` takes as long as a climb; it is deterministic but for what the bench prints.

    Args:
        bench: runs programs as candidates are run.
        workers: climbs at the same time.
        seconds: of the processor, for one climb at most; fewer where the evaluator's own limit turns out to be shorter.
    """

    name = "materialise"
    cost = 10.0

    def __init__(self, bench: Bench, workers: int = 2, seconds: float = SECONDS) -> None:
        self.bench, self.workers, self.seconds = bench, workers, seconds
        self._known: dict[str, _Known] = {}
        self._traces: dict[tuple[str, str], Trace | None] = {}
        self._settled: set[str] = set()
        self._asked: dict[str, tuple[str, float]] = {}
        self._plain: dict[str, Draft] = {}
        """Digest of a climbed draft → the same without the climb, until it is known what came of it; ``""`` → to be told next."""
        self._paid: dict[str, list[float]] = {}

    def propose(self, brief: Brief) -> Sequence[Draft]:
        """Up to ``workers`` programs whose numbers have climbed."""
        if brief.parent.score is None:
            return []
        if (plain := self._plain.pop("", None)) is not None:
            return [plain]
        wanted: list[_Try] = []
        for _ in range(min(brief.n, self.workers)):
            if (chosen := self._choose(brief, {t.name for t in wanted})) is not None:
                wanted.append(chosen)
        seeds = [brief.rng.getrandbits(64) for _ in wanted]
        with ThreadPoolExecutor(max_workers=self.workers) as pool:
            found = list(pool.map(lambda t, seed: self._climb(t, brief, seed), wanted, seeds))
        drafts: dict[str, Draft] = {}
        for tried, draft in zip(wanted, found, strict=True):
            digest = program_digest(draft.program) if draft else ""
            if draft is None or digest == brief.parent.digest or digest in drafts:
                self._learn(tried.name, False)
                continue
            drafts[digest] = draft
            self._asked[digest] = tried.name, brief.parent.score
        return list(drafts.values())

    def told(self, draft: Draft, result: Result) -> None:
        """Learn which kinds of change bring gains."""
        digest = program_digest(draft.program)
        known, plain = self._asked.pop(digest, None), self._plain.pop(digest, None)
        if known is not None:
            gained = result.score is not None and result.score > known[1]
            self._learn(known[0], gained)
            if plain is not None and not gained:
                self._plain[""] = plain

    def _learn(self, name: str, gained: bool) -> None:
        """Count a gain or a failure of a change and of its kind; what was long ago fades."""
        for key in {name, name.split()[0]}:
            good, bad = self._paid.get(key, [0.0, 0.0])
            self._paid[key] = [0.95 * good + gained, 0.95 * bad + (not gained)]

    def _luck(self, name: str, rng: random.Random) -> float:
        """A draw of how likely a change is to bring a gain; what is known of its kind counts for one try."""
        good, bad = self._paid.get(name.split()[0], [0.0, 0.0])
        kind = (1 + good) / (2 + good + bad)
        good, bad = self._paid.get(name, [0.0, 0.0])
        return rng.betavariate(good + kind + 0.1, bad + 1.1 - kind)

    def _choose(self, brief: Brief, taken: set[str]) -> _Try | None:
        """What to try next with this parent; something else than what is ``taken`` for the same ask, where there is anything."""
        options: list[_Try] = []
        for source in sources(brief.parent.program, brief.scope):
            trace = self._trace(source, brief)
            measure = _measure(trace, brief) if trace else None
            if trace is None or measure is None:
                continue
            own = _inside(literals(brief.parent.program, brief.scope), source)
            uphill = bool(own) and own[0].display >= 0 and brief.parent.digest not in self._settled
            if own:
                kind = CLIMB if brief.parent.digest not in self._settled else KICK
                key = skeleton(brief.parent.program, literals(brief.parent.program, brief.scope))
                options.append(_Try(kind, brief.parent.program, None, measure, source.path, key))
            if not uphill or taken or brief.rng.random() < ASIDE:
                data = max(Counter(n.display for n in own if n.display >= 0).values(), default=0) >= DATA
                options += [t for t in self._untried(source, trace, brief, measure) if data or t.kind == "freeze"]
        if not options:
            return None
        options = [option for option in options if option.name not in taken] or options
        drawn = [self._luck(option.name, brief.rng) for option in options]
        chosen = options[drawn.index(max(drawn))]
        if max(drawn) < HOPELESS:
            return None
        if chosen.arm is not None:
            self._of(brief.parent.program, brief).tried.add(chosen.arm.name)
        return chosen

    def _untried(self, source: Source, trace: Trace, brief: Brief, measure: Measure) -> list[_Try]:
        tried = self._of(brief.parent.program, brief).tried
        found = []
        for arm, seen in arms(source, trace):
            if arm.name not in tried and (program := changed(source, brief.parent.program, arm, seen)) is not None:
                found.append(_Try(arm.kind, program, arm, measure, source.path))
        return found

    def _of(self, program: Program, brief: Brief) -> _Known:
        key = skeleton(program, literals(program, brief.scope))
        return self._known.setdefault(key, _Known())

    def _trace(self, source: Source, brief: Brief) -> Trace | None:
        """What a watched run of the parent shows."""
        key = brief.parent.digest, source.path
        if key not in self._traces:
            nonce = brief.rng.getrandbits(128)
            program = {**brief.parent.program, source.path: watched(source, sites_of(source), nonce)}
            self._traces[key] = read_trace(self.bench(program, PATIENCE * self.seconds + SLACK), nonce)
            while len(self._traces) > 256:
                del self._traces[next(iter(self._traces))]
        return self._traces[key]

    def _climb(self, tried: _Try, brief: Brief, seed: int) -> Draft | None:
        """A climb's end as a draft."""
        source = source_of(tried.path, tried.program[tried.path], brief.scope)
        if source is None:
            return None
        numbers = _inside(literals(tried.program, brief.scope), source)
        each = VALLEY if tried.kind == KICK else FIRST * self._of(tried.program, brief).more
        limits = round(each * len(numbers)), self.seconds
        how = Climb(tried.measure, numbers, _steps(numbers), _rows(numbers), limits, tried.kind == KICK, seed % 2**31)
        nonce = random.Random(seed).getrandbits(128)
        printed = self.bench(
            {**tried.program, tried.path: climbing(source, how, nonce)}, PATIENCE * self.seconds + SLACK
        )
        end = read_climb(printed, nonce, len(numbers)) if numbers else None
        if end is not None and not end.done:
            self.seconds = max(SHORTEST, min(self.seconds, how.limits[1] / 2))
        return None if end is None else self._ended(tried, end, numbers, brief)

    def _ended(self, tried: _Try, end: Climbed, numbers: Sequence[Literal], brief: Brief) -> Draft | None:
        program = written(tried.program, numbers, end.point)
        if end.settled:
            self._settled.add(program_digest(program))
        elif tried.kind == CLIMB:
            self._of(program, brief).more *= 2
        if not end.value > end.start:
            return None
        if tried.kind == "freeze":
            self._plain[program_digest(program)] = self._draft(tried, tried.program, "", brief)
        sign = tried.measure.sign
        told = (
            f"; {len(numbers)} numbers climbed by what {tried.measure.function} returns, {sign * end.start:.6g} →"
            f" {sign * end.value:.6g} in {end.used} evaluations"
        )
        return self._draft(tried, program, told, brief)

    def _draft(self, tried: _Try, program: Program, told: str, brief: Brief) -> Draft:
        what = tried.arm.name if tried.arm else {CLIMB: "went on", KICK: "went on over a valley"}[tried.kind]
        return Draft(program, self.name, what + told, (brief.parent.digest,), what + told)


def _measure(trace: Trace, brief: Brief) -> Measure | None:
    """The returned number to climb by: equal to the metric, else to another of the evaluator's, else any."""
    returned = {(name, tuple(path)): number for name, parts in reversed(trace.calls) for path, number in parts}
    if not returned:
        return None
    metrics = brief.parent.metrics
    sign = 1 if brief.direction == "max" else -1
    for name in (brief.metric, *(m for m in metrics if m != brief.metric)):
        value = metrics.get(name)
        same = [
            k for k, number in returned.items() if value is not None and abs(number - value) <= 1e-9 * (1 + abs(value))
        ]
        if same:
            return Measure(*same[0], sign)
    function, path = brief.rng.choice(sorted(returned, key=repr))
    return Measure(function, path, brief.rng.choice((1, -1)))


def _inside(numbers: Sequence[Literal], source: Source) -> list[Literal]:
    """The floats of a file's functions that climb: those in lists of data, or all where there are none."""
    spans = [source.spans[node] for node in source.tree.body if isinstance(node, cst.FunctionDef)]
    own = [n for n in numbers if n.path == source.path and not n.whole and any(n.span in span for span in spans)]
    data = [n for n in own if n.display >= 0]
    return (data or own)[:MOST]


def _steps(numbers: Sequence[Literal]) -> list[float]:
    """A step for each number that is neither small nor large: a quarter of what its list spans, or of itself."""
    found = []
    for number in numbers:
        items = [n.value for n in numbers if n.display == number.display] if number.display >= 0 else [number.value]
        size = (max(items) - min(items)) / 4 or abs(number.value) / 4
        found.append(size or 0.25)
    return found


def _rows(numbers: Sequence[Literal]) -> list[tuple[int, int, int]]:
    """The lists of data among the numbers, as (first, numbers in a row, rows); a row is what stands in an inner list."""
    found: list[tuple[int, int, int]] = []
    start = 0
    while start < len(numbers):
        first = numbers[start]
        stop = start + 1
        while first.display >= 0 and stop < len(numbers) and numbers[stop].display == first.display:
            stop += 1
        widths = [len(list(row)) for _, row in groupby(numbers[start:stop], key=lambda n: n.row)]
        width = widths[0] if len(widths) > 1 and len(set(widths)) == 1 else 1
        found.append((start, width, (stop - start) // width))
        start = stop
    return found
