"""What runs in a worker: answering, evaluating and building, each a module-level function.

A job gets the project's path and digests, never live objects, so that it runs alike in this process,
in a worker of this machine or on another one. Each worker keeps what it has opened.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upwright.bodies.answer import Ahead, answer, final, sample
from upwright.bodies.body import Body
from upwright.bodies.runtimes import load
from upwright.bodies.tree import base_of, files_after
from upwright.diagnose.rationales import Findings, refusal
from upwright.drafts import Child, Draft, note_of, texts_of
from upwright.errors import BuildError, ProjectError, StorageError, UpwrightError
from upwright.evaluate import evaluate
from upwright.evolution.records import Trials
from upwright.evolution.trials import FolderTrials
from upwright.levers import evidence, registry
from upwright.levers._monitor import watch_thoughts
from upwright.levers.base import Built, Changes, Lever
from upwright.practice import open_project
from upwright.principles import Constitution
from upwright.project import Project
from upwright.records import (
    Answer,
    Generation,
    Proposal,
    Question,
    Rung,
    Scorecard,
    Task,
    derive_seed,
    from_json,
    to_json,
    tree_digest,
)
from upwright.tasks.base import Evaluator, Practice
from upwright.tasks.suite import Suite
from upwright.warden.charter import Charter, Invariants

Progress = Callable[[int, int, str], None]
THOUGHT_LIMITS = ("max_illegible", "min_derivation", "min_faithful", "max_thought_ratio")
"""The charter's invariants that are about thoughts."""
THOUGHTS_READ = 24
"""Practice tasks on which a child's thoughts are read where its lever has not."""


@functools.cache
def _installed(name: str) -> Lever:
    return registry()[name]()


def answer_job(root: str, digest: str, questions: Sequence[Question], seed: int, *, progress: Progress) -> list[Answer]:
    """Answer questions with a stored generation."""
    store = open_project(root).store
    body = Body(store.checkout(digest), digest)
    return answer(body, questions, seed, progress=lambda done, total: progress(done, total, "answering"))


@dataclass(frozen=True, slots=True)
class Exam:
    """What one generation did on the practice exam.

    ``samples`` maps task ids to the scores of k sampled answers (for headroom); empty when k = 0.
    """

    card: Scorecard
    samples: Mapping[str, tuple[float, ...]]
    trainable: bool
    tasks: tuple[Task, ...]

    @property
    def said(self) -> tuple[tuple[str, str], ...]:
        """(question, answer) of every task that was answered."""
        pairs = zip(self.tasks, self.card.outcomes, strict=True)
        return tuple((task.input, o.answer.text) for task, o in pairs if o.answer.failure is None)


def evaluate_job(
    root: str,
    digest: str,
    suite_name: str,
    sizes: tuple[int, int, int],
    draft: Draft | None = None,
    *,
    progress: Progress,
) -> Exam:
    """Evaluate a generation on a suite's exam.

    Args:
        sizes: tasks, tasks sampled for headroom, samples for each of those.
        draft: what the generation is, when it is not in the store.
    """
    opened = open_project(root)
    suite, cache = opened.suites[suite_name], opened.cache
    n, sampled, k = sizes
    tasks = opened.exam(suite_name, n)
    if draft is None:
        body = Body(opened.store.checkout(digest), digest)
    else:
        body = Body(opened.store.checkout(draft.parent), digest, draft.changes)
    seed = derive_seed(opened.project.settings.run.seed, "evaluate", suite_name)
    total = len(tasks) + sampled * k
    card = evaluate(
        body, tasks, seed, practice=suite, cache=cache, progress=lambda done, _: progress(done, total, "answering")
    )
    trainable = body.has("model/config.json")
    if not k or not sampled:
        return Exam(card, {}, trainable, tasks)
    chosen = _spread(tasks, sampled)
    completions = sample(
        body, [t.question for t in chosen], k, seed + 1, 0.8,
        progress=lambda done, _: progress(len(tasks) + done, total, "sampling for headroom"),
    )  # fmt: skip
    samples = {
        task.id: tuple(_scores(suite, [final(c.text, body.inference.think) for c in found if c.failure is None], task))
        for task, found in zip(chosen, completions, strict=True)
    }
    return Exam(card, samples, trainable, tasks)


def _scores(suite: Suite, texts: Sequence[str], task: Task) -> list[float]:
    """Scores of texts; what could not be graded is left out."""
    graded = (suite.grade(text, task) for text in texts)
    return [g for g in graded if isinstance(g, float)]


def _spread(tasks: Sequence[Task], n: int) -> list[Task]:
    """``n`` tasks taken in turn from each skill."""
    by_skill: dict[str, list[Task]] = {}
    for task in tasks:
        by_skill.setdefault(task.skill, []).append(task)
    queues = list(by_skill.values())
    picked: list[Task] = []
    while len(picked) < min(n, len(tasks)):
        for queue in queues:
            if queue and len(picked) < n:
                picked.append(queue.pop(0))
    return picked


def scratch_of(project: Project, proposal: Proposal) -> str:
    """Where a proposal's build keeps its files; gone once its child is stored or it has failed."""
    return f"{project.work}/{proposal.digest[:16]}"


def clear_scratch(folder: str) -> None:
    """Remove a scratch directory, if there is one."""
    if os.path.lexists(folder):
        shutil.rmtree(folder, ignore_errors=True)


class Bench:
    """The :class:`~upwright.levers.base.Workshop` of one proposal, on this machine."""

    def __init__(self, root: str, parent: Generation, proposal: Proposal, progress: Progress) -> None:
        opened = self._opened = open_project(root)
        project, charter = opened.project, opened.charter
        self._store, self._parent, self._cache, self._progress = opened.store, parent, opened.cache, progress
        self._drafts = 0
        self._visited: set[str] = set()
        self._ahead: Ahead | None = None
        self._work = scratch_of(project, proposal)
        self.practice: Practice = opened.rest(charter.objective)
        self.rehearsal: Sequence[Practice] = [opened.rest(name) for name in charter.protected]
        self.tokens = 0

    @property
    def constitution(self) -> Constitution | None:
        """The constitution that the charter names, as it stands on the disk now."""
        return Constitution.read(self._opened.project.root, self._opened.charter.constitution)

    @property
    def judge(self) -> Body | None:
        """The body that upwright.toml names to judge others."""
        named = self._opened.project.settings.judge
        return Body(self._opened.project.root / named) if named else None

    @property
    def state(self) -> Path:
        """The project's own state directory."""
        return self._opened.project.state

    @property
    def trials(self) -> Trials | None:
        """The objective's evaluator, where it has one; made anew at each access."""
        source = self._opened.suites[self._opened.charter.objective].source
        return FolderTrials(source) if isinstance(source, Evaluator) else None

    @property
    def scratch(self) -> Path:
        """A directory of this proposal's own, made when it is first asked for."""
        work = Path(self._work)
        work.mkdir(parents=True, exist_ok=True)
        return work

    def close(self) -> None:
        """Remove the scratch directory, also one that an earlier, killed build left, and what was taken from the archive."""
        clear_scratch(self._work)
        for digest in self._visited:
            self._store.discard_checkout(digest)

    def genesis(self) -> Generation:
        """The first ancestor of the parent."""
        found = self._parent
        while found.parent is not None:
            found = self._store.get(found.parent)
        return found

    def evaluate(self, body: Body, tasks: Sequence[Task], seed: int) -> Scorecard:
        """Answer and score tasks (cached where the body is a stored generation)."""
        ready = self._ahead if self._ahead is not None and load(body) is self._ahead.runtime else None
        card = evaluate(
            body, tasks, seed, practice=self.practice, runtime=ready, cache=self._cache,
            progress=lambda done, total: self.progress(done, total, "answering"),
        )  # fmt: skip
        self.tokens += card.tokens
        return card

    def ahead(self, bodies: Sequence[Body], tasks: Sequence[Task], seed: int) -> None:
        """Begin the answers of bodies that share the parent's weights in one batch."""
        self._ahead = None
        runtime = load(bodies[0])
        alike = [body for body in bodies if load(body) is runtime]
        if len(alike) > 1:
            questions = [task.question for task in tasks]
            note = f"trying {len(alike)} options"
            self._ahead = Ahead(runtime, alike, questions, seed, lambda done, total: self.progress(done, total, note))

    def sample(
        self, body: Body, tasks: Sequence[Task], k: int, seed: int, temperature: float
    ) -> list[list[tuple[str, float]]]:
        """``k`` sampled answers per task as ``(text, score)``; a failed sample is left out.

        The text of a body that thinks holds the thought; its final answer alone is scored.
        """
        found = sample(
            body, [t.question for t in tasks], k, seed, temperature,
            progress=lambda done, total: self.progress(done, total, "sampling"),
        )  # fmt: skip
        self.tokens += sum(c.prompt_tokens + c.completion_tokens for cs in found for c in cs)
        think = body.inference.think
        return [
            [(c.text, self.practice.score(final(c.text, think), task)) for c in cs if c.failure is None]
            for task, cs in zip(tasks, found, strict=True)
        ]

    def ask(self, body: Body, questions: Sequence[Question], k: int, seed: int, temperature: float) -> list[list[str]]:
        """``k`` sampled answers per question, as text; a failed one is empty."""
        found = sample(
            body, questions, k, seed, temperature,
            progress=lambda done, total: self.progress(done, total, "asking"),
        )  # fmt: skip
        self.tokens += sum(c.prompt_tokens + c.completion_tokens for cs in found for c in cs)
        return [[final(c.text, body.inference.think) for c in cs] for cs in found]

    def variant(self, changes: Changes) -> Body:
        """The parent with changes applied, as a scratch body."""
        self._drafts += 1
        source = self._store.checkout(self._parent.digest)
        root = self.scratch / f"draft-{self._drafts}"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for path in self._parent.files:
            if path not in changes:
                target = root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source / path)
        for path, value in changes.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(value, Path):
                target.symlink_to(value.resolve())
            elif value is not None:
                target.write_bytes(value)
        return Body(root)

    def archived(self, digest: str) -> Body:
        """A stored child of this run, on the parent's base weights."""
        try:
            found = self._store.get(digest)
            place = self._store.checkout(found.digest)
        except (ProjectError, StorageError) as error:
            raise BuildError(
                f"an archived body cannot be had: {error.what}", value=digest, todo="the next proposal takes others"
            ) from error
        if found.digest != self._parent.digest:
            self._visited.add(found.digest)
        if base_of(found) != base_of(self._parent):
            raise BuildError(
                "an archived body has other base weights than the parent", value=digest, todo="propose others"
            )
        return Body(place, found.digest)

    def progress(self, done: int, total: int, note: str) -> None:
        """Report; raises ``Stopped`` when a stop was asked for."""
        self._progress(done, total, note)


def build_job(
    root: str, proposal_json: Mapping[str, Any], lever: Lever | None, extra: Mapping[str, bytes], *, progress: Progress
) -> Child:
    """Build a proposal's child; store it, unless it is a :class:`Draft`.

    Args:
        lever: an instance, or ``None`` for the installed lever of the proposal's name.
        extra: files of the child that are not the lever's to change (the improver's own state).

    Raises:
        BuildError: the lever could not, changed a part that is not its own, learns from weaker evidence than the charter
            demands, or made a child whose thoughts break the charter's invariants.
    """
    proposal = from_json(Proposal, proposal_json)
    opened = open_project(root)
    store, least = opened.store, opened.charter.minimum_rung
    parent = store.get(proposal.parent)
    made = lever if lever is not None else _installed(proposal.lever)
    _demand(evidence(made), least, f"the lever {proposal.lever} learns")
    bench = Bench(root, parent, proposal, progress)
    before = Body(store.checkout(parent.digest), parent.digest)
    clock = time.monotonic()
    try:
        built = _built(made, before, proposal, bench, opened.charter)
    except BuildError:
        bench.close()
        raise
    changes = {path: value for path, value in built.changes.items() if not _same(parent, path, value)}
    account = extra.keys() - changes.keys()
    if changes:
        changes = {**extra, **changes}
    texts = texts_of(changes)
    if texts is None:
        child = store.derive(parent, changes, proposal, note_of(built.rung.value, built.note), durable=False)
        digest, files, draft = child.digest, child.files, None
    else:
        files = files_after(parent, changes)
        digest, draft = tree_digest(files), Draft(parent.digest, texts)
    cost = replace(built.cost, seconds=time.monotonic() - clock, tokens=max(built.cost.tokens, bench.tokens))
    bench.close()
    core = tree_digest({path: blob for path, blob in files.items() if path not in account}) if account else digest
    return Child(digest, built.rung.value, built.note, cost, core, draft, built.parents)


def _built(lever: Lever, parent: Body, proposal: Proposal, bench: Bench, charter: Charter) -> Built:
    """What the lever makes; only parts of its own, and as the charter wants it."""
    try:
        built = lever.build(parent, proposal, bench)
    except UpwrightError:
        raise
    except Exception as error:
        raise BuildError(f"the lever {proposal.lever} failed: {type(error).__name__}: {error}") from error
    _demand(built.rung, charter.minimum_rung, "the child learned")
    for path in built.changes:
        if not any(path == part or (part.endswith("/") and path.startswith(part)) for part in lever.parts):
            raise BuildError(f"the lever {proposal.lever} changed a part that is not its own", value=path)
    return _held_to_charter(charter.invariants, built, parent, proposal, bench)


def _held_to_charter(charter: Invariants, built: Built, parent: Body, proposal: Proposal, bench: Bench) -> Built:
    """The build, with what its child's thoughts show; a child that does not think, or of which nothing is asked, as it is.

    Any lever may make a child that thinks. Where the charter asks something of thoughts and the lever has not read them
    (``note["thoughts"]``), they are read here.

    Raises:
        BuildError: the thoughts are not as the charter wants them.
    """
    limits = {name: getattr(charter, name) for name in THOUGHT_LIMITS}
    if all(limit is None for limit in limits.values()):
        return built
    if bench.variant(built.changes).inference.think <= 0:
        return built
    if "thoughts" in built.note:
        found = from_json(Findings, built.note["thoughts"])
    else:
        tasks = bench.practice.draw(THOUGHTS_READ, derive_seed(proposal.seed, "thoughts"))
        found = watch_thoughts(parent, built.changes, tasks, proposal.seed, bench)
    broken = refusal(found, **limits)
    if broken:
        raise BuildError(broken, value=to_json(found), todo="amend the charter, or let another lever try")
    return replace(built, note={**built.note, "thoughts": to_json(found)})


def _demand(rung: Rung, least: str | None, who: str) -> None:
    """Refuse evidence that is weaker than the charter's ``minimum_rung``."""
    if least is not None and not rung.reaches(Rung(least)):
        raise BuildError(
            f"{who} from {rung.value}, and the charter demands {least} or stronger",
            todo="use another lever, or change minimum_rung in charter.toml",
        )


def _same(parent: Generation, path: str, value: bytes | Path | None) -> bool:
    if path not in parent.files:
        return value is None
    return isinstance(value, bytes) and hashlib.sha256(value).hexdigest() == parent.files[path]


def warm_job(root: str, digest: str, *, progress: Progress) -> dict[str, Any]:
    """Load a generation's runtime and say what it is."""
    progress(0, 1, "loading the model")
    store = open_project(root).store
    return load(Body(store.checkout(digest), digest)).describe()
