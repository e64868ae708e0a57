from __future__ import annotations

import pytest

from upwright.bodies.runtimes.base import Message, Request
from upwright.errors import RuntimeFailure
from upwright.records import FailureKind, Finish
from upwright.testing.fakes import FakeRuntime, Known, Manner
from upwright.testing.runtimes import RuntimeContract


class TestContract(RuntimeContract):
    @pytest.fixture(scope="class")
    @classmethod
    def runtime(cls):
        return FakeRuntime({"Name a colour.": Known("red")}, Manner({"*": 0.5}))


def asked(count, **settings):
    return [Request((Message("user", f"q{i}"),), **settings) for i in range(count)]


def right(accuracy, **settings):
    fake = FakeRuntime(lambda text: Known("yes", "easy" if text.endswith("1") else "hard"), Manner(accuracy))
    return {
        r.messages[0].content for r, (c,) in zip(asked(400), fake.generate(asked(400, **settings))) if c.text == "yes"
    }


def test_accuracy_is_by_skill_and_a_better_fake_knows_more():
    low, high = right({"*": 0.3}), right({"*": 0.6})
    assert low < high
    assert len(low) == pytest.approx(120, abs=30)
    assert all(q.endswith("1") for q in right({"easy": 1.0, "hard": 0.0}))
    assert right({"*": 0.5}, temperature=1.0, seed=1) != right({"*": 0.5}, temperature=1.0, seed=2)


def test_worked_examples_lift_it():
    fake = FakeRuntime(lambda _: Known("yes"), Manner({"*": 0.0}, lift=0.5))
    turns = (Message("user", "a"), Message("assistant", "b")) * 2
    ((with_two,), (bare,)) = fake.generate([Request((*turns, Message("user", "q"))), Request((Message("user", "q"),))])
    assert (with_two.text, bare.text) == ("yes", "wrong")


@pytest.mark.parametrize("kind", list(FailureKind))
def test_it_fails_when_told_to(kind):
    fake = FakeRuntime({}, Manner({}, trouble={"q0": kind.value}))
    ((bad,), (good,)) = fake.generate(asked(2))
    assert bad.failure.kind is kind
    assert good.failure is None


def test_garbage_cuts_hangs_and_falls():
    trouble = {"q0": "garbage", "q1": "cut", "q2": "hang"}
    fake = FakeRuntime(lambda _: Known("a long answer"), Manner({"*": 1.0}, trouble=trouble, hang_seconds=0.01))
    (garbage,), (cut,), (hung,) = fake.generate(asked(3))
    assert "\ufffd" in garbage.text
    assert cut.finish is Finish.LENGTH
    assert "a long answer".startswith(cut.text)
    assert hung.text == "a long answer"
    with pytest.raises(RuntimeFailure, match="fall over"):
        FakeRuntime({}, Manner({}, trouble={"q0": "raise"})).generate(asked(1))
