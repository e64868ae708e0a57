from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import synthetic
from upwright import calibrate as module
from upwright.calibrate import Plan, calibrate, coin_flips, exact, gate_says, gate_tests, resampled, simulate
from upwright.errors import RuntimeFailure
from upwright.lineage import read_lineage
from upwright.project import Project
from upwright.records import Answer, Failure, FailureKind, derive_seed, to_json
from upwright.warden import ledger
from upwright.warden.charter import Charter, Sealed
from upwright.web.facts import calibration_lines

LOOSE = Charter(error_rate=0.6, sealed=Sealed(batch=10, n_max=45, confirm=40))
"""A charter that lets null candidates in often enough to count them."""


def quiet(*_: Any) -> None:
    pass


def wealth(d: Any, sign: int, shift: float, goal: float, n_max: int) -> float:
    """The e-value, bet by bet in plain floats."""
    e, total, squares = 1.0, 0.0, 1.0
    for n, x in enumerate(d):
        y = sign * (x + shift)
        if e < goal:
            chase = math.sqrt(2 * math.log(goal / e) * (n + 4) / ((n_max - n) * squares))
            enough = (1.01 * goal / e - 1) / (1 + sign * shift)
            e *= 1 + min(max(chase, 0.75 * total / squares), 0.9 / (1 - sign * shift), enough) * y
        total, squares = total + y, squares + y * y
    return e


def by_hand(charter: Charter, number: int, promotions: int, d: Any) -> tuple[bool, int]:
    """The rule of the charter, written down once more."""
    needed, most = number * (number + 1) / (charter.error_rate * (promotions + 1)), charter.sealed.n_max
    used = 0
    while used < most:
        used = min(used + charter.sealed.batch, most)
        if wealth(d[:used], 1, 0.0, needed, most) >= needed:
            return True, used
        if wealth(d[:used], -1, -charter.minimum_gain, 1 / charter.beta, most) >= 1 / charter.beta:
            return False, used
    return False, used


@pytest.mark.parametrize("gain", [0.0, 0.3, -0.3])
def test_the_fast_way_is_the_gate_is_the_rule_by_hand(gain: float) -> None:
    rng = np.random.default_rng(1)
    d = np.sign(rng.random((40, 45)) - 0.5 + gain / 2) * (rng.random((40, 45)) < 0.4)
    promotions = rng.integers(0, 3, 40)
    promoted, used = gate_tests(LOOSE, 2, promotions, d)
    for row in range(40):
        wanted = by_hand(LOOSE, 2, int(promotions[row]), d[row])
        assert gate_says(LOOSE, 2, int(promotions[row]), d[row]) == wanted
        assert (bool(promoted[row]), int(used[row])) == wanted
    assert (promoted.sum() > 15) == (gain > 0)  # levels are 0.1 to 0.3, so about 7 of 40 by chance


def test_graded_scores_too() -> None:
    d = np.random.default_rng(2).uniform(-0.3, 0.6, (10, 45))
    promoted, used = gate_tests(LOOSE, 1, np.zeros(10, dtype=np.int64), d)
    assert [(bool(p), int(u)) for p, u in zip(promoted, used, strict=True)] == [by_hand(LOOSE, 1, 0, x) for x in d]


def test_coin_flips_are_seldom_promoted_and_often_kept_by_a_greedy_rule() -> None:
    """A greedy rule accepts (1 − P(tie)) / 2 of the coins, and reports the best of its lucky draws."""
    plan = Plan(Charter(), runs=30, candidates=20, screen=16, practice=96)
    found = simulate(plan, coin_flips, 0.5, ("coin", 7), quiet)
    tie = sum(binom.pmf(k, 16, 0.5) ** 2 for k in range(17))
    low, high = binom.ppf([0.0001, 0.9999], 600, (1 - tie) / 2)
    assert low <= found.greedy.accepted.count <= high
    assert found.greedy.fdr.value == 1.0
    assert found.greedy.fiction > 0.15
    assert found.gate.fdr.count <= binom.ppf(0.9999, 30, 0.05)
    assert abs(found.gate.fiction) < 4 * 0.5 / math.sqrt(96 * 30)
    assert found.gate.fiction_interval.low < found.gate.fiction < found.gate.fiction_interval.high
    assert found == simulate(plan, coin_flips, 0.5, ("coin", 7), quiet)
    assert found != simulate(plan, coin_flips, 0.5, ("coin", 8), quiet)


def test_promotions_of_a_run_are_counted_and_spent_as_elond_says() -> None:
    """Against a plain replay of the same draws, one run at a time."""
    plan = Plan(LOOSE, runs=25, candidates=8, screen=20, practice=30)
    found = simulate(plan, coin_flips, 0.5, ("coin", 3), quiet)
    accepted, runs_with, scores, tasks = 0, 0, [], 0
    for run in range(25):
        rng = np.random.default_rng((derive_seed("calibrate", "coin", 3), run))
        score, promotions = coin_flips(rng, 30)[1].mean(), 0
        for number in range(1, 9):
            child, champion = coin_flips(rng, 45)
            promoted, used = by_hand(LOOSE, number, promotions, child - champion)
            tasks += used
            if promoted:
                promotions += 1
                score = coin_flips(rng, 40)[0].mean()
        accepted, runs_with = accepted + promotions, runs_with + (promotions > 0)
        scores.append(score)
    assert (found.gate.accepted.count, found.gate.fdr.count) == (accepted, runs_with)
    assert accepted > 0
    assert found.gate.reported == pytest.approx(np.mean(scores))
    assert found.gate_tasks == pytest.approx(tasks / 200)
    assert found.gate.fdr.value <= LOOSE.error_rate


def test_real_pairs_make_an_exact_null_however_lopsided_they_are() -> None:
    draw = resampled(((1.0, 0.0),) * 5 + ((0.5, 0.25),) * 5)
    child, champion = draw(np.random.default_rng(0), 20000)
    assert abs((child - champion).mean()) < 4 * 0.8 / math.sqrt(20000)
    assert {(a, b) for a, b in zip(child, champion, strict=True)} == {(1, 0), (0, 1), (0.5, 0.25), (0.25, 0.5)}


def test_intervals_are_clopper_and_pearsons() -> None:
    """The ends are where a binomial tail holds 2.5 %."""
    rate = exact(7, 200)
    assert binom.sf(6, 200, rate.interval.low) == pytest.approx(0.025)
    assert binom.cdf(7, 200, rate.interval.high) == pytest.approx(0.025)
    assert exact(0, 200).interval.low == 0.0
    assert exact(0, 200).interval.high == pytest.approx(1 - 0.025 ** (1 / 200))


# ---- a whole project ------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    synthetic.write_project(tmp_path / "p")
    settings = tmp_path / "p" / "upwright.toml"
    settings.write_text(settings.read_text() + '[engine]\nkind = "local"\nworkers = 0\n')
    monkeypatch.setattr(module, "RUNS", 12)
    monkeypatch.setattr(module, "answer", coin_answers)
    return Project.open(tmp_path / "p")


def coin_answers(body: Any, questions: Any, seed: int, progress: Any = None) -> list[Answer]:
    """Right by a coin of seed and question; one question always fails."""
    assert body.inference.temperature == 0.7
    found = []
    for i, q in enumerate(questions):
        words = q.input.rstrip("?").split()
        right = derive_seed(seed, q.id) % 2
        failure = Failure(FailureKind.CRASH, "no luck") if i == 3 else None
        text = str(eval(" ".join(words[2:]))) if right else "no idea"
        found.append(Answer(q.id, "" if failure else text, prompt_tokens=3, completion_tokens=2, failure=failure))
        progress(i + 1, len(questions))
    return found


def test_calibrate_measures_this_project_and_notes_it(project: Project) -> None:
    heard: list[Any] = []
    found = calibrate(project, candidates=5, tasks=40, on_event=heard.append)
    assert (found.own.source, found.own.pairs, found.failed, found.tokens) == ("sums", 39, 1, 400)
    assert 0.3 < found.own.truth < 0.7
    assert 0.2 < found.own.differ < 0.8
    assert (found.coin.truth, found.runs, found.candidates) == (0.5, 12, 5)
    assert {e.verb for e in heard} == {"evaluate", "prove"}
    assert [e.done for e in heard if e.verb == "evaluate"] == list(range(1, 81))

    entries = ledger.read(project.warden / ledger.FILE)
    assert [e.kind for e in entries] == ["founding", "note"], "no test, no draw, no error spent"
    noted = read_lineage(project).calibration
    assert noted is not None
    assert json.loads(json.dumps(to_json(found))).items() <= noted.items()

    text = "\n".join(calibration_lines(noted))
    assert "the champion against itself (39 practice tasks of sums" in text
    assert f"{100 * found.coin.greedy.accepted.value:.1f} %" in text

    again = calibrate(project, candidates=5, tasks=40)
    assert replace(again, seconds=0.0, summary=()) == replace(found, seconds=0.0, summary=())


def test_a_champion_that_cannot_answer_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Failure(FailureKind.INFRASTRUCTURE, "down")
    monkeypatch.setattr(
        module, "answer", lambda body, questions, seed, progress: [Answer(q.id, "", failure=failure) for q in questions]
    )
    with pytest.raises(RuntimeFailure, match="could be scored"):
        calibrate(project, candidates=2, tasks=4)
    assert [e.kind for e in ledger.read(project.warden / ledger.FILE)] == ["founding"]
