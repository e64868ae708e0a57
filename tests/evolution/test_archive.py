from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.errors import StorageError
from upwright.evolution.archive import Archive, Placed
from upwright.evolution.campaign import Campaign, Setup
from upwright.evolution.novelty import Marks
from upwright.evolution.records import Draft, program_digest
from upwright.testing.programs import FakeJudge, FakeJudged, Nudge, program

CHILD = """
import sys, time
from pathlib import Path
from upwright.evolution.archive import Archive
from upwright.evolution.campaign import Campaign, Setup
from upwright.testing.programs import FakeJudge, Nudge, program

class Slow(FakeJudge):
    def __call__(self, program, seed):
        time.sleep(0.004)
        return super().__call__(program, seed)

with Archive(Path(sys.argv[1])) as archive:
    Campaign(program(0.0), [Nudge(wild=0.1)], Slow(0.05), archive, Setup(), progress=lambda *a: print(a[0], flush=True)).run(40)
"""


def measured(place: Path) -> set[tuple[int, int]]:
    if not place.exists():
        return set()
    db = sqlite3.connect(place)
    try:
        return set(db.execute("SELECT candidate, number FROM run"))
    finally:
        db.close()


def everyone(place: Path) -> list[tuple[object, ...]]:
    with Archive(place) as archive:
        return [
            (c.digest, c.score, c.parents, c.metrics, c.why, c.runs) for c in map(archive.get, range(archive.count))
        ]


def test_killed_in_its_middle_it_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    place, rng = tmp_path / "killed.db", random.Random(0)
    for stop in (2, 11, 25):
        process = subprocess.Popen([sys.executable, "-c", CHILD, str(place)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= stop:
                break
        time.sleep(rng.random() / 100)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    before = measured(place)
    assert len(before) > 25
    judge = FakeJudge(0.05)
    with Archive(place) as archive:
        Campaign(program(0.0), [Nudge(wild=0.1)], judge, archive, Setup()).run(40)
    assert len(judge.asked) == len(measured(place) - before), "nothing that was measured was measured again"
    with Archive(tmp_path / "whole.db") as archive:
        Campaign(program(0.0), [Nudge(wild=0.1)], FakeJudge(0.05), archive, Setup()).run(40)
    assert everyone(place) == everyone(tmp_path / "whole.db"), "nothing was lost, and nothing came out another way"


def test_no_statement_of_a_search_reads_a_whole_table(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.db") as archive:
        search = Campaign(program(0.0), [Nudge(wild=0.1)], FakeJudge(0.05), archive, Setup())
        search.run(30)
        said: set[str] = set()
        archive._db.set_trace_callback(said.add)
        search.run(60)
        archive._db.set_trace_callback(None)
        reads = [text for text in said if text.startswith(("SELECT", "UPDATE"))]
        # what a report counts when a search ends is read as a whole, and nothing else is
        reads = [text for text in reads if "GROUP BY" not in text]
        assert len(reads) > 20
        for text in reads:
            plan = " ".join(row[3] for row in archive._db.execute(f"EXPLAIN QUERY PLAN {text}"))
            assert "SCAN" not in plan, (text, plan)


def test_memory_does_not_grow_with_the_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upwright.evolution._files.CACHED", 20_000)
    monkeypatch.setattr("upwright.evolution.novelty._KEPT", 8)
    monkeypatch.setattr("upwright.evolution.archive._CANDIDATES", 8)
    with Archive(tmp_path / "a.db") as archive:
        judge = FakeJudge()
        search = Campaign(program(0.0), [Silent()], judge, archive, Setup(exact=True))
        search.run(100)
        tracemalloc.start()
        try:
            search.run(200)
            judge.asked.clear()
            before = tracemalloc.get_traced_memory()[0]
            search.run(400)
            judge.asked.clear()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 200 * 500, "half of the bytes that each candidate's text has, and less"


class Silent(Nudge):
    def __init__(self) -> None:
        super().__init__(size=0.3)

    def propose(self, brief):  # type: ignore[no-untyped-def]
        text = "# " + "long " * 200 + "\n"
        return [
            Draft({**d.program, "notes.md": f"{text}{i}{d.changes}"}, d.proposer)
            for i, d in enumerate(super().propose(brief))
        ]

    def told(self, draft, result) -> None:  # type: ignore[no-untyped-def]
        pass


MARKS = Marks("s", "n", 10, 0.0)
TEXTS = st.dictionaries(
    st.sampled_from(["a.py", "b/c.py", "ü"]), st.text(max_size=20) | st.just("bytes \udc80\udcff"), min_size=1
)


@given(st.lists(TEXTS, min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_programs_come_back_byte_for_byte(programs: list[dict[str, str]]) -> None:
    with Archive(Path(":memory:")) as archive:
        kept = []
        for program in programs:
            if archive.by_digest(program_digest(program)) is None:
                kept.append(archive.add(Draft(program, "p", "note \ud800"), MARKS, 0, ()).number)
        distinct = {program_digest(p): p for p in programs}
        assert [archive.get(n).program for n in kept] == list(distinct.values())
        archive._files._texts.clear()
        assert [archive.draft(n).program for n in kept] == list(distinct.values())


def test_a_candidate_is_known_by_program_meaning_and_near_meaning(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.db") as archive:
        one = archive.add(Draft(program(1.0), "p"), Marks("s1", "n1", 3, 0.0), 0, ()).number
        two = archive.add(Draft(program(2.0), "p"), Marks("s2", "n1", 3, 0.0), 1, (one,)).number
        assert archive.by_digest(program_digest(program(2.0))) == two
        assert archive.by_digest("none") is None
        assert archive.same(Marks("s2", "x", 0, 0.0)) == two
        assert archive.near(Marks("x", "n1", 0, 0.0)) == one
        assert archive.marks(two) == Marks("s2", "n1", 3, 0.0)
        assert archive.parents(two) == (one,)
        assert [c.number for c in archive.lineage(two)] == [two, one]
        with pytest.raises(KeyError):
            archive.get(7)


def test_what_is_written_together_is_there_or_not(tmp_path: Path) -> None:
    with Archive(tmp_path / "a.db") as archive:
        number = archive.add(Draft(program(1.0), "p"), MARKS, 0, ()).number
        with suppress(RuntimeError), archive.together():
            archive.write(steps=5)
            archive.place(number, Placed(0.5, cell="1 1", holds={(0, "1 1"): number}, best=True, clade=(number,)))
            raise RuntimeError("power cut")
    with Archive(tmp_path / "a.db") as archive:
        assert archive.fact("steps") is None
        assert archive.best is None
        assert [one.number for one in archive.open()] == [number]
        assert archive.holder(0, "1 1") is None


def test_a_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    judged = FakeJudged(0.5, {"m": 1.5}, "", {"output": "hello"}, 0.25, ("odd",))
    with Archive(tmp_path / "a.db") as archive:
        number = archive.add(Draft(program(1.0), "p"), MARKS, 0, ()).number
        written = archive.measured(number, 0, 2**70, judged)
        assert archive.runs(number) == {0: written}
    assert (written.score, dict(written.metrics), written.alarms) == (0.5, {"m": 1.5}, ("odd",))


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match="cannot be"):
        Archive(tmp_path / "bad.db")
    with pytest.raises(StorageError, match="cannot be opened"):
        Archive(tmp_path / "none" / "a.db")
    db = sqlite3.connect(tmp_path / "new.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StorageError, match="schema 99"):
        Archive(tmp_path / "new.db")
