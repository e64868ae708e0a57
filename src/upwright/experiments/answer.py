"""What the arms' outcomes say: paired differences, their intervals, and an answer in words.

The unit is the task: where one was asked several times, its differences are averaged first, so that asking again is not
taken for more tasks. The interval is one for a number of tasks fixed beforehand where the plan ran to its end, and a confidence sequence where
something else ended it; intervals of several arms hold together (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from upwright.experiments.plan import Plan
from upwright.records import Interval, Outcome
from upwright.warden.bounds import confidence_sequence, star_interval


class Says(StrEnum):
    """What one arm's interval says about it."""

    HELPS = "helps"
    HURTS = "hurts"
    SAME = "no difference that matters"
    OPEN = "not decided"


@dataclass(frozen=True, slots=True)
class Pairs:
    """One arm beside the first one.

    Attributes:
        differences: score of the arm − score of the first, in [−1, 1], one for each task. A task that the arm alone
            failed to answer counts −1; one that the first arm failed is left out.
        by_repeat: mean difference in each repeat; ``None`` where no task was scored by both.
        failed: answers that the arm alone failed; ``dropped``: pairs left out.
    """

    differences: tuple[float, ...]
    by_repeat: tuple[float | None, ...]
    failed: int
    dropped: int

    @staticmethod
    def of(base: Sequence[Sequence[Outcome]], arm: Sequence[Sequence[Outcome]]) -> Pairs:
        """Pair the outcomes of two arms on the same tasks."""
        by_task: dict[str, list[float]] = {}
        repeats: list[float | None] = []
        failed = dropped = 0
        for ours, theirs in zip(base, arm, strict=True):
            here = []
            for one, other in zip(ours, theirs, strict=True):
                if one.score is None:
                    dropped += 1
                    continue
                failed += other.score is None
                here.append(-1.0 if other.score is None else other.score - one.score)
                by_task.setdefault(one.task_id, []).append(here[-1])
            repeats.append(fmean(here) if here else None)
        return Pairs(tuple(fmean(d) for d in by_task.values()), tuple(repeats), failed, dropped)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one arm.

    Attributes:
        score: mean of its scores; ``answers``: how many it gave, failures included; ``failures``: those that have no score.
        tokens, seconds: for each answer.
        difference: mean over tasks, to the first arm; ``None`` for that arm itself, and where no pair was scored.
        won, lost, tied: tasks.
        needed: about how many tasks would decide it; ``None`` where it is decided.
    """

    name: str
    told: str
    digest: str
    score: float | None
    answers: int
    failures: int
    tokens: float
    seconds: float
    difference: float | None = None
    interval: Interval | None = None
    pairs: int = 0
    won: int = 0
    lost: int = 0
    tied: int = 0
    by_repeat: tuple[float | None, ...] = ()
    says: Says | None = None
    needed: int | None = None


def clear(plan: Plan, pairs: dict[str, Pairs]) -> bool:
    """Whether every arm's confidence sequence says something, so that there is nothing left to ask."""
    return all(says(interval_of(p, plan, fixed=False), plan.matters) is not Says.OPEN for p in pairs.values())


def interval_of(pairs: Pairs, plan: Plan, fixed: bool) -> Interval:
    """The interval of the mean difference.

    Args:
        fixed: whether the number of tasks was fixed beforehand.
    """
    level = 1.0 - (1.0 - plan.level) / max(1, len(plan.arms) - 1)
    low, high = (star_interval if fixed else confidence_sequence)(pairs.differences, level)
    return Interval(low, high, level)


def says(interval: Interval, matters: float) -> Says:
    """What an interval says, when differences smaller than ``matters`` do not count."""
    if interval.low > 0:
        return Says.HELPS
    if interval.high < 0:
        return Says.HURTS
    if -matters < interval.low and interval.high < matters:
        return Says.SAME
    return Says.OPEN


def finding(
    arm: tuple[str, str, str], outcomes: Sequence[Sequence[Outcome]], pairs: Pairs | None, plan: Plan, fixed: bool
) -> Finding:
    """All that is known of one arm.

    Args:
        arm: its name, what it changes, its digest; ``pairs``: ``None`` for the first one.
    """
    every = [o for repeat in outcomes for o in repeat]
    scores = [o.score for o in every if o.score is not None]
    answers = max(1, len(every))
    about = (
        *arm,
        fmean(scores) if scores else None,
        len(every),
        len(every) - len(scores),
        sum(o.answer.prompt_tokens + o.answer.completion_tokens for o in every) / answers,
        sum(o.answer.seconds for o in every) / answers,
    )
    if pairs is None or not pairs.differences:
        return Finding(*about)
    interval = interval_of(pairs, plan, fixed)
    found, n = says(interval, plan.matters), len(pairs.differences)
    needed = None
    if found is Says.OPEN:
        half = (interval.high - interval.low) / 2
        goal = max(abs(fmean(pairs.differences)), plan.matters, 0.01)
        needed = math.ceil(n * max((half / goal) ** 2, 1.1))
    return Finding(
        *about,
        difference=fmean(pairs.differences),
        interval=interval,
        pairs=n,
        won=sum(d > 0 for d in pairs.differences),
        lost=sum(d < 0 for d in pairs.differences),
        tied=sum(d == 0 for d in pairs.differences),
        by_repeat=pairs.by_repeat,
        says=found,
        needed=needed,
    )


def in_words(findings: Sequence[Finding], plan: Plan, ended: str) -> str:
    """The answer: a sentence for each arm, the best first."""
    base, *others = findings
    where = plan.suite + (f" ({', '.join(plan.skills)})" if plan.skills else "")
    ranked = sorted(others, key=lambda f: -2.0 if f.difference is None else -f.difference)
    said = [_sentence(f, base, where, plan) for f in ranked]
    if len(others) > 1:
        said.append(f"The {len(others)} intervals hold together with {100 * plan.level:g} %.")
    if ended:
        said.append(f"It ended before its plan did: {ended}.")
    return " ".join(said)


def _sentence(f: Finding, base: Finding, where: str, plan: Plan) -> str:
    if f.difference is None or f.interval is None or f.says is None:
        return f"Nothing can be said of {f.name!r}: no task was scored for both it and {base.name!r}."
    numbers = (
        f"{100 * f.difference:+.1f} points on {where}, {100 * f.interval.level:.4g} % interval "
        f"{100 * f.interval.low:+.1f} to {100 * f.interval.high:+.1f}, {f.pairs} tasks"
    )
    failed = f", {f.failures} of its answers failed" if f.failures else ""
    if f.says is Says.HELPS:
        return f"Yes: {f.name!r} does better than {base.name!r} ({numbers}{failed})."
    if f.says is Says.HURTS:
        return f"No: {f.name!r} does worse than {base.name!r} ({numbers}{failed})."
    if f.says is Says.SAME:
        return f"No: between {f.name!r} and {base.name!r} there is no difference of {100 * plan.matters:g} points or more ({numbers}{failed})."
    return (
        f"Not decided for {f.name!r} beside {base.name!r} ({numbers}{failed}); about {f.needed} tasks would decide it."
    )
