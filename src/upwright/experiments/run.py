"""An experiment from its text to its record."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from upwright.bodies.store import Store
from upwright.engines import make_engine
from upwright.engines.base import Engine
from upwright.errors import ProjectError
from upwright.experiments.answer import finding, in_words
from upwright.experiments.arms import Arm, arm_of, same
from upwright.experiments.kept import Result, keep, key_of, note, place_of, read_result
from upwright.experiments.plan import Plan, read
from upwright.experiments.trial import Report, Trial, pairs_of, run_trial, scratch_of
from upwright.founding import found, translated
from upwright.lineage import read_lineage
from upwright.project import Project
from upwright.warden.charter import Charter


def experiment(
    project: Project,
    text: str,
    *,
    where: str = "the experiment",
    by: str = "human",
    engine: Engine | None = None,
    report: Report | None = None,
) -> Result:
    """Run the experiment that a TOML text says, record it, and answer. One that was done before is not done again.

    Args:
        where: what errors call the text.
        by: who asks; goes on the ledger.
        engine: where jobs run; by default what upwright.toml says.
        report: told what is going on.

    Raises:
        ProjectError: the text, or an arm, is wrong; RuntimeFailure: the first arm cannot be run.
    """
    project.prepare()
    with translated(), project.lock(), ExitStack() as stack:
        found(project)
        plan, arms = prepared(project, text, where)
        place = place_of(project, plan.question, key_of(plan.digest, arms))
        known = read_result(place)
        if known is None:
            if engine is None:
                engine = make_engine(project.settings.engine, project.logs)
                stack.callback(engine.close)
            scratch = scratch_of(project)
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            stack.callback(shutil.rmtree, scratch, True)
            trial = run_trial(project, engine, plan, arms, report)
            known = keep(place, _result(project, plan, arms, trial, by), text, arms)
        note(project, known)
        return known


def prepared(project: Project, text: str, where: str = "the experiment") -> tuple[Plan, tuple[Arm, ...]]:
    """The plan, what it leaves open filled in from the charter, and its arms as bodies. The project has to be founded.

    Raises:
        ProjectError: the text, or an arm, is wrong.
    """
    plan = read(text, where)
    charter = Charter.parse(project.charter_path.read_text())
    plan = replace(plan, suite=plan.suite or charter.objective, matters=plan.matters or charter.minimum_gain)
    if plan.suite not in project.settings.suites:
        raise ProjectError(
            f"{where}: there is no such suite", value=plan.suite, todo=f"suites: {', '.join(project.settings.suites)}"
        )
    line, store = read_lineage(project), Store(project.state / "store")
    arms = tuple(arm_of(arm, store, line) for arm in plan.arms)
    if twins := same(arms):
        raise ProjectError(f"{where}: two arms are the same body", value=list(twins), todo="change one of them")
    return plan, arms


def _result(project: Project, plan: Plan, arms: Sequence[Arm], trial: Trial, by: str) -> Result:
    fixed = not trial.ended and not plan.early
    pairs = pairs_of(trial)
    findings = tuple(
        finding((arm.name, arm.told, arm.digest), trial.outcomes[arm.name], pairs.get(arm.name), plan, fixed)
        for arm in arms
    )
    return Result(
        question=plan.question,
        answer=in_words(findings, plan, trial.ended),
        suite=plan.suite,
        skills=plan.skills,
        findings=findings,
        champion=read_lineage(project).champion,
        key=key_of(plan.digest, arms),
        plan=plan.digest,
        level=plan.level,
        fixed=fixed,
        ended=trial.ended,
        seconds=round(trial.seconds, 1),
        by=by,
    )
