"""Sealed runs of programs: exact metrics, noisy ones, failures, alarms, and programs that are not the committed ones."""

import copy
import json
import math
import os
import shutil

import numpy as np
import pytest

from upwright.warden import ledger, rules
from upwright.warden.audit import verify_home
from upwright.warden.door import found
from upwright.warden.errors import GraderError, Refusal, VaultError
from upwright.warden.exact import RUNS, Exact, Pair
from upwright.warden.gate import Decision, Gate
from upwright.warden.isolation import Ending, Ran
from upwright.warden.kernel import Warden
from upwright.warden.spending import threshold
from upwright.warden.vault import Stamp

from .cells import body, ended, fake, folder, gave, says, value_of, written
from .world import SALT, drive

__all__ = ["fake"]

CHARTER = """
objective = "value"
minimum_gain = 0.02
may_change = ["program/"]
[sealed]
batch = 8
n_max = 64
confirm = 16
retries = 0
[vault]
size = 8
"""
PROTECTED = "[protected.speed]\nmargin = 0.1\n[protected.size]\nmargin = 0.05\n"
EXACT = 'metric = "value"\nexact = true\n'
NOISY = 'metric = "value"\n'
START = body(1.0)
PROPOSAL = {"lever": "program"}


def home_of(tmp, spec=EXACT, charter=CHARTER, **suites):
    """A founded home whose objective is the metric ``value``; ``suites``: name → metric of the same evaluator."""
    place = folder(tmp, spec)
    named = {"value": "value", **suites}
    specs = {
        n: {"kind": "evaluator", "path": str(place), "metric": m, "program": written(1.0)} for n, m in named.items()
    }
    found(tmp / "home", charter, specs, START, SALT)
    return tmp / "home"


@pytest.fixture
def opened(tmp_path):
    """Wardens that are closed at the end (or when another of their home is opened), and whose ledger must then verify."""
    made = []

    def open_(home):
        for before in [w for w in made if w.home == home]:
            before.close()
            made.remove(before)
        made.append(Warden(home))
        return made[-1]

    yield open_
    for warden in made:
        warden.close()
        assert verify_home(warden.home).ok
        assert not (warden.home / "unpacked").exists()


def knock(warden, child, former=1.0):
    """Commit and answer; the number of the test."""
    champion = body(former)
    test = warden.commit(body(child), champion["files"], PROPOSAL, champion["digest"])
    drive(
        warden, test, {body(child)["digest"]: says(child), champion["digest"]: says(former), START["digest"]: says(1.0)}
    )
    return test


def entries(warden, kind):
    return [e.data for e in ledger.read(warden.home / ledger.FILE) if e.kind == kind]


def verdict(warden):
    return entries(warden, "verdict")[-1]


# ---- the comparison ------------------------------------------------------------------------------


def pairs(child, other, runs=RUNS, margin=None, sign=1):
    def one(a, b):
        return Pair(a, b, 0.0 if a is None else a / 10, 0.0 if b is None else b / 10)

    child, other = (v if isinstance(v, list) else [v] * runs for v in (child, other))
    return Exact(sign, RUNS, margin).update(map(one, child, other))


def test_better_is_better_in_every_digit():
    assert pairs(math.nextafter(2.0, 3), 2.0).held
    assert not pairs(2.0, 2.0).held
    assert not pairs(2.0, 3.0).held
    assert pairs(2.0, 3.0, sign=-1).held
    assert pairs(2.0, None).held, "the champion's program gets no score"
    assert not pairs(None, None).held
    assert not pairs(None, 1.0).held
    assert not pairs(3.0, 2.0, runs=RUNS - 1).held, "not all runs are made"


def test_a_margin_is_kept_exactly():
    assert pairs(1.0, 2.0, margin=0.1).held
    assert not pairs(1.0, 2.0, margin=0.0999).held
    assert pairs(None, None, margin=0.1).held
    assert not pairs(None, 0.5, margin=0.1).held, "a failure is no small loss"


@pytest.mark.parametrize("values", [[1.0, 1.0, math.nextafter(1, 2)], [1.0, None, 1.0], [0.0, -0.0, 0.0]])
def test_what_differs_shows_nothing(values):
    for exact in (pairs(values, 0.5), pairs(2.0, values)):
        assert exact.differs
        assert not exact.held


def test_the_gate_with_exact_suites():
    plan = {"value": {"sign": 1, "runs": RUNS}, "speed": {"sign": -1, "runs": RUNS}}
    gate = Gate.start(40, 0.1, 0.1, 64, {"speed": 0.1}, ("champion",)).exactly("value", plan)
    assert gate.decide() == (None, "0 of 3 runs are made")
    gate = gate.add_objective([1.0] * 64)
    assert gate.objective.n == 0, "differences are no exact runs"
    gate = gate.add_exact(None, pairs(2.0, 1.0).seen)
    assert gate.open_suites("value") == ("speed",)
    assert gate.decide()[0] is None
    worse = gate.add_exact(("speed", "champion"), pairs(1.0, 5.0).seen)
    assert worse.decide()[0] is Decision.REJECT
    assert "worse on speed by more than 10 points" in worse.decide()[1]
    good = gate.add_exact(("speed", "champion"), pairs(1.0, 1.5).seen)
    assert good.decide()[0] is Decision.PROMOTE
    assert "2.0 against 1.0" in good.decide()[1]
    assert good.log_e == 0.0


def test_a_noisy_suite_still_needs_its_evidence_beside_an_exact_one():
    gate = Gate.start(40, 0.1, 0.1, 64, {"noisy": 0.2}, ("champion",)).exactly(
        "value", {"value": {"sign": 1, "runs": RUNS}}
    )
    gate = gate.add_exact(None, pairs(2.0, 1.0).seen)
    assert gate.open_suites("value") == ("noisy",)
    while gate.decide()[0] is None:
        assert gate.log_e < gate.log_threshold
        gate = gate.add_protected("noisy", "champion", [0.0] * 8)
    assert gate.decide()[0] is Decision.PROMOTE
    assert gate.log_e >= math.log(40)


# ---- through the warden --------------------------------------------------------------------------


def exact_run(program, seed):
    return {"value": value_of(program), "seconds": seed % 7}


def test_a_better_program_is_promoted_and_measured_again(tmp_path, opened, fake):
    made = fake(exact_run)
    w = opened(home_of(tmp_path))
    test = knock(w, 1.5)
    told = verdict(w)
    assert (told["decision"], told["threshold"], told["e_value"], told["error_spent"]) == ("PROMOTE", 1.0, 1.0, 0.0)
    assert "no error rate is spent" in told["claim"]
    assert told["reason"] == "better: 1.5 against 1.0, in each of 3 runs"
    assert told["objective"]["exact"] == {"child": [1.5] * 3, "other": [1.0] * 3}
    assert len(made[-1].jobs) == 2 * RUNS
    assert len({seed for _, _, seed in made[-1].jobs}) == RUNS, "child and champion share a run's seed"
    w.promote(test)
    drive(w, test, {body(1.5)["digest"]: says(1.5), START["digest"]: says(1.0)})
    gain = entries(w, "confirmed")[-1]
    assert (gain["n"], gain["interval_method"]) == (RUNS, "exact")
    assert gain["gain_interval"] == [gain["gain"]] * 2
    assert gain["gain"] > 0
    handle = w.open_vault()
    drive(w, handle, {body(1.5)["digest"]: says(1.5), START["digest"]: says(1.0)})
    assert entries(w, "vault")[-1]["gain"] == gain["gain"]


@pytest.mark.parametrize("child", [0.5, -3.0, 1.00, 0.9999999999999999])
def test_a_program_that_is_not_better_is_rejected(tmp_path, opened, fake, child):
    fake(exact_run)
    w = opened(home_of(tmp_path))
    if body(child)["digest"] == START["digest"]:
        with pytest.raises(Refusal, match="identical"):
            knock(w, child)
        return
    knock(w, child)
    assert verdict(w)["decision"] == "REJECT"
    assert verdict(w)["reason"].startswith("not better: ")


def test_a_tie_of_another_text_is_no_gain(tmp_path, opened, fake):
    fake(exact_run)
    w = opened(home_of(tmp_path))
    knock(w, "1.000")
    assert verdict(w)["decision"] == "REJECT"


def test_a_score_that_does_not_repeat_is_not_enough_and_an_alarm(tmp_path, opened, fake):
    fake(lambda p, s: {"value": value_of(p) + (s % 1000 * 1e-9 if value_of(p) > 1 else 0)})
    w = opened(home_of(tmp_path))
    test = knock(w, 1.5)
    assert verdict(w)["decision"] == "INSUFFICIENT"
    assert "should repeat exactly did not" in verdict(w)["reason"]
    (note,) = entries(w, "note")
    assert (note["kind"], note["data"]["test"], note["data"]["suite"]) == ("alarm", test, "value")
    with pytest.raises(Refusal, match="only a PROMOTE"):
        w.promote(test)


@pytest.mark.parametrize("ending", [Ending.CRASH, Ending.TIMEOUT, Ending.MEMORY, Ending.PROTOCOL])
def test_a_program_that_fails_is_rejected(tmp_path, opened, fake, ending):
    fake(lambda p, s: {"value": 1.0} if value_of(p) == 1.0 else ended(ending, "it broke"))
    w = opened(home_of(tmp_path))
    knock(w, 2.0)
    assert verdict(w)["decision"] == "REJECT"
    assert "no score against 1.0" in verdict(w)["reason"]
    batch = entries(w, "batch")[-1]
    assert batch["runs"][0]["child"] == {"metric": None, "why": f"{ending.value}: it broke"}
    assert batch["items"][0][2] == 0.0


def test_trouble_of_ours_is_not_enough(tmp_path, opened, fake):
    state = {"broken": False}
    fake(lambda p, s: ended(Ending.INFRASTRUCTURE, "no room") if state["broken"] else exact_run(p, s))
    w = opened(home_of(tmp_path))
    state["broken"] = True
    knock(w, 2.0)
    assert verdict(w)["decision"] == "INSUFFICIENT"
    assert "no room" in verdict(w)["reason"]


def test_protected_metrics_of_the_same_evaluator(tmp_path, opened, fake):
    def run(program, seed):
        value = value_of(program)
        return {"value": value, "speed": 1.0, "size": 1.0 if value < 2 else 3.0}

    fake(run)
    spec = EXACT + '[metrics.size]\ndirection = "min"\nexact = true\n'
    w = opened(home_of(tmp_path, spec, CHARTER + PROTECTED, speed="speed", size="size"))
    knock(w, 1.5)
    assert verdict(w)["decision"] == "PROMOTE"
    assert {p["suite"] for p in verdict(w)["protected"]} == {"speed", "size"}
    knock(w, 2.5)
    assert verdict(w)["decision"] == "REJECT"
    assert "worse on size by more than 5 points" in verdict(w)["reason"]


def test_exact_tests_spend_nothing_and_the_others_as_if_they_had_not_been(tmp_path, opened, fake):
    fake(exact_run)
    w = opened(home_of(tmp_path))
    knock(w, 1.5)
    w.promote(1)
    drive(w, 1, {body(1.5)["digest"]: says(1.5), START["digest"]: says(1.0)})
    assert w.state.spending == (0, 0)
    assert rules.next_threshold(w.state) == 1.0
    spec = EXACT + "[metrics.seconds]\nexact = false\n"
    (tmp_path / "b").mkdir()
    x = opened(home_of(tmp_path / "b", spec, CHARTER + "[protected.noisy]\nmargin = 0.2\n", noisy="seconds"))
    knock(x, 1.5)
    assert verdict(x)["threshold"] == pytest.approx(threshold(0.05, 1, 0))
    assert "claim" not in verdict(x)
    assert x.state.spending == (1, 0)


def test_the_answered_program_must_be_the_committed_one(tmp_path, opened, fake):
    fake(exact_run)
    w = opened(home_of(tmp_path))
    child = body(1.5)
    test = w.commit(child, START["files"], PROPOSAL, START["digest"])
    batch = w.next_inputs(test)
    honest = {"child": says(1.5), "champion": says(1.0)}

    def given(**lies):
        sayers = {**honest, **lies}
        return {r: {q["id"]: {"text": sayers[r](""), "tokens": 0} for q in batch["questions"]} for r in honest}

    for lie in (
        {"child": says(9.0)},
        {"champion": says(0.0)},
        {"child": lambda q: json.dumps({**written(1.5), "more.py": ""})},
        {"child": lambda q: "{}"},
        {"child": lambda q: "no program"},
    ):
        with pytest.raises(Refusal, match="not the committed") as caught:
            w.answers(test, batch["batch"], given(**lie))
        assert caught.value.code == "scope"
    refused = entries(w, "refused")
    assert len(refused) == 5
    assert (refused[0]["role"], refused[0]["paths"], refused[0]["test"]) == ("child", ["program/program.py"], test)
    assert refused[1]["body"] == START["digest"]
    assert entries(w, "batch") == []
    assert w.answers(test, batch["batch"], given()) is None
    assert w.verdict(test) == "PROMOTE"


def test_what_the_champion_is_survives_a_restart(tmp_path, opened, fake):
    fake(exact_run)
    home = home_of(tmp_path)
    w = opened(home)
    knock(w, 1.5)
    w.promote(1)
    drive(w, 1, {body(1.5)["digest"]: says(1.5), START["digest"]: says(1.0)})
    test = w.commit(body(1.75), body(1.5)["files"], PROPOSAL, body(1.5)["digest"])
    x = opened(home)
    bodies = {body(1.75)["digest"]: says(1.75), body(1.5)["digest"]: says(1.0), START["digest"]: says(1.0)}
    with pytest.raises(Refusal, match="not the committed"):
        drive(x, test, bodies)
    drive(x, test, {**bodies, body(1.5)["digest"]: says(1.5)})
    assert x.verdict(test) == "PROMOTE"


def test_an_alarm_rejects_the_child_and_is_on_the_ledger(tmp_path, opened, fake):
    def run(program, seed):
        alarms = ("planted credentials were read",) if value_of(program) == 2.0 else ()
        return Ran(Ending.OK, gave(exact_run(program, seed)), "", "", 0.0, alarms)

    fake(run)
    w = opened(home_of(tmp_path))
    test = knock(w, 2.0)
    assert verdict(w)["decision"] == "REJECT"
    assert "planted credentials were read" in verdict(w)["reason"]
    (note,) = entries(w, "note")
    assert (note["kind"], note["data"]["test"], note["data"]["role"]) == ("alarm", test, "child")
    assert note["data"]["child"] == body(2.0)["digest"]
    assert "credentials" in note["data"]["what"]


def test_nothing_of_a_sealed_run_leaves(tmp_path, opened, fake):
    """What the door gives away before and after: commitments, a word, counts."""
    made = fake(exact_run)
    w = opened(home_of(tmp_path))
    said = []
    test = w.commit(body(1.5), START["files"], PROPOSAL, START["digest"])
    batch = w.next_inputs(test)
    said.append(batch)
    answers = {
        role: {q["id"]: {"text": says(value)(""), "tokens": 0} for q in batch["questions"]}
        for role, value in (("child", 1.5), ("champion", 1.0))
    }
    said += [w.answers(test, batch["batch"], answers), w.next_inputs(test), w.verdict(test), w.status()]
    text = json.dumps(said)
    seeds = {seed for _, _, seed in made[-1].jobs}
    assert len(seeds) == RUNS
    assert not any(str(seed) in text for seed in seeds)
    assert all(q["input"].startswith("run ") and q["check"] is None for q in batch["questions"])
    assert "metric" not in text


@pytest.mark.parametrize("change", ["decision", "metric", "exact", "files", "threshold"])
def test_a_forged_exact_test_does_not_verify(tmp_path, fake, change, monkeypatch):
    """Even with the signing key, entries must follow from each other."""
    fake(exact_run)
    w = Warden(home_of(tmp_path))
    append = w._ledger.append

    def forged(kind, data):
        data = copy.deepcopy(dict(data))
        if kind == "verdict" and change == "decision":
            data["decision"] = "PROMOTE"
        elif kind == "batch" and change == "metric":
            data["runs"][0]["child"]["metric"] = 0.25
            data["runs"][1]["child"]["metric"] = 0.25
        elif kind == "verdict" and change == "metric":
            data["decision"] = "REJECT"
        elif kind == "commit" and change == "exact":
            data["plan"]["exact"] = {}
        elif kind == "commit" and change == "files":
            data["files"]["program/program.py"] = data["files"]["model.toml"]
        elif kind == "commit" and change == "threshold":
            data["threshold"] = 2.0
        return append(kind, data)

    monkeypatch.setattr(w._ledger, "append", forged)
    try:
        knock(w, 0.5)
    except Refusal:
        assert change == "files", "the answered program is then no longer the committed one"
    w.close()
    assert not verify_home(w.home).ok


# ---- founding ------------------------------------------------------------------------------------


def test_an_evaluator_that_says_exact_and_is_not_is_refused_with_two_values(tmp_path, fake):
    fake(lambda p, s: {"value": s / 2**63})
    with pytest.raises(VaultError, match="says exact, but value of the same program differs") as caught:
        home_of(tmp_path)
    first, second = caught.value.value
    assert first != second
    assert not (tmp_path / "home").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["bench"], "nothing is left behind"


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (lambda p, s: ended(Ending.CRASH, "boom"), "gets no score, so nobody can see"),
        (lambda p, s: {"value": 1.0}, "gives no metric other"),
        (lambda p, s: ended(Ending.INFRASTRUCTURE, "no room"), "no room"),
    ],
)
def test_a_founding_that_cannot_be_tried(tmp_path, fake, run, told):
    fake(run)
    with pytest.raises(VaultError, match=told):
        home_of(tmp_path, other="other")


def test_a_noisy_evaluator_whose_first_program_fails_may_be_founded(tmp_path, fake, opened):
    fake(lambda p, s: ended(Ending.CRASH) if value_of(p) == 1.0 else {"value": value_of(p)})
    w = opened(home_of(tmp_path, NOISY))
    knock(w, 2.0)
    assert verdict(w)["decision"] == "PROMOTE", "anything that works is better"


def test_the_program_that_is_tried_must_be_the_first_body_s(tmp_path, fake):
    fake(exact_run)
    place = folder(tmp_path, EXACT)
    spec = {"kind": "evaluator", "path": str(place)}
    for program, told in ((written(2.0), "is not the first body's"), (None, "is tried with the first body's")):
        with pytest.raises(VaultError, match=told):
            found(tmp_path / "home", CHARTER, {"value": {**spec, "program": program}}, START, SALT)
    with pytest.raises(VaultError, match="not the one announced"):
        found(tmp_path / "home", CHARTER, {"value": {**spec, "sha256": "0" * 64}}, START, SALT)
    with pytest.raises(VaultError, match="unknown key"):
        found(tmp_path / "home", CHARTER, {"value": {**spec, "path": str(folder(tmp_path, "a = 1"))}}, START, SALT)


def test_founding_is_idempotent_and_suites_share_a_judge(tmp_path, fake):
    made = fake(lambda p, s: {"value": 1.0, "speed": 2.0})
    home = home_of(tmp_path, speed="speed")
    assert len(made) == 1
    assert len(made[0].jobs) == 5
    assert made[0].closed
    home_of(tmp_path, speed="speed")
    assert len(made) == 1
    with pytest.raises(Refusal, match="another project"):
        home_of(tmp_path, speed="value")
    facts = ledger.read(home / ledger.FILE)[0].data
    assert facts["suites"]["speed"] == {
        **facts["suites"]["value"],
        "file": facts["suites"]["speed"]["file"],
        "metric": "speed",
    }
    assert facts["genesis_files"] == START["files"]
    shutil.rmtree(tmp_path / "bench")
    warden = Warden(home)
    task = warden._vault.draw("value", Stamp("c", 1, "test"), 0)
    assert (task.skill, task.check, task.scorer) == ("value", None, {"kind": "program"})
    assert warden._vault.grade(task, says(1.0)("")).metric == 1.0, "the warden has a copy of its own"
    warden.close()


def test_an_evaluator_in_the_home_that_was_changed_is_noticed(tmp_path, fake, opened):
    fake(exact_run)
    home = home_of(tmp_path)
    next((home / "suites").glob("*.folder")).write_bytes(b"{}")
    w = opened(home)
    knock(w, 2.0)
    assert verdict(w)["decision"] == "INSUFFICIENT"
    assert "was changed" in verdict(w)["reason"]


def test_a_waiver_is_on_the_ledger(tmp_path, fake, monkeypatch):
    seen = []
    fake(exact_run)
    from upwright.warden import runs

    before = runs.Judge
    monkeypatch.setattr(runs, "Judge", lambda folder, **kw: seen.append(kw["waiver"]) or before(folder, **kw))
    spec = {"kind": "evaluator", "path": str(folder(tmp_path, EXACT)), "program": written(1.0), "waiver": "Ada"}
    found(tmp_path / "home", CHARTER, {"value": spec}, START, SALT)
    assert seen == [True]
    assert ledger.read(tmp_path / "home" / ledger.FILE)[0].data["suites"]["value"]["waiver"] == "Ada"


# ---- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_pure_noise_is_never_promoted(tmp_path, opened, fake, shared, monkeypatch):
    """N(0, 1) whatever the program: from the run's seed, or (worse) from the program as well, so that pairs differ."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # 60 tests: the disk is not what is tried here

    def run(program, seed):
        text = 0 if shared else int(np.float64(value_of(program)).view(np.int64) % 2**31)
        return {"value": float(np.random.default_rng([seed % 2**32, text]).normal())}

    fake(run)
    w = opened(home_of(tmp_path, NOISY, CHARTER.replace("n_max = 64", "n_max = 32").replace("batch = 8", "batch = 32")))
    for i in range(60):
        knock(w, 2.0 + i)
    words = [v["decision"] for v in entries(w, "verdict")]
    assert len(words) == 60
    assert "PROMOTE" not in words


def test_a_real_gain_in_noise_is_found(tmp_path, opened, fake):
    fake(lambda p, s: {"value": value_of(p) + float(np.random.default_rng([s % 2**32, int(value_of(p))]).normal())})
    w = opened(home_of(tmp_path, NOISY))
    test = knock(w, 4.0)
    assert verdict(w)["decision"] == "PROMOTE"
    assert verdict(w)["log_e"] >= math.log(verdict(w)["threshold"])
    w.promote(test)
    drive(w, test, {body(4.0)["digest"]: says(4.0), START["digest"]: says(1.0)})
    whole = [b["drawn"] for b in entries(w, "batch") if b["phase"] == "confirm"]
    assert whole == [{"value": 8}] * 2, "a run takes its time: no batch is larger than the charter says"
    assert entries(w, "confirmed")[-1]["n"] == 16


def test_a_grader_without_an_evaluator_says_so(tmp_path):
    from upwright.warden.grader import grade

    with pytest.raises(GraderError, match="only a suite with an evaluator"):
        grade({"kind": "program"}, "{}", 3)
