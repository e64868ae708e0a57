from __future__ import annotations

from upwright.evolution.memory import KEPT, LENGTH, TOLD, Memory


def test_failures_alike_are_one_entry_with_a_count() -> None:
    memory = Memory()
    for seconds in (3.0, 3.1, 3.25):
        memory.add("timeout", f"it took longer than {seconds} s", "more passes")
    memory.add("crash", "NameError: name 'x' is not defined")
    memory.add("crash", "NameError: name 'y' is not defined")
    assert memory.told() == (
        "crash (2 times): NameError: name 'y' is not defined",
        "timeout (3 times): it took longer than 3.25 s — tried: more passes",
    )


def test_those_of_the_same_parent_come_first() -> None:
    memory = Memory()
    memory.add("crash", "a", parent="p")
    memory.add("crash", "b", parent="q")
    memory.add("crash", "c", parent="p")
    assert memory.told("p") == ("crash: c", "crash: a", "crash: b")
    assert memory.told("p", 1) == ("crash: c",)


def test_it_is_short_and_bounded() -> None:
    memory = Memory()
    for number in range(10 * KEPT):
        memory.add("crash", chr(97 + number % 26) * (number // 26 + 1) * 40, "y" * 500)
    assert len(memory._groups) == KEPT
    assert len(memory.told()) == TOLD
    assert all(len(entry) <= LENGTH for entry in memory.told())
