"""Walls are probed, the strongest that holds is taken, and where none does nothing runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from upwright.warden.isolation import IsolationError, Pool, strongest_wall, walls
from upwright.warden.isolation.layout import Plan, environment, python_folders
from upwright.warden.isolation.probe import holes
from upwright.warden.isolation.walls import Bubblewrap, Landlock, Started, Waiver, Wall

from .conftest import LIMITS, job, run


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """The wall is looked for again, and again after the test."""
    strongest_wall.cache_clear()
    yield
    strongest_wall.cache_clear()


def test_a_wall_holds_here() -> None:
    """Loud where none does: the error says which were tried and what was found."""
    assert strongest_wall().name in ("bubblewrap", "landlock")
    assert strongest_wall() is strongest_wall(), "asked once"


def test_it_holds(wall: Wall) -> None:
    assert holes(wall) == []


class Wide(Bubblewrap):
    """Forgets to make the evaluator's folder read-only."""

    def _words(self, plan: Plan, places: walls.Places) -> tuple[list[str], list[str]]:
        sources, words = super()._words(plan, places)
        at = words.index(places.folder) - 2 if places.folder else 0
        words[at] = "--bind" if places.folder else words[at]
        return sources, words


class Open(Landlock):
    """Shows a run the whole machine."""

    def start(self, plan: Plan) -> Started:
        started = super().start(plan)
        started.readable = ("/",)
        return started


@pytest.mark.parametrize(
    ("wall", "hole"), [(Wide, "the evaluator's folder was written"), (Open, "a file outside was read")]
)
def test_a_hole_is_found(wall: type[Wall], hole: str) -> None:
    base = wall.__mro__[1]()
    try:
        if holes(base):
            pytest.skip(f"{base.name} does not hold here")
    except IsolationError as error:
        pytest.skip(error.what)
    assert hole in holes(wall())


def test_bubblewrap_is_taken_before_landlock_and_landlock_before_nothing(
    asked_anew: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[str]] = {}
    monkeypatch.setattr("upwright.warden.isolation.probe.holes", lambda wall: found.get(wall.name, []))
    assert strongest_wall().name == "bubblewrap"
    found["bubblewrap"] = ["the network was reached"]
    strongest_wall.cache_clear()
    assert strongest_wall().name == "landlock"
    found["landlock"] = ["a file outside was read"]
    strongest_wall.cache_clear()
    with pytest.raises(IsolationError) as caught:
        strongest_wall()
    assert "the network was reached" in str(caught.value)
    assert "a file outside was read" in str(caught.value)
    assert "waiver" in caught.value.todo
    assert strongest_wall(waiver=True).name == "waiver"


def test_a_wall_that_cannot_start_is_no_wall(asked_anew: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IsolationError, match="not installed"):
        Bubblewrap().start(Plan(None, tmp_path, tmp_path, tmp_path, 1, 1))
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho no namespaces for you >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    tmp_path.chmod(0o755)
    with pytest.raises(IsolationError, match="did not start"):
        holes(Bubblewrap())


def test_nothing_runs_where_nothing_holds(asked_anew: None, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("upwright.warden.isolation.probe.holes", lambda wall: ["everything"])
    with pytest.raises(IsolationError, match="nothing on this machine"):
        Pool(folder, "plain", [], LIMITS)


def test_with_a_waiver_it_runs(folder: Path) -> None:
    with Pool(folder, "plain", [], LIMITS, wall=Waiver(), size=1) as pool:
        assert run(pool, "exam", "def solve(question): return ''").value == {"score": 0.0}
        assert run(pool, "exam", "def solve(question): raise KeyError").why == "KeyError"


def test_python_is_laid_and_nothing_wide() -> None:
    folders = python_folders()
    assert all(os.path.isdir(f) for f in folders)
    assert not {"/", "/root", "/home", "/tmp", os.path.expanduser("~")} & set(folders)
    assert any(os.path.realpath(os.__file__).startswith(f) for f in [*folders, "/usr"])


def test_the_environment_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_API_KEY", "x")
    assert not {"SECRET_API_KEY", "PYTHONPATH", "LD_PRELOAD"} & environment("/home", "/tmp").keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_it_holds_for_a_user_who_is_not_root() -> None:
    """With the system's own Python, where there is one that such a user can read; the wall that is taken is printed."""
    python = "/usr/bin/python3"
    source = Path(walls.__file__).parents[3]
    code = f"""
        import os, sys
        sys.path.insert(0, {str(source)!r})
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        from upwright.warden.isolation import strongest_wall
        print(strongest_wall().name)
    """
    old = (
        not os.path.exists(python)
        or subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode
    )
    readable = all(os.stat(p).st_mode & 0o005 == 0o005 for p in (source, *source.parents))
    if old or not readable:
        pytest.skip("no Python or no code here that another user can read")
    done = subprocess.run([python, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd="/", timeout=120)
    assert done.stdout.strip() in ("bubblewrap", "landlock"), done.stderr


def test_the_zygotes_own_file_says_what_python_runs_it() -> None:
    words = walls._python("fd:3", "/cell/code")
    assert words[0] == sys.executable
    assert job("x")["entry"] == "evaluator.py"
