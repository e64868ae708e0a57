from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from upwright.errors import ProjectError, Stopped
from upwright.evolution import history
from upwright.evolution.archive import Archive
from upwright.evolution.blocks import Scope
from upwright.evolution.campaign import STALLED, Campaign, Found, Setup
from upwright.evolution.placing import MIGRATE
from upwright.evolution.proposers.base import Brief, Proposer
from upwright.evolution.records import Candidate, Draft, Program, Result
from upwright.testing.programs import BEST, MAIN, FakeJudge, FakeJudged, Nudge, number, program

EXACT = Setup(exact=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "archive.db"


def campaign(
    place: Path, *proposers: Proposer, judge: FakeJudge | None = None, setup: Setup = EXACT, **more: object
) -> Campaign:
    return Campaign(program(0.0), proposers, judge or FakeJudge(), Archive(place), setup, **more)  # type: ignore[arg-type]


def search(
    place: Path, candidates: int = 60, wild: float = 0.05, setup: Setup = EXACT, judge: FakeJudge | None = None
) -> Found:
    return campaign(place, Nudge(wild=wild), judge=judge, setup=setup).run(candidates)


def candidates(place: Path) -> list[Candidate]:
    with Archive(place) as archive:
        return [archive.get(n) for n in range(archive.count)]


def test_it_finds_better_ones_and_says_what_it_tried(place: Path) -> None:
    found = search(place, 200)
    assert found.best is not None
    assert found.origin.score is not None
    assert abs(number(found.best.program) - BEST) < 0.05
    assert found.tried == found.of == 200
    assert found.ended == "all candidates were tried"
    assert found.by_proposer["nudge"]["candidates"] == 199
    assert set(found.failures) == {"crash", "timeout"}
    assert set(found.refused) == {"duplicate", "scope"}
    everyone = candidates(place)
    assert max((c for c in everyone if c.score is not None), key=lambda c: c.score or 0).score == found.best.score
    assert all(c.parents for c in everyone[1:])
    with Archive(place) as archive:
        line = archive.lineage(found.best.number)
    assert line[-1].number == 0
    assert line[0] == found.best


def test_the_same_setup_makes_the_same_candidates_however_fast_each_is_judged(tmp_path: Path) -> None:
    class Uneven(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            time.sleep((hash(str(program)) + len(self.asked)) % 5 / 400)
            return super().__call__(program, seed)

    for setup, noise in ((EXACT, 0.0), (Setup(seed=3), 0.05)):
        runs = []
        for name, judge in (("a", FakeJudge(noise)), ("b", Uneven(noise)), ("c", Uneven(noise))):
            place = tmp_path / f"{name}{noise}.db"
            search(place, 30, 0.05, replace(setup, workers=1 if name == "a" else 3), judge)
            runs.append([(c.digest, c.score, c.parents, c.metrics, c.runs, c.island) for c in candidates(place)])
        assert runs[0] == runs[1] == runs[2]


def test_another_seed_makes_others(tmp_path: Path) -> None:
    search(tmp_path / "a", 20)
    search(tmp_path / "b", 20, setup=replace(EXACT, seed=1))
    assert [c.digest for c in candidates(tmp_path / "a")] != [c.digest for c in candidates(tmp_path / "b")]


def test_nothing_is_judged_twice_and_what_is_not_new_is_never_judged(place: Path) -> None:
    judge = FakeJudge()
    campaign(place, Nudge(wild=0.2), judge=judge).run(80)
    times = Counter(str(program) for program, _ in judge.asked)
    gained = [c for c in candidates(place) if times[str(dict(c.program))] > 1]
    assert max(times.values()) == 2, "a gain is run once more, nothing else"
    assert 0 < len(gained) < 30
    assert all("more" not in text for text in times), "out of scope"


def test_a_proposer_hears_of_each_of_its_drafts_once_and_again_when_the_search_goes_on(place: Path) -> None:
    one, two = Nudge("one", wild=0.1), Nudge("two", wild=0.1)
    campaign(place, one, two).run(60)
    assert len(one.heard) + len(two.heard) >= 59
    assert all(draft.proposer == "one" for draft, _ in one.heard)
    whys = {result.why.split(" ")[0] for _, result in one.heard if result.score is None}
    assert {"the", "ValueError:", "it", "program.py:"} <= whys, (
        "duplicates, crashes, time-outs, and what was out of scope"
    )
    again, other = Nudge("one", wild=0.1), Nudge("two", wild=0.1)
    campaign(place, again, other)
    assert [(d.program, d.note, d.parents, r) for d, r in again.heard] == [
        (d.program, d.note, d.parents, r) for d, r in one.heard
    ]
    assert other.heard == two.heard


def test_a_search_in_two_parts_is_the_same_as_stopped_anywhere_in_between(tmp_path: Path) -> None:
    def parts(name: str, stops: Sequence[int]) -> list[str]:
        place = tmp_path / name
        left = iter([*stops, None])
        while True:
            stop = next(left)

            def progress(done: int, total: int, note: str, stop: int | None = stop) -> None:
                if stop is not None and done >= stop:
                    raise Stopped("enough")

            try:
                campaign(place, Nudge(wild=0.1), judge=FakeJudge(0.05), setup=Setup(), progress=progress).run(40)
            except Stopped:
                continue
            return [c.digest for c in candidates(place)]

    whole = parts("whole", [])
    assert parts("one", [17]) == whole
    assert parts("three", [1, 9, 30]) == whole


def test_briefs(place: Path) -> None:
    seen: list[Brief] = []

    class Curious(Nudge):
        def propose(self, brief: Brief) -> Sequence[Draft]:
            seen.append(brief)
            return super().propose(brief)

    setup = replace(EXACT, scope=Scope(("*.py",)), metric="speed", direction="min", batch=3)
    campaign(place, Curious(wild=0.2), setup=setup).run(100)
    assert {(b.metric, b.direction, b.scope) for b in seen} == {("speed", "min", setup.scope)}
    assert {b.n for b in seen[:-1]} == {3}
    last = seen[-1]
    assert any(entry.startswith(("crash", "timeout", "scope")) for entry in last.failures)
    assert not any("the same as" in entry for entry in last.failures)
    assert 1 <= len(last.inspirations) <= 3
    for brief in seen:
        assert brief.parent.score is not None
        assert brief.parent.digest not in {c.digest for c in brief.inspirations}
        if brief.inspirations and brief.parent.score < max(c.score or 0 for c in brief.inspirations):
            assert brief.inspirations[0].score == max(c.score or 0 for c in brief.inspirations), "the best of all first"


# ---- luck and attacks ----------------------------------------------------------------------------


def test_in_pure_noise_nothing_becomes_the_best(tmp_path: Path) -> None:
    wrong = 0
    for seed in range(3):
        found = search(tmp_path / str(seed), 60, 0.0, Setup(seed=seed), FakeJudge(1.0, flat=True))
        assert found.best is not None
        wrong += found.best.number != 0
        assert abs(found.best.metrics["combined_score"]) < 1.5, "never the luckiest of sixty"
    assert wrong <= 1


def test_a_real_gain_is_found_in_noise(place: Path) -> None:
    found = search(place, 120, 0.0, Setup(), FakeJudge(0.05))
    assert found.best is not None
    assert abs(number(found.best.program) - BEST) < 0.35
    assert found.best.runs == 8
    assert found.best.stderr > 0


def test_a_gain_that_does_not_repeat_is_no_gain(place: Path) -> None:
    class Lucky(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            first = sum(p == program for p, _ in self.asked) == 0
            judged = super().__call__(program, seed)
            lucky = number(program) != 0.0 and first
            return FakeJudged(0.99, {"combined_score": 9.0}) if lucky else judged

    found = search(place, 40, 0.0, judge=Lucky())
    assert found.best is not None
    assert (found.best.score or 0) < 0.6
    assert found.best.metrics["combined_score"] < 0.1


def test_what_looks_like_an_attack_has_no_score(place: Path) -> None:
    class Guarded(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            judged = super().__call__(program, seed)
            return replace(judged, score=1.0, alarms=("planted credentials were read",)) if number(program) else judged

    found = search(place, 20, 0.0, judge=Guarded())
    assert found.best is not None
    assert found.best.number == 0
    assert found.failures == {"alarm": 19}
    assert found.alarms[0] == "planted credentials were read"
    assert "looks like an attack" in candidates(place)[1].why


def test_a_search_may_begin_with_a_program_that_fails(place: Path) -> None:
    found = Campaign(program(-1.2), [Nudge(size=0.3)], FakeJudge(), Archive(place), EXACT).run(40)
    assert found.origin.score is None
    assert found.best is not None
    assert found.best.score is not None


# ---- how it ends ---------------------------------------------------------------------------------


class Silent:
    name, cost = "silent", 0.001

    def __init__(self) -> None:
        self.asked = 0

    def propose(self, brief: Brief) -> Sequence[Draft]:
        self.asked += 1
        return []

    def told(self, draft: Draft, result: Result) -> None:
        raise AssertionError("it made none")


def test_it_ends_when_nobody_has_anything_new(place: Path) -> None:
    silent = Silent()
    found = campaign(place, silent).run(50)
    assert (found.tried, found.ended, silent.asked) == (1, "no proposer has anything new", STALLED)

    class Same(Nudge):
        def _draft(self, brief: Brief) -> Draft:
            return Draft(program(0.25), self.name)

    found = campaign(place, Same()).run(50)
    assert (found.of, found.ended) == (2, "no proposer has anything new")
    assert found.refused["duplicate"] > STALLED


def test_a_proposer_that_fails_is_told_of_and_the_others_go_on(place: Path) -> None:
    class Failing(Nudge):
        def propose(self, brief: Brief) -> Sequence[Draft]:
            raise ZeroDivisionError("division by zero")

    found = campaign(place, Failing("failing"), Nudge()).run(30)
    assert found.tried == 30
    assert found.trouble == {"failing": "ZeroDivisionError: division by zero"}

    class Stopping(Nudge):
        def propose(self, brief: Brief) -> Sequence[Draft]:
            raise Stopped("a person asked for it")

    with pytest.raises(Stopped):
        campaign(place, Stopping()).run(40)


def test_without_proposers_the_first_is_judged(place: Path) -> None:
    assert campaign(place).run(10).tried == 1


def test_a_bound_is_needed(place: Path) -> None:
    with pytest.raises(ValueError, match="bound"):
        campaign(place, Nudge()).run()


def test_it_ends_when_the_time_is_over_and_goes_on_later(place: Path) -> None:
    class Slow(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            judged = super().__call__(program, seed)
            time.sleep(0.05)
            return judged

    began = time.monotonic()
    found = campaign(place, Nudge(), judge=Slow(), setup=replace(EXACT, measured=True)).run(seconds=0.5)
    assert 0.4 < time.monotonic() - began < 5
    assert found.ended == "the time is over"
    assert 1 <= found.of < 40
    more = campaign(place, Nudge()).run(candidates=found.of + 20)
    assert more.of >= found.of + 20


def test_trouble_of_the_judge_ends_it_and_nothing_is_lost(place: Path) -> None:
    class Broken(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            judged = super().__call__(program, seed)
            if len(self.asked) > 10:
                raise OSError("no more processes")
            return judged

    with pytest.raises(OSError, match="no more processes"):
        campaign(place, Nudge(), judge=Broken()).run(40)
    search(place.with_name("whole"), 40, 0.0)
    campaign(place, Nudge()).run(40)
    assert [c.digest for c in candidates(place)] == [c.digest for c in candidates(place.with_name("whole"))]


def test_progress_is_told_and_may_stop_a_long_evaluation(place: Path) -> None:
    gate = threading.Event()

    class Stuck(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            gate.wait(30)
            return super().__call__(program, seed)

    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, note: str) -> None:
        told.append((done, total, note))
        if len(told) > 2:
            raise Stopped("a person asked for it")

    began = time.monotonic()
    with pytest.raises(Stopped):
        campaign(place, Nudge(), judge=Stuck(), progress=progress).run(5)
    gate.set()
    assert time.monotonic() - began < 10
    assert told[0] == (0, 5, "0 candidates, no score yet")


# ---- islands, programs from outside, several files -----------------------------------------------


def test_islands_have_cells_of_their_own_and_share_their_best(place: Path) -> None:
    setup = replace(EXACT, islands=3)
    search(place, 3 * MIGRATE - 1, 0.0, setup)
    with Archive(place) as archive:
        apart = [{n for _, n in archive.elites(i)} for i in range(3)]
        assert all(archive.island(n) == i for i in range(3) for n in apart[i])
        assert all(apart)
    search(place, 3 * MIGRATE, 0.0, setup)
    with Archive(place) as archive:
        tops = [archive.top(i) for i in range(3)]
        assert any(archive.island(top[1]) != i for i, top in enumerate(tops) if top), (
            "somebody came from another island"
        )


def test_a_program_from_outside_is_a_candidate(place: Path) -> None:
    one = campaign(place, Nudge())
    one.run(10)
    assert one.adopt(program(BEST), "by hand") == 10
    assert one.adopt(program(BEST), "by hand") == 10
    found = one.run(20)
    assert found.best is not None
    assert (found.best.number, found.best.proposer, found.best.note) == (10, "", "by hand")


def test_repositories(place: Path) -> None:
    origin = {**program(0.0), **{f"lib/{i}.txt": f"text {i}\n" * 50 for i in range(20)}}

    class Library(Nudge):
        def _draft(self, brief: Brief) -> Draft:
            draft = super()._draft(brief)
            program = {**brief.parent.program, MAIN: draft.program[MAIN]}
            return replace(draft, program={**program, f"lib/{brief.rng.randrange(30)}.txt": f"{brief.rng.random()}\n"})

    with Archive(place) as archive:
        setup = replace(EXACT, scope=Scope(("*.py", "lib/*.txt")))
        found = Campaign(origin, [Library()], FakeJudge(), archive, setup).run(30)
        assert found.best is not None
        best = archive.get(found.best.number)
        assert len(best.program) >= 21
        rows = next(archive.rows("SELECT avg(length(files)), count(*) FROM candidate WHERE number > 0"))
        assert rows[0] < 2000, "what is the first program's own is not written again"
    with Archive(place) as archive:
        assert archive.get(best.number) == best


def test_an_archive_of_another_search_is_not_gone_on_with(place: Path) -> None:
    Archive(place, "one").close()
    Archive(place, "one").close()
    with pytest.raises(ProjectError, match="another search"):
        Archive(place, "two")


def test_what_the_evaluator_says_is_kept_short(place: Path) -> None:
    class Talker(FakeJudge):
        def __call__(self, program: Program, seed: int) -> FakeJudged:
            return replace(super().__call__(program, seed), artifacts={f"a{i}": "x" * 9999 for i in range(30)})

    search(place, 5, 0.0, judge=Talker())
    assert all(sum(map(len, c.artifacts.values())) <= 8 * 2000 for c in candidates(place))


def test_history_counts(place: Path) -> None:
    search(place, 60, 0.1)
    with Archive(place) as archive:
        assert sum(row["candidates"] for row in history.counts(archive).values()) == 60
        assert sum(history.kinds(archive).values()) == sum(c.score is None for c in candidates(place))
        assert len(history.failures(archive, 5)) == 5
        assert len(list(history.past(archive))) == archive.events


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("campaign"):
            thread.join(5)
