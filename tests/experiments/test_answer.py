"""Intervals are held against their coverage, and the words against the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.experiments.answer import Finding, Pairs, Says, finding, in_words, interval_of, says
from upwright.experiments.plan import ArmPlan, Plan
from upwright.records import Answer, Failure, FailureKind, Interval, Outcome
from upwright.warden.bounds import confidence_sequence, star_interval

PLAN = Plan("?", (ArmPlan("a"), ArmPlan("b")), suite="words", matters=0.1)
FAILED = Failure(FailureKind.CRASH, "it broke")


def outcome(task: str, score: float | None) -> Outcome:
    said = Answer(
        task, "" if score is None else "x", failure=FAILED if score is None else None, seconds=2.0, prompt_tokens=7
    )
    return Outcome(task, "words", 1, said, score, FAILED if score is None else None)


def scored(*scores: float | None, first: int = 0) -> list[Outcome]:
    return [outcome(f"t{first + i}", s) for i, s in enumerate(scores)]


def test_differences_are_paired_by_task() -> None:
    found = Pairs.of([scored(0, 1, 0.5)], [scored(1, 1, 0.25)])
    assert found == Pairs((1.0, 0.0, -0.25), (0.25,), 0, 0)


def test_a_failure_is_no_score() -> None:
    found = Pairs.of([scored(0, 1, None, None)], [scored(None, 1, 1, None)])
    assert found == Pairs((-1.0, 0.0), (-0.5,), 1, 2)
    assert Pairs.of([scored(None)], [scored(1)]).differences == ()


def test_asking_again_makes_no_more_tasks() -> None:
    """The same task in every repeat is one unit, whose differences are averaged."""
    found = Pairs.of([scored(0, 0), scored(0, 1)], [scored(1, 0), scored(0, 1)])
    assert found.differences == (0.5, 0.0)
    assert found.by_repeat == (0.5, 0.0)
    others = Pairs.of([scored(0, 0), scored(0, 1, first=2)], [scored(1, 0), scored(0, 1, first=2)])
    assert others.differences == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "matters", "word"),
    [
        (0.01, 0.2, 0.1, Says.HELPS),
        (-0.2, -0.01, 0.1, Says.HURTS),
        (-0.05, 0.09, 0.1, Says.SAME),
        (-0.05, 0.11, 0.1, Says.OPEN),
        (0.0, 0.5, 0.1, Says.OPEN),
        (0.0, 0.0, 0.1, Says.SAME),
    ],
)
def test_what_an_interval_says(low: float, high: float, matters: float, word: Says) -> None:
    assert says(Interval(low, high), matters) is word


def test_the_intervals_are_the_warden_s() -> None:
    """Whose coverage its own tests hold."""
    d = (1.0, 0.0, -1.0, 0.5, 0.0, 1.0) * 5
    for fixed, bound in ((True, star_interval), (False, confidence_sequence)):
        found = interval_of(Pairs(d, (), 0, 0), PLAN, fixed)
        assert (found.low, found.high) == bound(d, 0.95)


def test_intervals_of_several_arms_hold_together() -> None:
    many = replace(PLAN, arms=tuple(ArmPlan(str(i)) for i in range(6)))
    pairs = Pairs((1.0, 0.0) * 30, (), 0, 0)
    one, five = interval_of(pairs, PLAN, True), interval_of(pairs, many, True)
    assert (one.level, round(five.level, 4)) == (0.95, 0.99)
    assert five.low < one.low


def found(base: list[list[Outcome]], arm: list[list[Outcome]], plan: Plan = PLAN) -> tuple[Finding, Finding]:
    pairs = Pairs.of(base, arm)
    return (
        finding(("as it is", "as it is", "0" * 64), base, None, plan, True),
        finding(("more", "more words", "1" * 64), arm, pairs, plan, True),
    )


def test_a_finding_counts() -> None:
    base, arm = found([scored(*[0.0] * 30, *[1.0] * 30)], [scored(*[1.0] * 25, *[0.0] * 5, *[1.0] * 28, 0.0, None)])
    assert (base.score, base.answers, base.failures, base.tokens, base.seconds) == (0.5, 60, 0, 7.0, 2.0)
    assert base.difference is base.says is base.interval is None
    assert (arm.won, arm.lost, arm.tied, arm.pairs, arm.failures) == (25, 2, 33, 60, 1)
    assert arm.difference == pytest.approx(23 / 60)
    assert arm.says is Says.HELPS
    assert arm.needed is None


def test_the_answer_in_words() -> None:
    plan = replace(PLAN, skills=("dates",))
    yes = found([scored(*[0.0] * 60)], [scored(*[1.0] * 40, *[0.0] * 20)], plan)
    told = in_words(yes, plan, "")
    assert told.startswith("Yes: 'more' does better than 'as it is' (+66.7 points on words (dates), 95 % interval +")
    assert told.endswith("60 tasks).")
    no = in_words(
        found([scored(*[1.0] * 60)], [scored(*[0.0] * 30, *[None] * 30)], plan), plan, "the 5 seconds are spent"
    )
    assert "does worse than" in no
    assert "30 of its answers failed" in no
    assert no.endswith("It ended before its plan did: the 5 seconds are spent.")
    same = in_words(found([scored(*[1.0] * 400)], [scored(*[1.0] * 400)]), PLAN, "")
    assert same.startswith("No: between 'more' and 'as it is' there is no difference of 10 points or more")
    open_ = in_words(found([scored(0, 1, 0, 1)], [scored(1, 1, 0, 1)]), PLAN, "")
    assert open_.startswith("Not decided")
    assert "tasks would decide it" in open_
    assert "Nothing can be said" in in_words(found([scored(None)], [scored(1)]), PLAN, "")


def test_the_best_arm_is_told_first() -> None:
    base, good = found([scored(*[0.0] * 60)], [scored(*[1.0] * 60)])
    bad = replace(good, name="other", difference=-0.5, says=Says.HURTS)
    told = in_words((base, bad, good), replace(PLAN, arms=(ArmPlan("x"),) * 3), "")
    assert told.index("'more'") < told.index("'other'")
    assert told.endswith("The 2 intervals hold together with 95 %.")


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, None]), st.sampled_from([0.0, 1.0, None])), min_size=1, max_size=30
    )
)
def test_a_difference_is_inside_its_interval(pairs: list[tuple[float | None, float | None]]) -> None:
    base, arm = found([scored(*(a for a, _ in pairs))], [scored(*(b for _, b in pairs))])
    assert base.answers == arm.answers == len(pairs)
    if arm.difference is not None and arm.interval is not None:
        assert -1 <= arm.interval.low <= arm.difference <= arm.interval.high <= 1
        assert arm.won + arm.lost + arm.tied == arm.pairs
        assert (arm.says is Says.OPEN) == (arm.needed is not None)
        if arm.needed is not None:
            assert arm.needed > arm.pairs
