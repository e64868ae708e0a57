from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import runs
from faults.processes import KILL, Trap, before_its_row, coached, fork, somewhere_in, with_its_row
from upwright.agents.change import Offer
from upwright.agents.fates import Fate, Standing, fate, fates
from upwright.agents.hearing import tell
from upwright.agents.lever import Told
from upwright.errors import BodyError, CharterError, ProjectError, Stopped, WardenError
from upwright.events import Event
from upwright.levers import instances, registry
from upwright.lineage import read_lineage
from upwright.loop import Limits, run
from upwright.project import VERBS, Project
from upwright.records import Decision, Rung, derive_seed
from upwright.testing.puppet import Coach
from upwright.warden.door import read_state

FREE = ('levers = ["coach"]', "")
APPROVE = ("[protected", 'oversight = "approve"\n[protected')


def prompt(words: float, manners: float = 0.8, luck: str = "") -> Offer:
    text = f"manners = {manners}\nwords = {words}\n" + (f"luck = {luck}\n" if luck else "")
    return Offer(files={"prompt.md": text}, reason="to know more words", author="Ada's agent")


BETTER, WORSE = prompt(0.8), prompt(0.1)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return runs.copy(tmp_path / "demo")


def hear(project: Project, offer: Offer, **how: Any) -> Fate:
    with runs.inside(project) as warden:
        return tell(project, offer, door=warden, **how)


def test_what_is_better_is_promoted_under_the_agent_s_name(project: Project) -> None:
    events: list[Event] = []
    found = hear(project, BETTER, on_event=events.append)
    assert (found.standing, found.decision, found.round, found.test) == (Standing.PROMOTED, Decision.PROMOTE, 1, 1)
    assert found.gain is not None
    assert found.gain > 0.3
    line = read_lineage(project)
    child = line.generations[1]
    assert child.digest == line.champion == found.child
    assert child.proposal is not None
    assert (child.proposal.author, child.proposal.lever, child.reason) == ("Ada's agent", "told", "to know more words")
    assert (child.rung, child.changed) == (Rung.JUDGE.value, ("prompt.md",))
    assert (project.champion_path / "prompt.md").read_text() == BETTER.files["prompt.md"]
    assert [v for v in dict.fromkeys(e.verb for e in events) if v in VERBS] == list(VERBS)
    assert len(line.vault) == 1
    assert "the child is the champion now" in found.words
    runs.check(project)


def test_every_other_fate(project: Project) -> None:
    assert hear(project, prompt(0.7)).standing is Standing.PROMOTED
    worse = hear(project, WORSE)
    assert (worse.standing, worse.decision, worse.test) == (Standing.NOT, None, None)
    assert "screened out" in worse.why
    lucky = hear(project, prompt(0.7, luck=runs.lucky().luck))
    assert (lucky.standing, lucky.decision, lucky.test) == (Standing.NOT, Decision.REJECT, 2)
    assert "is not better enough on sealed tasks" in lucky.words
    rude = hear(project, prompt(1.0, manners=0.1))
    assert rude.decision is None
    assert "worse on manners" in rude.why
    double = hear(project, Offer(files=WORSE.files, reason="with another reason"))
    assert double.why == "an earlier candidate was the same body, byte for byte"
    assert [f.round for f in fates(project)] == [1, 2, 3, 4, 5]
    assert fate(project) == double
    assert fate(project, 3) == lucky


def test_told_again_it_says_what_became_of_it(project: Project) -> None:
    first = hear(project, WORSE)
    assert hear(project, WORSE) == first
    assert len(fates(project)) == 1
    with pytest.raises(ProjectError, match="no such round"):
        fate(project, 7)


def test_the_same_text_for_another_champion_is_another_proposal(project: Project) -> None:
    best, worse = prompt(0.9), prompt(0.25)
    assert hear(project, worse).standing is Standing.NOT
    assert hear(project, best).standing is Standing.PROMOTED
    assert hear(project, best).round == 2, "it was promoted, and is not heard again"
    assert hear(project, worse).round == 3
    genesis = rolled_back(project)
    again = hear(project, best)
    assert (again.round, again.parent, again.standing) == (4, genesis, Standing.NOT), "a person took it back"


def rolled_back(project: Project) -> str:
    with runs.inside(project) as warden:
        genesis = str(warden.status()["genesis"])
        warden.rollback(genesis, "Ada", "before was better")
    return genesis


def test_no_agent_was_heard(project: Project) -> None:
    with pytest.raises(ProjectError, match="no agent was heard yet"):
        fate(project)


def test_a_person_agrees_first(tmp_path: Path) -> None:
    project = runs.make(tmp_path / "demo", FREE, APPROVE)
    found = hear(project, BETTER)
    assert (found.standing, found.test) == (Standing.WAITING, 1)
    assert "`upwright approve 1`" in found.words
    assert hear(project, BETTER) == found, "it still waits"
    with pytest.raises(WardenError, match="waits for a person"):
        hear(project, prompt(0.9))
    with runs.inside(project) as warden:
        warden.approve(1, "Ada")
    assert hear(project, BETTER).standing is Standing.PROMOTED
    assert len(fates(project)) == 1
    runs.check(project)


def test_a_person_says_no(tmp_path: Path) -> None:
    project = runs.make(tmp_path / "demo", FREE, APPROVE)
    hear(project, BETTER)
    with runs.inside(project) as warden:
        warden.refuse(1, "Ada", "too soon")
    refused = hear(project, BETTER)
    assert (refused.standing, refused.decision) == (Standing.NOT, Decision.PROMOTE)
    assert "a person refused this promotion" in refused.words
    assert len(read_lineage(project).generations) == 1


def test_a_waiting_promotion_is_carried_out_by_the_next_run(tmp_path: Path) -> None:
    project = runs.make(tmp_path / "demo", APPROVE)
    hear(project, BETTER)
    with runs.inside(project) as warden:
        warden.approve(1, "Ada")
    line = runs.go(project, [runs.SAME], rounds=1)
    assert line.generations[1].lever == "told"
    assert fate(project).standing is Standing.PROMOTED


@pytest.mark.parametrize(
    ("edits", "error", "told"),
    [
        ((("[sealed]", "[budget]\ntests = 0\n[sealed]"),), WardenError, "budget of 0 tests is spent"),
        ((("[sealed]", "[budget]\ngenerations = 0\n[sealed]"),), CharterError, "0 generations are reached"),
        ((("[sealed]", "[budget]\nminutes = 0.0\n[sealed]"),), CharterError, "the time is spent"),
        (
            (("minimum_gain", 'minimum_rung = "execution"\nminimum_gain'),),
            CharterError,
            "demands execution or stronger",
        ),
        ((('["prompt.md"]', '["memory.jsonl"]'),), CharterError, "prompt.md is not among what may change"),
    ],
)
def test_the_charter_ends_it(tmp_path: Path, edits: Any, error: type[Exception], told: str) -> None:
    project = runs.make(tmp_path / "demo", FREE, *edits)
    with pytest.raises(error, match=told):
        hear(project, BETTER)
    assert len(read_lineage(project).generations) == 1


def test_a_stopped_project_hears_nothing(project: Project) -> None:
    with runs.inside(project) as warden:
        warden.stop("lunch")
    with pytest.raises(WardenError, match="the run was stopped"):
        hear(project, BETTER)
    with runs.inside(project) as warden:
        warden.resume()
    assert hear(project, BETTER).standing is Standing.PROMOTED


def test_the_champion_that_was_read_is_the_one(project: Project) -> None:
    champion = read_state(project.warden)["champion"]
    with pytest.raises(ProjectError, match="for a champion that is not any more"):
        hear(project, Offer(files=BETTER.files, parent="feed"))
    assert hear(project, Offer(files=BETTER.files, parent=champion[:10])).standing is Standing.PROMOTED


def test_a_run_at_work_is_waited_for(project: Project) -> None:
    with project.lock(), pytest.raises(ProjectError, match="another run is at work"):
        hear(project, BETTER)


def test_an_unfounded_project_is_founded(tmp_path: Path) -> None:
    project = runs.write_project(tmp_path / "demo", FREE)
    assert tell(project, BETTER).standing is Standing.PROMOTED, "with the warden in its own process"
    runs.check(project)


def test_parts_of_a_program_are_told_too(tmp_path: Path) -> None:
    """What is not a short text of the body's own is stored, not drafted."""
    root = tmp_path / "demo"
    project = runs.write_project(root, FREE, ('["prompt.md"]', '["prompt.md", "program/"]'))
    (root / "body" / "program").mkdir()
    (root / "body" / "program" / "main.py").write_text("# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\nprint(x)\n")
    from upwright.founding import found

    found(project)
    (project.warden / "keys" / "secret").write_bytes(bytes(32))
    with pytest.raises(CharterError, match="has 0 EVOLVE blocks where it had 1"):
        hear(project, Offer(files={"program/main.py": "x = 2\n"}))
    edit = "program/main.py\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE\n"
    more = "prompt.md\n<<<<<<< SEARCH\nwords = 0.3\n=======\nwords = 0.9\n>>>>>>> REPLACE\n"
    found_ = hear(project, Offer(text=edit + more))
    assert found_.changed == ("program/main.py", "prompt.md")
    assert found_.standing is Standing.PROMOTED
    assert "x = 2" in (project.champion_path / "program" / "main.py").read_text()


# ---- not offered to the allocator -------------------------------------------------------------------


def test_told_is_no_lever_of_a_run(project: Project) -> None:
    assert "told" not in registry()
    assert "told" not in instances({}, ())
    hear(project, BETTER)
    hear(project, WORSE)
    line = runs.go(project)
    assert [c.lever for c in line.candidates][:2] == ["told", "told"]
    assert {c.lever for c in line.candidates[2:]} == {"coach"}
    assert Told().propose(None) is None  # type: ignore[arg-type]


# ---- a round that was left open ---------------------------------------------------------------------


def interrupted(project: Project, verb: str, step: Any = runs.WORSE) -> None:
    """A coach's run that was stopped in its first round, at the first news of ``verb``."""

    def stop(event: Event) -> None:
        if event.verb == verb:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        runs.go(project, [step], on_event=stop)


def test_what_was_built_is_ended_first(project: Project) -> None:
    interrupted(project, "prove")
    said: list[str] = []
    found = hear(project, BETTER, on_event=lambda e: said.append(e.note))
    assert found.round == 2
    assert found.standing is Standing.PROMOTED
    assert [f.lever for f in fates(project)] == ["coach", "told"]
    assert "screened out" in fates(project)[0].why
    assert any("first the rest of round 1" in note for note in said)


def test_what_was_built_may_be_champion_first(project: Project) -> None:
    interrupted(project, "prove", runs.BETTER)
    with pytest.raises(ProjectError, match="its child is the champion now"):
        hear(project, BETTER)
    assert len(read_lineage(project).generations) == 2
    found = hear(project, prompt(1.0))
    assert (found.round, found.standing) == (2, Standing.PROMOTED)


def test_what_nobody_here_can_build_is_dropped(project: Project) -> None:
    interrupted(project, "build")
    assert [f.lever for f in fates(project)] == ["coach"]
    assert hear(project, BETTER).round == 1


def test_what_was_not_built_is_built_and_ended_first(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(project, "build")
    coached(monkeypatch)
    assert hear(project, BETTER).round == 2
    assert [f.lever for f in fates(project)] == ["coach", "told"]


def test_a_long_build_is_not_begun_unasked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(project, "build")
    coached(monkeypatch)
    monkeypatch.setattr(Coach, "seconds", 4000.0)
    with pytest.raises(ProjectError, match=r"in the middle of round 1 \(coach") as caught:
        hear(project, BETTER)
    assert "--anew" in caught.value.todo
    assert [f.lever for f in fates(project)] == ["coach"], "nothing was dropped"
    assert hear(project, BETTER, anew=True).round == 1
    assert [f.lever for f in fates(project)] == ["told"]


def test_a_round_for_a_former_champion_is_dropped(project: Project) -> None:
    runs.go(project, [runs.BETTER], rounds=1)
    with pytest.raises(Stopped):
        runs.go(project, [runs.SAME, runs.WORSE, runs.BEST], on_event=_stop_in("build"))
    genesis = rolled_back(project)
    found = hear(project, prompt(0.9))
    assert found.parent == genesis
    assert found.standing is Standing.PROMOTED


def test_an_open_round_of_its_own_for_a_former_champion_is_dropped(project: Project) -> None:
    """Told, interrupted, and meanwhile a person went back: it is heard for the champion that there is now."""
    first, second = prompt(0.6), prompt(0.9)
    hear(project, first)
    with pytest.raises(Stopped):
        hear(project, second, on_event=_stop_in("prove"))
    with project.journal as journal:
        assert journal.read("build", 2)
        assert journal.read("prove", 2) is None
    genesis = rolled_back(project)
    found = hear(project, second)
    assert (found.round, found.parent, found.standing) == (2, genesis, Standing.PROMOTED)


def _stop_in(verb: str) -> Any:
    def stop(event: Event) -> None:
        if event.verb == verb:
            raise Stopped("enough")

    return stop


# ---- kill -9 ----------------------------------------------------------------------------------------


def outcome(project: Project) -> tuple[Any, ...]:
    rows = {verb: row for verb, row in runs.journal(project).items() if verb not in ("evaluate", "diagnose")}
    return read_state(project.warden)["champion"], rows, runs.evidence(project)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    project = runs.copy(tmp_path_factory.mktemp("undisturbed") / "demo")
    hear(project, BETTER)
    return outcome(project)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_anywhere_the_same_goes_on(verb: str, tmp_path: Path, undisturbed: tuple[Any, ...]) -> None:
    project = runs.copy(tmp_path / "demo")
    rng = random.Random(derive_seed("kill", verb))
    deaths = 0
    for trap in (
        before_its_row(verb, KILL), somewhere_in(verb, KILL, rng.uniform(0, 0.02)), with_its_row(verb, KILL)
    ):  # fmt: skip
        deaths += drive(project, lambda: tell(project, BETTER), trap) == -KILL
    assert deaths >= 1
    assert drive(project, lambda: tell(project, BETTER)) == 0, (project.root / "driver.log").read_text()
    assert outcome(project) == undisturbed
    assert fate(project).standing is Standing.PROMOTED
    runs.check(project)


@pytest.mark.parametrize("verb", ["propose", "build", "prove", "promote"])
def test_killed_anywhere_the_next_run_goes_on(verb: str, tmp_path: Path) -> None:
    """A run knows nothing of ``told``: it ends what was built, and where nothing was, it does its own."""
    project = runs.copy(tmp_path / "demo")
    assert drive(project, lambda: tell(project, BETTER), before_its_row(verb, KILL)) == -KILL
    assert drive(project, lambda: run(project, limits=Limits(rounds=1))) == 0, (project.root / "driver.log").read_text()
    (first,) = fates(project)
    assert first.lever == ("told" if verb in ("prove", "promote") else "coach")
    assert first.standing is Standing.PROMOTED
    runs.check(project)


def drive(project: Project, action: Any, trap: Trap | None = None) -> int:
    with pytest.MonkeyPatch.context() as patch:
        coached(patch, trap)
        return fork(action, project.root / "driver.log")


def test_the_improver_s_account_goes_on(tmp_path: Path) -> None:
    """improver.toml is in the charter: a told child carries it, and a run reads it."""
    project = runs.make(tmp_path / "demo", ('["prompt.md"]', '["prompt.md", "improver.toml"]'))
    assert hear(project, WORSE).standing is Standing.NOT
    assert hear(project, BETTER).standing is Standing.PROMOTED
    assert "[levers.told]" in (project.champion_path / "improver.toml").read_text()
    line = runs.go(project, [runs.SAME, runs.WORSE])
    assert [c.lever for c in line.candidates] == ["told", "told", "coach", "coach"]
    assert hear(project, Offer(files={"improver.toml": "exploration = 0.5\n"})).why.startswith("screened out")
    with pytest.raises(BodyError, match="unknown key"):
        hear(project, Offer(files={"improver.toml": "explore = 0.5\n"}))
