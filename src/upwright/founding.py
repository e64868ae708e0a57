"""How a project begins: ``init`` writes files that a person can read and edit; ``found`` freezes them.

Between the two, at the first run, everything may still be changed: the charter, the tasks, the body.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import tomli_w

from upwright.bodies.body import PARTS, TEXTS, Body
from upwright.bodies.models import Model, cache_dir, fetch, install
from upwright.bodies.store import Store
from upwright.errors import (
    CharterError,
    LedgerError,
    ProjectError,
    StorageError,
    TaskError,
    UpwrightError,
    WardenError,
)
from upwright.principles import Constitution
from upwright.project import Project, SuiteSettings, new_directory, read_settings, refuse_occupied, write_atomic
from upwright.records import Generation, derive_seed
from upwright.tasks.suite import Suite, open_suites
from upwright.warden import charter, ledger
from upwright.warden.errors import CharterFault, LedgerFault, Refusal, VaultError, WardenFault

LARGE = 16 * 1024 * 1024
"""Files of the model cache from this size on are hard-linked into a body instead of copied."""

CORPUS = 256
"""Practice tasks of each suite that a new network's tokenizer has to be able to write."""
QUICKSTART_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A suite to begin with: its name, and what upwright.toml says about it."""

    name: str
    settings: SuiteSettings
    copies: Mapping[str, Path]
    """Path inside the project → file to copy there."""


def init(
    directory: str | Path,
    model: str | Path = QUICKSTART_MODEL,
    tasks: str | Path | Sequence[str | Path] = (),
    *,
    protect: Sequence[str | Path] = (),
    quickstart: bool = False,
    charter_text: str = "",
    constitution: str = "",
) -> Project:
    """Make a project directory: whole, or not at all.

    Args:
        model: a catalogue name, a Hugging Face directory, a ``.gguf`` file or ``http://host:port/v1#model``; or a
            directory with the parts of a body, which is copied.
        tasks: what to get better at: a ``.jsonl`` or ``.py`` file, a folder with ``practice.jsonl``, ``sealed.jsonl``
            and perhaps ``vault.jsonl``, or ``kind:spec``; ``NAME=…`` names the suite. Of several, the first is the objective.
        protect: suites that must not get worse, given in the same way.
        quickstart: the tasks, charter and settings that come with Upwright.
        charter_text: the text of charter.toml; by default one is written that may be edited.
        constitution: the text of the constitution that ``charter_text`` names, if it names one.

    Raises:
        ProjectError: the directory is not empty, or no tasks are given.
        TaskError: a task file is wrong.
        ModelError: the model cannot be found or fetched.
        StorageError: the disk is full or read-only.
    """
    target = Path(directory).absolute()
    refuse_occupied(target)
    given = [tasks] if isinstance(tasks, str | Path) else list(tasks)
    if not given and not quickstart:
        raise ProjectError("a project needs tasks", todo="add --tasks FILE.jsonl, or --quickstart")
    suites = [_task_file(str(spec)) for spec in (*given, *protect)]
    names = [s.name for s in suites]
    if len(set(names)) < len(names):
        raise ProjectError("two suites have the same name", value=names, todo="name them: --tasks NAME=FILE")
    with new_directory(target) as staged:
        if quickstart and not suites:
            _write_quickstart(staged)
        else:
            _write_own(staged, suites, protected=names[max(len(given), 1) :])
        if charter_text:
            (staged / "charter.toml").write_text(charter_text)
            if name := charter.Charter.parse(charter_text).constitution:
                (staged / name).write_text(constitution)
        _check_tasks(staged)
        if isinstance(model, Path) and _is_body(model):
            shutil.rmtree(staged / "body")
            shutil.copytree(model, staged / "body")
        else:
            _put_body(staged / "body", fetch(model))
    return Project.open(target)


def found(project: Project) -> str:
    """Freeze body, tasks and charter, and found the warden; the digest of generation 0.

    Safe to call at every start: what was founded is not founded again.

    Raises:
        CharterError: the charter is malformed, or was changed after the founding and not amended.
        TaskError: a suite is malformed or cannot be drawn from.
        BodyError: the body is missing or malformed.
    """
    from upwright.practice import salt
    from upwright.warden.door import found as found_warden

    project.prepare()
    text = _charter_text(project)
    book = project.warden / ledger.FILE
    if book.exists():
        _check_charter(ledger.read(book), text, project)
        _withdraw(project)
        return str(ledger.read(book)[0].data["genesis"])
    constitution = _constitution(project, text)
    suites = open_suites(project.settings.suites, project.root, salt=salt(project))
    genesis = _first_body(project, suites)
    with translated():
        found_warden(
            project.warden,
            text,
            {name: suite.sealed_spec() for name, suite in suites.items()},
            {"digest": genesis.digest, "files": dict(genesis.files)},
            salt(project),
            constitution.text if constitution else None,
        )
    _withdraw(project)
    return genesis.digest


def edited_since(project: Project) -> list[str]:
    """Text files under ``body/`` that were changed after the founding, which has no effect."""
    book = project.warden / ledger.FILE
    if not book.exists():
        return []
    genesis = Store(project.state / "store").get(str(ledger.read(book)[0].data["genesis"]))
    changed = []
    for path, digest in genesis.files.items():
        file = project.body_path / path
        if file.is_file() and file.stat().st_size < LARGE and sha256(file.read_bytes()).hexdigest() != digest:
            changed.append(f"body/{path}")
    return changed


# ---- init ---------------------------------------------------------------------------------------


def _task_file(spec: str) -> TaskFile:
    """What a person wrote after ``--tasks``."""
    name, equals, rest = spec.partition("=")
    if not (equals and re.fullmatch(r"[\w.-]+", name)):
        name, rest = "", spec
    path = Path(rest)
    name = name or re.sub(r"[^\w.-]+", "-", path.stem if path.exists() else rest.partition(":")[2] or rest).strip("-")
    if path.is_dir():
        found = {
            key: path / f"{key}.jsonl" for key in ("practice", "sealed", "vault") if (path / f"{key}.jsonl").is_file()
        }
        if "practice" not in found or "sealed" not in found:
            raise TaskError(
                "a folder of tasks needs practice.jsonl and sealed.jsonl", value=rest, todo="or name one file"
            )
        inside = {key: f"tasks/{name}/{key}.jsonl" for key in found}
        return TaskFile(name, SuiteSettings(**inside), {inside[key]: file for key, file in found.items()})
    if path.is_file():
        place = f"tasks/{path.name}"
        return TaskFile(name, SuiteSettings(source=place), {place: path})
    if ":" not in rest:
        raise TaskError("there is no such task file", value=rest, todo="name a .jsonl or .py file, or write KIND:SPEC")
    return TaskFile(name, SuiteSettings(source=rest), {})


def _write_quickstart(root: Path) -> None:
    data = files("upwright") / "quickstart"
    (root / "tasks").mkdir()
    (root / "body").mkdir()
    for name in ("upwright.toml", "charter.toml", *(f"body/{part}" for part in TEXTS)):
        if (data / name).is_file():
            (root / name).write_bytes((data / name).read_bytes())
    for source in sorted((data / "tasks").iterdir(), key=lambda f: f.name):
        if source.name.endswith(".py"):
            (root / "tasks" / source.name).write_bytes(source.read_bytes())


def _write_own(root: Path, suites: Sequence[TaskFile], protected: Sequence[str]) -> None:
    data = files("upwright") / "quickstart"
    (root / "body").mkdir()
    (root / "tasks").mkdir()
    template = (data / "upwright.toml").read_text()
    head = template[: template.index("[suites.")]
    tables = {s.name: {k: v for k, v in _fields(s.settings) if v} for s in suites}
    (root / "upwright.toml").write_text(head + tomli_w.dumps({"suites": tables}))
    allowed = charter.Charter.parse((data / "charter.toml").read_text()).may_change
    text = charter.render_template(suites[0].name, dict.fromkeys(protected, 0.1), allowed)
    (root / "charter.toml").write_text(text)
    for part in TEXTS:
        if (data / "body" / part).is_file():
            (root / "body" / part).write_bytes((data / "body" / part).read_bytes())
    for suite in suites:
        for place, source in suite.copies.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, root / place)


def _fields(settings: SuiteSettings) -> list[tuple[str, str]]:
    return [(name, getattr(settings, name)) for name in ("source", "practice", "sealed", "vault")]


def _check_tasks(root: Path) -> None:
    """Load every suite once, so that a wrong task file is told at ``init``."""
    open_suites(read_settings(root / "upwright.toml").suites, root, salt="upwright/0")


def _is_body(path: Path) -> bool:
    """Whether a directory has a part of a body; a Hugging Face directory has none."""
    return path.is_dir() and any((path / part).exists() for part in PARTS)


def _put_body(body: Path, model: Model) -> None:
    """Put the model into the body; large files of the cache are linked."""
    if model.kind != "hf":
        (body / "training.toml").unlink(missing_ok=True)
    if model.path is None:
        install(model, body)
        return
    (body / "model").mkdir()
    facts = {"name": model.name, "licence": model.licence, "sha256": model.sha256}
    (body / "model" / "origin.toml").write_text(tomli_w.dumps(facts))
    if not model.path.is_relative_to(cache_dir()):
        install(model, body)
        return
    sources = [model.path] if model.path.is_file() else [p for p in sorted(model.path.rglob("*")) if p.is_file()]
    root = model.path.parent if model.path.is_file() else model.path
    for source in sources:
        place = body / "model" / source.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.stat().st_size >= LARGE:
            with contextlib.suppress(OSError):
                os.link(source, place)
                place.chmod(0o444)  # it is the cache's file too: replace it, do not write into it
                continue
        shutil.copyfile(source, place)


# ---- found --------------------------------------------------------------------------------------


def _first_body(project: Project, suites: Mapping[str, Suite]) -> Generation:
    """Store generation 0: ``body/`` as it is, or with a random network where it has a shape for one and no weights yet.

    The network's seed derives from the run's. A byte-level vocabulary is learned from practice tasks; an alphabet that cannot
    write them is an error. ``body/`` itself stays as it is.
    """
    store, body = Store(project.state / "store"), Body(project.body_path)
    if not needs_network(body):
        return store.put_body(project.body_path)
    from upwright.bodies.network import create, parameters
    from upwright.tasks.scorers import gold

    shape = body.architecture
    assert shape is not None
    seed = derive_seed(project.settings.run.seed, "network")
    tasks = [task for suite in suites.values() for task in suite.draw(CORPUS, seed)]
    corpus = [text for task in tasks for text in (task.input, gold(task))]
    with tempfile.TemporaryDirectory(prefix="founding-", dir=project.work) as scratch:
        whole = shutil.copytree(project.body_path, Path(scratch) / "body")
        create(shape, whole / "model", seed, corpus)
        size = f"{parameters(shape):,}".replace(",", " ")
        made = f"made by architecture.toml and the run's seed: {size} weights, untrained"
        return store.put_body(whole, note={"network": made})


def needs_network(body: Body) -> bool:
    """Whether a body has the shape of a network, and neither a network nor anything else that answers."""
    model = body.root / "model"
    weights = (model / "config.json").exists() or any(model.glob("*.gguf"))
    return body.has("architecture.toml") and not weights and not body.has("model.toml")


def _charter_text(project: Project) -> str:
    try:
        return project.charter_path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CharterError(
            f"charter.toml cannot be read: {error}", value=str(project.charter_path), todo="put it back"
        ) from None


def _constitution(project: Project, text: str) -> Constitution | None:
    """The constitution that the charter of this text names, if it names one."""
    with translated():
        name = charter.Charter.parse(text).constitution
    return Constitution.read(project.root, name)


def _check_charter(entries: Sequence[ledger.Entry], text: str, project: Project) -> None:
    """Refuse a charter, or a constitution, that is not the one in force."""
    now = next(e.data for e in reversed(entries) if e.kind in ("founding", "charter"))
    with translated():
        parsed = charter.Charter.parse(text)
    todo = "put the change in force under your name with `upwright amend --by NAME`, or undo it"
    if parsed.digest != now["charter"]:
        raise CharterError("charter.toml was changed after the first run", value=parsed.digest[:12], todo=todo)
    found = Constitution.read(project.root, parsed.constitution)
    if found is not None and found.digest != now["constitution"]:
        told = f"{parsed.constitution} was changed after the first run"
        raise CharterError(told, value=found.digest[:12], todo=todo)


def _withdraw(project: Project) -> None:
    """Leave only practice tasks in the project's own ``.jsonl`` pools; the whole file goes to the warden's people."""
    from upwright.practice import salt

    kept = project.warden / "people" / "tasks"
    for name, given in project.settings.suites.items():
        path = project.root / given.source.removeprefix("jsonl:")
        if not given.source.endswith(".jsonl") or not path.is_file() or (kept / f"{name}.jsonl").exists():
            continue
        suite: Suite = open_suites({name: given}, project.root, salt=salt(project))[name]
        lines = suite.practice_lines()
        if lines is not None:
            kept.mkdir(parents=True, exist_ok=True)
            write_atomic(kept / f"{name}.jsonl.new", path.read_bytes())
            write_atomic(path, lines)
            (kept / f"{name}.jsonl.new").rename(kept / f"{name}.jsonl")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The warden's errors as Upwright's."""
    kinds: dict[type[WardenFault], type[UpwrightError]] = {
        CharterFault: CharterError,
        VaultError: TaskError,
        LedgerFault: LedgerError,
    }
    try:
        yield
    except WardenFault as fault:
        full = isinstance(fault, Refusal) and fault.code == "disk"
        kind = StorageError if full else kinds.get(type(fault), WardenError)
        raise kind(fault.what, value=fault.value, todo=fault.todo) from None
