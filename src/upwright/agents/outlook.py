"""What an agent may see of a project: the champion's texts, where it fails, what is in scope, what was tried before.

All of it is practice. No sealed task, no grader's code, no key is read here, and of the warden's tests only the word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from upwright.agents.change import scope_of, tellable, texts_of
from upwright.agents.fates import Fate, fates
from upwright.agents.hearing import hearing
from upwright.bodies.body import Body
from upwright.bodies.store import Store
from upwright.bodies.tree import files_of
from upwright.diagnose import Diagnosis
from upwright.diagnose.errors import classify
from upwright.engines.base import Engine, Progress
from upwright.errors import ProjectError
from upwright.evaluate import evaluate
from upwright.events import Event
from upwright.evolution.blocks import Scope
from upwright.practice import Opened, open_project
from upwright.project import Project, write_atomic
from upwright.promote import Door
from upwright.records import Outcome, Task, canonical_json, derive_seed, from_json, to_json
from upwright.tasks.scorers import gold
from upwright.tasks.suite import Suite
from upwright.warden import ledger
from upwright.warden.charter import Charter
from upwright.warden.state import State

SHOWN = 48
"""Practice tasks, none of the exam's, on which the champion's failures are looked for."""
RUNS = 2
"""Runs of an evaluator that are told instead, for a program."""
MEASURED = "measured"
"""The kind of a run that did not fail."""
LONGEST = 4000
"""Characters of a question or an answer that are shown."""
FOLDER = "agents"
"""Below ``.upwright/``: what was found out about each champion for agents."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the champion that is text. ``may_change``: whether the charter lets a child differ there."""

    path: str
    size: int
    may_change: bool
    text: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the charter's budget: what it is, how much of it there was and is left."""

    name: str
    limit: float
    left: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What is in scope, and by what a change is judged.

    Attributes:
        may_change: paths, or folders ending in ``/``, that a text may be told for.
        protected: suite → how much worse it may be, in score.
        minimum_gain: the smallest gain worth finding, in score.
        approval: whether a person has to agree to what was proven.
        forbidden: patterns that no answer may contain.
        budget: what the charter limits, and what is left; empty where it limits nothing.
        stopped: why a person stopped the project, ``None`` when nobody did.
    """

    objective: str
    protected: dict[str, float]
    may_change: tuple[str, ...]
    minimum_gain: float
    minimum_rung: str | None
    approval: bool
    forbidden: tuple[str, ...]
    budget: tuple[Limit, ...]
    stopped: str | None


@dataclass(frozen=True, slots=True)
class Miss:
    """A practice task that the champion did not get right, with what it said.

    ``kind`` is an error kind, a failure to run, or :data:`MEASURED`: of a program, ``said`` has metrics and what the evaluator told.
    """

    skill: str
    difficulty: int
    question: str
    expected: str
    said: str
    score: float | None
    kind: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What came of asking for failures: of how many tasks, and which."""

    asked: int
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """All that an agent may see at one moment.

    Attributes:
        parent: digest of the champion; empty before the project was founded.
        generation: its number.
        diagnosis: on the practice exam; ``None`` while nobody has evaluated this champion.
        misses: practice tasks that it got wrong; ``asked``: of how many, 0 while they were not asked.
        history: what was proposed before, by anybody, oldest first.
        note: one sentence about what is not known yet, and why; empty when all is.
        measured: whether the objective's tasks are runs of a program, whose scores say how good and not whether right.
    """

    parent: str
    generation: int
    parts: tuple[Part, ...]
    terms: Terms
    diagnosis: Diagnosis | None
    misses: tuple[Miss, ...]
    asked: int
    history: tuple[Fate, ...]
    note: str = ""
    measured: bool = False


def ask(
    project: Project,
    *,
    look_only: bool = False,
    engine: Engine | None = None,
    door: Door | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Outlook:
    """What an agent may see. Where the champion was not evaluated yet, that is done now, as the next round would.

    Args:
        look_only: run no model and found nothing; what is not known is left out.
        engine, door, on_event: as for :func:`upwright.loop.run`.

    Raises:
        CharterError, TaskError, BodyError: something on disk is wrong.
    """
    note = ""
    if not look_only:
        try:
            _learn(project, engine, door, on_event)
        except ProjectError as error:
            if "another run is at work" not in error.what:
                raise
            note = "a run is at work in this project: what it has not found out yet is left out"
    state = _state(project)
    terms = terms_of(project, state)
    measured = project.settings.suites[terms.objective].source.startswith("evaluator:")
    if state is None:
        told = note or "the project is not founded yet: the first run, `upwright tell` or `upwright ask` does that"
        parts = _parts_of_body(project, Charter.parse(project.charter_path.read_text()))
        return Outlook("", 0, parts, terms, None, (), 0, (), told, measured)
    parent = state.lineage.champion
    store = Store(project.state / "store")
    texts = texts_of(store, store.get(parent))
    scope = scope_of(state.charter, store.checkout(parent))
    parts = tuple(_part(path, text, scope) for path, text in texts.items())
    found = _survey(project, parent)
    if not note and not _complete(found):
        note = "the champion was not evaluated yet: `upwright ask` without --look does that"
    shown = found.shown or Shown(0, ())
    number = len(state.lineage.promotions)
    return Outlook(
        parent, number, parts, terms, found.diagnosis, shown.misses, shown.asked, fates(project), note, measured
    )  # fmt: skip


def terms_of(project: Project, state: State | None = None) -> Terms:
    """What is in scope, by the charter in force (before the founding: by charter.toml)."""
    charter = state.charter if state else Charter.parse(project.charter_path.read_text())
    return Terms(
        objective=charter.objective,
        protected=dict(charter.protected),
        may_change=tuple(path for path in charter.may_change if not path.startswith("model/")),
        minimum_gain=charter.minimum_gain,
        minimum_rung=charter.minimum_rung,
        approval=charter.oversight == "approve",
        forbidden=charter.invariants.forbid_text,
        budget=_budget(project, charter, state),
        stopped=state.stopped if state else None,
    )


def shown_job(root: str, digest: str, *, progress: Progress) -> Shown:
    """Ask the champion practice tasks that are not on the exam; those that it failed on, skills in turns, the worst first.

    Of a program, what the evaluator measures and says in a few runs.
    """
    opened = open_project(root)
    suite, seed = opened.suites[opened.charter.objective], _seed(opened)
    practice = opened.rest(opened.charter.objective)
    body = Body(opened.store.checkout(digest), digest)
    if suite.describe()["kind"] == "evaluator":
        return _runs(suite, body, practice.draw(RUNS, seed), progress)
    tasks = practice.draw(SHOWN, seed)
    card = evaluate(
        body, tasks, seed, practice=suite, cache=opened.cache,
        progress=lambda done, total: progress(done, total, "looking for failures"),
    )  # fmt: skip
    by_skill: dict[str, list[Miss]] = {}
    for task, outcome in zip(tasks, card.outcomes, strict=True):
        if outcome.score is None or outcome.score < 1.0:
            by_skill.setdefault(task.skill, []).append(_miss(task, outcome))
    turns = sorted(by_skill.values(), key=lambda misses: -len(misses))
    most = max(map(len, turns), default=0)
    return Shown(len(tasks), tuple(misses[i] for i in range(most) for misses in turns if i < len(misses)))


def _runs(suite: Suite, body: Body, tasks: Sequence[Task], progress: Progress) -> Shown:
    """What the evaluator says of a program, run by run."""
    from upwright.tasks import evaluator

    source: Any = suite.source
    program, judge = evaluator.texts(body.root / "program"), evaluator.judge(source)
    found = []
    for number, task in enumerate(tasks):
        progress(number, len(tasks), "running the evaluator")
        judged = judge.judge(program, task.answer, source.metric)
        metrics = ", ".join(f"{name} = {value:g}" for name, value in judged.metrics.items())
        told = [metrics, *(f"{name}: {text}" for name, text in judged.artifacts.items())]
        said = _clip("\n".join(text for text in told if text))
        question = f"one run of the evaluator; what counts is {source.metric}"
        found.append(Miss(task.skill, task.difficulty, question, "", said, judged.score, judged.failure or MEASURED))
    return Shown(len(tasks), tuple(found))


# ---- inside -----------------------------------------------------------------------------------------


def _learn(
    project: Project, engine: Engine | None, door: Door | None, on_event: Callable[[Event], None] | None
) -> None:
    """Found the project and evaluate its champion, as far as that was not done."""
    state = _state(project)
    if state is not None and _complete(_survey(project, state.lineage.champion)):
        return
    samples = project.settings.run.samples
    with hearing(project, engine=engine, door=door, on_event=on_event, samples=samples) as loop:
        digest = loop.champion().digest
        known = _survey(project, digest)
        diagnosis = known.diagnosis if known.diagnosis is not None else loop.diagnosed(digest)
        shown = known.shown if known.shown is not None else loop.runner.job("evaluate", shown_job, digest)
        place = _place(project, digest)
        place.parent.mkdir(exist_ok=True)
        write_atomic(place, canonical_json(to_json(_Survey(diagnosis, shown))))


@dataclass(frozen=True, slots=True)
class _Survey:
    """What was found out about one champion for agents."""

    diagnosis: Diagnosis | None = None
    shown: Shown | None = None


def _complete(survey: _Survey) -> bool:
    return survey.diagnosis is not None and survey.shown is not None


def _place(project: Project, digest: str) -> Path:
    return project.state / FOLDER / f"{digest}.json"


def _survey(project: Project, digest: str) -> _Survey:
    """What is known: the diagnosis as the journal has it, else what was kept for agents."""
    try:
        kept = from_json(_Survey, json.loads(_place(project, digest).read_bytes()))
    except (OSError, ValueError):  # not asked yet, or of another version: it is found out again
        kept = _Survey()
    if not (project.state / "run.db").exists():
        return kept
    with project.journal as journal:
        rows = [row for _, _, row in journal.rows("diagnose") if row.get("champion") == digest]
    if not rows:
        return kept
    return replace(kept, diagnosis=from_json(Diagnosis, {k: v for k, v in rows[-1].items() if k != "champion"}))


def _state(project: Project) -> State | None:
    """All that is on the ledger; ``None`` before the founding."""
    book = project.warden / ledger.FILE
    return State.fold(ledger.read(book)) if book.exists() else None


def _seed(opened: Opened) -> int:
    return derive_seed(opened.project.settings.run.seed, "shown", opened.charter.objective)


def _miss(task: Task, outcome: Outcome) -> Miss:
    kind = outcome.failure.kind.value if outcome.failure else classify(task, outcome.answer).value
    said = outcome.failure.message if outcome.failure else outcome.answer.text
    return Miss(
        task.skill, task.difficulty, _clip(task.input), _clip(gold(task)), _clip(said), outcome.score, kind
    )  # fmt: skip


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + f"… ({len(text) - LONGEST} more characters)"


def _part(path: str, text: str, scope: Scope) -> Part:
    return Part(path, len(text.encode()), scope.allows(path), text)


def _parts_of_body(project: Project, charter: Charter) -> tuple[Part, ...]:
    """The texts of ``body/``, before the founding."""
    found, scope = [], scope_of(charter, project.body_path)
    for inside, path in files_of(project.body_path):
        if tellable(inside):
            try:
                found.append(_part(inside, path.read_bytes().decode(), scope))
            except UnicodeDecodeError:
                continue
    return tuple(found)


def _budget(project: Project, charter: Charter, state: State | None) -> tuple[Limit, ...]:
    spent = {"seconds": 0.0, "tokens": 0.0, "money": 0.0}
    if (project.state / "run.db").exists():
        with project.journal as journal:
            spent = journal.spent()
    used: dict[str, float] = {
        "generations": len(state.lineage.promotions) if state else 0,
        "tests": len(state.tests) if state else 0,
        "minutes": spent["seconds"] / 60,
        "tokens": max(spent["tokens"], state.spent_tokens if state else 0),
        "money": spent["money"],
    }
    limits: dict[str, Any] = asdict(charter.budget)
    return tuple(
        Limit(name, float(limit), max(0.0, float(limit) - used[name]))
        for name, limit in limits.items()
        if limit is not None
    )
