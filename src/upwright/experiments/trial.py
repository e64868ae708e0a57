"""Every arm answers the same practice tasks with the same seeds, a batch at a time, until the plan or the budget is at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upwright.engines.base import Engine, Progress
from upwright.errors import ProjectError, RuntimeFailure, TaskError
from upwright.evaluate import evaluate
from upwright.experiments.answer import Pairs, clear
from upwright.experiments.arms import Arm, body_of
from upwright.experiments.plan import Plan
from upwright.practice import Remainder, open_project
from upwright.project import Project
from upwright.records import Answer, Failure, FailureKind, Outcome, Scorecard, Task, derive_seed

BATCH = 32
"""Tasks that each arm answers before the next arm's turn."""
FURTHER = 64
"""A skill is looked for among so many times the tasks that are wanted."""

Report = Callable[[int, int, str], None]
"""``report(answers done, answers planned, note)``."""


@dataclass(slots=True)
class Trial:
    """What the arms did.

    Attributes:
        outcomes: arm's name → its outcomes, one list for each repeat, in the order of the tasks.
        seconds: of wall time; ``ended``: why it ended before the plan did, empty when it did not.
    """

    outcomes: dict[str, list[list[Outcome]]] = field(default_factory=dict)
    tasks: list[tuple[Task, ...]] = field(default_factory=list)
    seconds: float = 0.0
    ended: str = ""


def run_trial(project: Project, engine: Engine, plan: Plan, arms: Sequence[Arm], report: Report | None) -> Trial:
    """Have every arm asked.

    Raises:
        TaskError: the suite has no tasks for it; RuntimeFailure: the first arm cannot be run at all.
    """
    found = Trial({arm.name: [] for arm in arms}, _tasks(project, plan))
    begun, done, planned = time.monotonic(), 0, sum(map(len, found.tasks)) * len(arms)
    for repeat, tasks in enumerate(found.tasks):
        for name in found.outcomes:
            found.outcomes[name].append([])
        seed = derive_seed(project.settings.run.seed, "experiment", plan.suite, plan.seed, repeat)
        for start in range(0, len(tasks), BATCH):
            batch = tasks[start : start + BATCH]
            found.seconds = time.monotonic() - begun
            found.ended = _over(plan, found, done + len(batch) * len(arms))
            if found.ended:
                return found
            for number, arm in enumerate(arms):
                told = f"repeat {repeat + 1} of {len(found.tasks)}, {arm.name}"

                def progress(now: int, total: int, note: str, told: str = told, before: int = done) -> None:
                    if report is not None:
                        report(before + now, planned, told)

                found.outcomes[arm.name][repeat] += _asked(
                    project, engine, (arm, plan.suite, batch, seed), number > 0, progress
                )
                done += len(batch)
    found.seconds = time.monotonic() - begun
    return found


def _over(plan: Plan, trial: Trial, answers: int) -> str:
    """Why no further batch is begun; empty when one is."""
    budget = plan.budget
    if budget.seconds and trial.seconds >= budget.seconds:
        return f"the {budget.seconds:g} seconds are spent"
    if budget.tasks and answers > budget.tasks:
        return f"the {budget.tasks} answers are spent"
    if plan.early and clear(plan, pairs_of(trial)):
        return "every difference is clear"
    return ""


def pairs_of(trial: Trial) -> dict[str, Pairs]:
    """Each arm but the first beside the first, task by task."""
    base, *others = trial.outcomes
    return {name: Pairs.of(trial.outcomes[base], trial.outcomes[name]) for name in others}


def _tasks(project: Project, plan: Plan) -> list[tuple[Task, ...]]:
    """The tasks of each repeat, none of them on the exam: others in each where there are enough, else the same."""
    opened = open_project(str(project.root))
    if plan.suite not in opened.suites:
        raise ProjectError("there is no such suite", value=plan.suite, todo=f"suites: {', '.join(opened.suites)}")
    seed = derive_seed(project.settings.run.seed, "experiment", plan.suite, plan.seed)
    pool = _drawn(opened.rest(plan.suite), plan.tasks * plan.repeats, seed, plan.skills)
    if len(pool) < 2:
        raise TaskError(
            "the suite has too few practice tasks for this", value=list(plan.skills) or plan.suite,
            todo="other skills, or more tasks",
        )  # fmt: skip
    if len(pool) >= plan.tasks * plan.repeats:
        return [pool[i * plan.tasks : (i + 1) * plan.tasks] for i in range(plan.repeats)]
    return [pool[: plan.tasks]] * plan.repeats


def _drawn(practice: Remainder, n: int, seed: int, skills: Sequence[str]) -> tuple[Task, ...]:
    """``n`` practice tasks of these skills; fewer if there are no more."""
    wanted, before = n, -1
    while True:
        every = practice.draw(wanted, seed)
        found = tuple(task for task in every if not skills or task.skill in skills)
        if len(found) >= n or len(every) in (before, 0) or wanted >= FURTHER * n:
            return found[:n]
        wanted, before = 2 * wanted, len(every)


def _asked(
    project: Project,
    engine: Engine,
    what: tuple[Arm, str, tuple[Task, ...], int],
    may_fail: bool,
    progress: Progress,
) -> tuple[Outcome, ...]:
    """One arm's outcomes on one batch. An arm that cannot be run has failures, where the first arm can be."""
    try:
        timeout = project.settings.run.task_timeout
        card: Scorecard = engine.run(ask_job, str(project.root), *what, progress=progress, timeout=timeout)
    except RuntimeFailure as error:
        if not may_fail:
            raise
        failure = Failure(FailureKind.CRASH, error.what[:200])
        return tuple(
            Outcome(t.id, t.skill, t.difficulty, Answer(t.id, "", finish=None, failure=failure), None, failure)
            for t in what[2]
        )
    return card.outcomes


def ask_job(root: str, arm: Arm, suite: str, tasks: tuple[Task, ...], seed: int, *, progress: Progress) -> Scorecard:
    """Evaluate an arm on tasks; what was answered before is not asked again."""
    opened = open_project(root)
    body = body_of(arm, opened.store, scratch_of(opened.project))
    return evaluate(
        body, tasks, seed, practice=opened.suites[suite], cache=opened.cache,
        progress=lambda done, total: progress(done, total, "answering"),
    )  # fmt: skip


def scratch_of(project: Project) -> Path:
    """Where arms are laid out that are more than short texts; gone when the experiment is over."""
    return project.work / "experiment"
