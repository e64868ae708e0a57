from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from upwright.bodies.body import Body
from upwright.bodies.program import read_program
from upwright.errors import BodyError, BuildError, MissingExtra, Stopped
from upwright.evolution.archive import Archive
from upwright.evolution.proposers import Kit, available, instances
from upwright.evolution.records import Program
from upwright.evolution.settings import read_search
from upwright.levers import may_use, registry
from upwright.levers.base import Attempt, Built, Lever, Situation
from upwright.levers.program import ATTEMPTS, ProgramSearch, seeds_of
from upwright.records import Cost, Decision, Proposal, to_json
from upwright.testing.levers import LeverContract, fake_body, fake_situation, rejected
from upwright.testing.programs import (
    BEST,
    MAIN,
    FakeJudge,
    FakeJudged,
    Nudge,
    ProgramPractice,
    ProgramWorkshop,
    number,
    program,
    program_body,
)
from upwright.warden.errors import GraderError

SEARCH = "candidates = 40\nseconds = 0.0\n"


def lever(wild: float = 0.1) -> ProgramSearch:
    return ProgramSearch({"nudge": lambda kit: Nudge(wild=wild)})


@pytest.fixture
def parent(tmp_path: Path) -> Body:
    return Body(program_body(tmp_path / "parent", search=SEARCH).root, "p" * 64)


def situation(body: Body, *history: Attempt) -> Situation:
    return replace(fake_situation(body, history=history), parent=body.digest or "p" * 64)


def proposal(body: Body, *history: Attempt) -> Proposal:
    found = lever().propose(situation(body, *history))
    assert found is not None
    return found


def promoted(one: Proposal) -> Attempt:
    return Attempt(one, Decision.PROMOTE, 0.1, Cost(1.0), "promoted")


class TestProgramSearch(LeverContract):
    @pytest.fixture
    def lever(self) -> Lever:
        return lever()

    @pytest.fixture
    def parent(self, tmp_path: Path) -> Body:
        return program_body(tmp_path / "parent", search=SEARCH)

    @pytest.fixture
    def workshop(self, tmp_path: Path, parent: Body) -> Callable[[str], Any]:
        return lambda name: ProgramWorkshop(tmp_path / name, parent)


def child_of(parent: Body, built: Built, root: Path) -> Body:
    return program_body(root, number(_after(parent, built)), SEARCH)


def _after(parent: Body, built: Built) -> Program:
    files = dict(read_program(parent.root))
    for path, data in built.changes.items():
        assert isinstance(data, bytes)
        files[path.removeprefix("program/")] = data.decode()
    return files


def test_it_is_installed_and_changes_the_program_alone() -> None:
    made = registry()["program"]()
    assert may_use(made, ["program/"], trainable=False)
    assert not may_use(made, ["prompt.md"], trainable=False)


def test_the_child_is_the_best_candidate_and_the_note_says_how_it_was_found(parent: Body, tmp_path: Path) -> None:
    shop = ProgramWorkshop(tmp_path / "work", parent)
    built = lever().build(parent, proposal(parent), shop)
    assert set(built.changes) == {f"program/{MAIN}"}
    assert abs(number(_after(parent, built)) - BEST) < BEST
    note = built.note
    assert note["candidates"] == {"of this leg": 40, "so far": 40}
    assert note["by proposer"] == {"nudge": 39}
    assert set(note["not judged, so far"]) <= {"duplicate", "scope"}
    assert note["diff"] == {"files": 1, "lines added": 1, "lines removed": 1}
    assert note["metric"]["before"] < note["metric"]["after"]
    scores = note["practice score on other seeds"]
    assert scores["parent"] < scores["child"]
    assert shop.trials is not None
    assert shop.trials.closed  # type: ignore[attr-defined]
    assert to_json(note) == to_json(note)


def test_it_goes_on_where_the_last_build_ended(parent: Body, tmp_path: Path) -> None:
    judge = FakeJudge()
    first = proposal(parent)
    lever().build(parent, first, ProgramWorkshop(tmp_path / "work", parent, judge))
    once = len(judge.asked)
    second = proposal(parent, rejected(first))
    assert list(second.settings["legs"]) == [{"parent": parent.digest, "candidates": 80}]
    assert second.settings["seed"] == first.settings["seed"]
    on = lever().build(parent, second, ProgramWorkshop(tmp_path / "work", parent, judge))
    assert len(judge.asked) < 2 * once + 40
    assert on.note["candidates"] == {"of this leg": 80, "so far": 80}
    (path,) = (tmp_path / "work" / "state").glob("archive-*.db")
    with Archive(path) as archive:
        assert archive.placed == 80


def test_a_new_champion_is_taken_in_and_the_search_goes_on_with_all_it_knows(parent: Body, tmp_path: Path) -> None:
    first = proposal(parent)
    built = lever().build(parent, first, ProgramWorkshop(tmp_path / "work", parent))
    child = Body(child_of(parent, built, tmp_path / "child").root, "c" * 64)
    second = proposal(child, promoted(first))
    assert list(second.settings["legs"]) == [
        {"parent": "p" * 64, "candidates": 40},
        {"parent": "c" * 64, "candidates": 80},
    ]

    def shop(name: str) -> ProgramWorkshop:
        found = ProgramWorkshop(tmp_path / name, child)
        found.archive = {parent.digest or "": parent}
        return found

    on = lever().build(child, second, shop("work"))
    assert on.note["candidates"] == {"of this leg": 40, "so far": 80}
    again = lever().build(child, second, shop("elsewhere"))
    assert dict(again.changes) == dict(on.changes), "where there is no archive it is made again, leg by leg"
    assert again.note == on.note


def test_a_champion_from_elsewhere_is_a_candidate_too(parent: Body, tmp_path: Path) -> None:
    first = proposal(parent)
    with pytest.raises(BuildError, match="none of 40"):
        lever(0.0).build(
            Body(program_body(tmp_path / "best", BEST, SEARCH).root, "p" * 64),
            first,
            ProgramWorkshop(tmp_path / "a", parent),
        )
    other = Body(program_body(tmp_path / "other", BEST - 0.001, SEARCH).root, "o" * 64)
    shop = ProgramWorkshop(tmp_path / "work", other)
    shop.archive = {"p" * 64: parent}
    with suppress(BuildError):  # it may be too good to be bettered in one leg
        lever(0.0).build(other, proposal(other, rejected(first)), shop)
    (path,) = (tmp_path / "work" / "state").glob("archive-*.db")
    with Archive(path) as archive:
        assert any(archive.get(n).program == read_program(other.root) for n in range(archive.count))


def test_a_build_that_was_stopped_goes_on(parent: Body, tmp_path: Path) -> None:
    judge, one = FakeJudge(), proposal(parent)
    shop = ProgramWorkshop(tmp_path / "work", parent, judge)
    shop.stop_after = 20
    with pytest.raises(Stopped):
        lever().build(parent, one, shop)
    built = lever().build(parent, one, ProgramWorkshop(tmp_path / "work", parent, judge))
    whole = FakeJudge()
    straight = lever().build(parent, one, ProgramWorkshop(tmp_path / "whole", parent, whole))
    assert dict(built.changes) == dict(straight.changes)
    assert built.note == straight.note
    assert len(judge.asked) <= len(whole.asked) + 6, "what was measured is not measured again"


def test_luck_is_no_child(parent: Body, tmp_path: Path) -> None:
    for seed in range(2):
        one = replace(proposal(parent), settings={**proposal(parent).settings, "seed": seed})
        shop = ProgramWorkshop(tmp_path / str(seed), parent, FakeJudge(1.0, flat=True), exact=False)
        with pytest.raises(BuildError, match="better than the parent"):
            lever(0.0).build(parent, one, shop)


def test_it_ends_by_the_clock_where_no_number_is_given(tmp_path: Path) -> None:
    body = Body(program_body(tmp_path / "body", search="candidates = 0\nseconds = 0.7\n").root, "p" * 64)
    one = proposal(body)
    assert list(one.settings["legs"]) == [{"parent": "p" * 64, "candidates": 0}]
    assert "up to 0.7 s" in one.reason
    built = lever(0.0).build(body, one, ProgramWorkshop(tmp_path / "work", body))
    assert built.note["ended"] == "the time is over"


def test_other_bodies_are_left_alone(parent: Body, tmp_path: Path) -> None:
    assert lever().propose(fake_situation(fake_body(tmp_path / "other"))) is None
    with pytest.raises(BuildError, match="does not answer with its program"):
        lever().build(fake_body(tmp_path / "another"), proposal(parent), ProgramWorkshop(tmp_path / "w", parent))
    shop = ProgramWorkshop(tmp_path / "work", parent)
    shop.trials = None
    with pytest.raises(BuildError, match="no evaluator"):
        lever().build(parent, proposal(parent), shop)


def test_trouble_of_the_evaluator_is_told(parent: Body, tmp_path: Path) -> None:
    class Broken(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            raise GraderError("no isolation holds here", todo="install bubblewrap")

    with pytest.raises(BuildError, match="cannot be run: no isolation"):
        lever().build(parent, proposal(parent), ProgramWorkshop(tmp_path / "work", parent, Broken()))


def test_it_searches_on_until_many_searches_brought_nothing(parent: Body) -> None:
    one = proposal(parent)
    assert lever().propose(situation(parent, *[rejected(one)] * (ATTEMPTS - 1))) is not None
    assert lever().propose(situation(parent, *[rejected(one)] * ATTEMPTS)) is None


def test_effort_scales_a_search(parent: Body) -> None:
    found = lever().propose(replace(situation(parent), effort=0.5))
    assert found is not None
    assert found.settings["legs"][0]["candidates"] == 20


def test_settings_of_a_body(tmp_path: Path) -> None:
    def of(text: str) -> Any:
        return read_search(program_body(tmp_path / "b", search=text))

    assert of("").scope.allows("any/file.py")
    found = of('paths = ["src/", "!src/a.py"]\nfeatures = ["speed"]\nblocks = false\n')
    assert (found.scope.paths, found.scope.blocks, found.axes[0].name) == (("src/", "!src/a.py"), False, "speed")
    for text, why in (
        ("pace = 3", "unknown key"),
        ('candidates = "many"', "int"),
        ("islands = 0", "at least 1"),
        ("candidates = 0\nseconds = 0.0", "no limit"),
        ("candidates = 0\nseconds = nan", "at least 0"),
    ):
        with pytest.raises(BodyError, match=why):
            of(text)


def test_proposers_by_name() -> None:
    kit = Kit(lambda program, seconds: None)  # type: ignore[arg-type, return-value]
    assert "llm" not in available()
    assert "llm" in available(["http://127.0.0.1:1/v1#m"])
    with pytest.raises(BuildError, match="no such proposer"):
        instances(["magic"], kit)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upwright.evolution.proposers.find_spec", lambda name: None)
    assert available() == ()
    with pytest.raises(MissingExtra, match="cma"):
        instances(["constants"], Kit(lambda program, seconds: None))  # type: ignore[arg-type, return-value]


def test_seeds_are_practice_and_each_measurement_has_its_own(tmp_path: Path) -> None:
    seeds = seeds_of(ProgramPractice(FakeJudge()), 7)
    found = [seeds(n, r) for n in range(200) for r in range(3)]
    assert len(set(found)) == len(found)
    assert found == [seeds_of(ProgramPractice(FakeJudge()), 7)(n, r) for n in range(200) for r in range(3)]


def test_the_program_of_a_number() -> None:
    assert number(program(0.25)) == 0.25
