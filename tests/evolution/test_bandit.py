from __future__ import annotations

import random

from upwright.evolution.bandit import Bandit


def shares(bandit: Bandit, asks: int = 400) -> dict[str, float]:
    rng = random.Random(0)
    found = [bandit.choose(rng) for _ in range(asks)]
    return {name: found.count(name) / asks for name in set(found)}


def test_who_gains_more_is_asked_more_and_nobody_is_forgotten() -> None:
    bandit = Bandit({"good": 1.0, "bad": 1.0})
    for _ in range(40):
        bandit.learn("good", 0.01)
        bandit.learn("bad", 0.0)
    asked = shares(bandit)
    assert asked["good"] > 0.9
    assert bandit.rates()["bad"] > 0


def test_a_hair_many_times_is_no_way_found() -> None:
    bandit = Bandit({"hair": 1.0, "way": 1.0})
    for _ in range(10):
        bandit.learn("way", 0.1)
        for _ in range(3):
            bandit.learn("hair", 1e-6)
    assert shares(bandit)["way"] > 0.9


def test_cost_counts() -> None:
    cheap = shares(Bandit({"cheap": 0.1, "dear": 10.0}))
    assert cheap["cheap"] > 0.9
    bandit = Bandit({"a": 1.0, "b": 1.0}, measured=True)
    for _ in range(60):
        bandit.learn("a", 0.0, 9.0)
        bandit.learn("b", 0.0, 0.1)
    assert shares(bandit)["b"] > 0.8


def test_a_quick_one_that_never_gains_does_not_crowd_out_a_slow_one_that_does() -> None:
    bandit = Bandit({"quick": 0.05, "slow": 9.0}, measured=True)
    for number in range(300):
        bandit.learn("quick", 0.0, 0.05)
        if number % 20 == 0:
            bandit.learn("slow", 0.1, 9.0)
    asked = shares(bandit)
    assert asked["slow"] > 0.5
    assert asked.get("quick", 0) > 0, "it is asked again now and then"


def test_without_a_clock_seconds_change_nothing() -> None:
    one, two = Bandit({"a": 1.0, "b": 1.0}), Bandit({"a": 1.0, "b": 1.0})
    one.learn("a", 0.1, 5.0)
    two.learn("a", 0.1, 50.0)
    assert one.dump() == two.dump()


def test_what_was_long_ago_fades() -> None:
    bandit = Bandit({"early": 1.0, "late": 1.0})
    for _ in range(30):
        bandit.learn("early", 0.1)
    for _ in range(120):
        bandit.learn("early", 0.0)
    for _ in range(20):
        bandit.learn("late", 0.1)
    assert shares(bandit)["late"] > 0.8


def test_it_goes_on_from_what_was_written() -> None:
    bandit = Bandit({"a": 1.0, "b": 2.0})
    for gain in (0.1, 0.0, 0.3):
        bandit.learn("a", gain)
    again = Bandit({"a": 1.0, "b": 2.0, "new": 1.0})
    again.load(bandit.dump())
    assert again.rates()["a"] == bandit.rates()["a"]
    again.load(None)
    again.learn("gone", 1.0)
    assert set(again.rates()) == {"a", "b", "new"}
