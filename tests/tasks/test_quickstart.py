"""The two suites that come with Upwright: deterministic, diverse, balanced, answerable."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import upwright
from upwright.tasks import Suite, load_source, scorers
from upwright.tasks.python import drawn
from upwright.warden.buckets import bucket, normalise_input

FOLDER = Path(upwright.__file__).parent / "quickstart" / "tasks"
SUITES = ("desk", "basics")
DRAWS = 6000


@pytest.fixture(scope="module", params=SUITES)
def source(request):
    return load_source(f"{request.param}.py", FOLDER)


@pytest.fixture(scope="module")
def tasks(source):
    return [drawn(source, seed) for seed in range(DRAWS)]


def test_the_same_seed_gives_the_same_task(source, tasks):
    assert [drawn(source, seed) for seed in range(200)] == tasks[:200]


def test_skills_and_difficulties_are_equally_likely(tasks):
    skills = Counter(t.skill for t in tasks)
    assert len(skills) >= 6
    for counts in (skills, Counter(t.difficulty for t in tasks)):
        expected = DRAWS / len(counts)
        chi2 = sum((n - expected) ** 2 / expected for n in counts.values())
        assert chi2 < 25  # 0.999 quantile with 7 degrees of freedom is 24.3
    assert {t.difficulty for t in tasks} == {1, 2, 3}


def test_gold_answers_get_the_full_score_and_pass_the_check(tasks):
    for task in tasks:
        gold = scorers.as_text(task.answer)
        assert scorers.grade(gold, task) == 1.0, task
        assert scorers.passes(task.check, gold), task


def test_wrong_answers_get_nothing(tasks):
    for task in tasks[:2000]:
        for wrong in ("", "I am sorry, but I cannot help with that.", "{}", "-1"):
            assert scorers.grade(wrong, task) == 0.0, (task, wrong)


def test_another_tasks_answer_is_wrong(tasks):
    """Answers of the same skill and difficulty are no passepartout."""
    by_kind = {}
    for task in tasks:
        by_kind.setdefault((task.skill, task.difficulty), []).append(task)
    for kind, some in by_kind.items():
        pairs = list(pairwise(some))
        hits = sum(scorers.grade(scorers.as_text(b.answer), a) == 1.0 for a, b in pairs)
        assert hits / len(pairs) < 0.3, kind


def test_there_are_thousands_of_different_problems_per_skill(source):
    if source.path.stem == "desk":
        module_tasks = {skill: set() for skill in {drawn(source, s).skill for s in range(100)}}
        for seed in range(24000):
            task = drawn_input(source, seed)
            module_tasks[task["skill"]].add(task["input"])
        # with N equally likely inputs, n = 3,000 draws give N (1 − exp(−n / N)) different ones: 5,000 → 2,256
        assert all(len(inputs) > 2256 for inputs in module_tasks.values())
    else:
        assert len({drawn_input(source, seed)["input"] for seed in range(24000)}) > 8000


def drawn_input(source, seed):
    from upwright.tasks.python import module_of

    return module_of(source).generate(seed)


def test_buckets_are_balanced_in_every_skill(tasks):
    for skill in {t.skill for t in tasks}:
        inputs = {normalise_input(t.input) for t in tasks if t.skill == skill}
        shares = Counter(bucket("salt", text) for text in inputs)
        for name, share in (("practice", 0.6), ("sealed", 0.3), ("vault", 0.1)):
            spread = 4 * (share * (1 - share) / len(inputs)) ** 0.5
            assert abs(shares[name] / len(inputs) - share) < spread, (skill, name)


def test_a_question_states_the_form_of_its_answer(tasks):
    """Desk questions say that nothing but the answer is wanted."""
    if tasks[0].skill not in ("dates", "records", "compare", "largest", "totals", "times", "names", "codes"):
        return
    for task in tasks:
        assert any(word in task.input.lower() for word in ("only", "nothing else")), task.input


def test_desk_checks_refuse_chat(tasks):
    checked = [t for t in tasks if t.check is not None]
    for task in checked[:1000]:
        assert not scorers.passes(task.check, f"Sure! The answer is {scorers.as_text(task.answer)}, I think.")


@pytest.mark.parametrize(
    ("skill", "said", "right"),
    [
        ("dates", "1998/03/05", False),
        ("names", "no comma Lopez Maria", False),
    ],
)
def test_desk_is_strict_about_the_form(skill, said, right):
    source = load_source("desk.py", FOLDER)
    task = next(t for t in (drawn(source, s) for s in range(200)) if t.skill == skill)
    assert (scorers.grade(said, task) == 1.0) is right


def test_desk_dates_and_sums_agree_with_the_standard_library():
    """Answers against an independent reading of the questions."""
    import re
    from datetime import datetime

    source = load_source("desk.py", FOLDER)
    seen = Counter()
    for seed in range(4000):
        task = drawn(source, seed)
        numbers = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", task.input)]
        if task.skill == "dates":
            found = re.search(r"(\d+/\d+/\d{4}) \((month|day) first\)", task.input)
            if found:
                form = "%m/%d/%Y" if found[2] == "month" else "%d/%m/%Y"
                assert task.answer == datetime.strptime(found[1], form).strftime("%Y-%m-%d")
                seen["dates"] += 1
        elif task.skill == "largest":
            assert float(task.answer) == max(numbers)
            seen["largest"] += 1
        elif task.skill == "compare":
            small = "smaller" in task.input
            assert float(task.answer) == (min(numbers) if small else max(numbers))
            seen["compare"] += 1
        elif task.skill == "totals":
            total = sum(numbers) if task.difficulty < 3 else 100 - (sum(numbers) - 100)
            assert float(task.answer) == total
            seen["totals"] += 1
        elif task.skill == "times":
            a, b = sorted(numbers)[:2] if len(numbers) == 2 else numbers[:2]
            assert float(task.answer) == a * b, task
            seen["times"] += 1
        elif task.skill == "records":
            assert all(str(v) in task.input or str(v).lower() in task.input.lower() for v in task.answer.values())
            assert json.loads(scorers.as_text(task.answer)) == task.answer
            seen["records"] += 1
    assert min(seen.values()) > 100
    assert len(seen) == 6


def test_a_suite_over_a_generator_draws_only_practice():
    suite = Suite("desk", load_source("desk.py", FOLDER), "salt")
    tasks = suite.draw(300, 5)
    assert len(tasks) == 300
    assert tasks == suite.draw(300, 5)
    assert tasks != suite.draw(300, 6)
    assert len({normalise_input(t.input) for t in tasks}) == 300
    assert {bucket("salt", t.input) for t in tasks} == {"practice"}
    assert suite.sealed_spec()["sha256"] == suite.describe()["digest"]
    assert suite.describe()["size"] is None
