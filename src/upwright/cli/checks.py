"""What ``upwright doctor`` looks at."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from upwright.errors import ProjectError, UpwrightError

if TYPE_CHECKING:
    from upwright.project import Project

GB = 1e9


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report."""

    name: str
    state: Literal["ok", "warn", "fail"]
    told: str
    todo: str = ""


def run_checks(start: Path | None) -> list[Check]:
    """Every check, in order; those of a project only where there is one."""
    from upwright.project import Project

    checks = [_python(), _torch(), _cores(), _memory(), _cache()]
    try:
        project = Project.open(start if start is not None else Path.cwd())
    except ProjectError as error:
        here = "there is no Upwright project here"
        state: Literal["warn", "fail"] = "warn" if error.what == here and start is None else "fail"
        return [*checks, _disk(Path.cwd()), Check("project", state, error.what, error.todo)]
    checks += [_disk(project.root), Check("project", "ok", str(project.root))]
    for name, check in (("charter", _charter), ("tasks", _tasks), ("body", _body), ("warden", _warden)):
        checks += _guarded(name, check, project)
    return checks


def _guarded(name: str, check: Callable[[Project], Iterator[Check]], project: Project) -> list[Check]:
    from upwright.cli.app import as_known

    try:
        return list(check(project))
    except Exception as error:
        known = as_known(error)
        if known is None:
            raise
        return [
            Check(
                name, "fail", known.what if known.value is None else f"{known.what} (got {known.value!r})", known.todo
            )
        ]


def _python() -> Check:
    told = f"{platform.python_version()} at {sys.executable}"
    good = sys.version_info >= (3, 11)
    return Check("python", "ok" if good else "fail", told, "" if good else "install Python 3.11 or newer")


def _torch() -> Check:
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return Check(
            "torch", "warn", "not installed; needed for Hugging Face weights", "pip install 'upwright[models]'"
        )
    kind = "CPU build" if "+cpu" in version else "accelerator build"
    return Check("torch", "ok", f"{version} ({kind})")


def _cores() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check(
        "cores", "ok" if count > 1 else "warn", f"{count} may be used", "" if count > 1 else "expect runs to be slow"
    )


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available / GB
    return Check(
        "memory",
        "ok" if free >= 2 else "warn",
        f"{free:.1f} GB free",
        "" if free >= 2 else "close other programs; 2 GB is the least",
    )


def _disk(place: Path) -> Check:
    free = shutil.disk_usage(place).free / GB
    if not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} cannot be written", "make it writable")
    return Check(
        "disk", "ok" if free >= 2 else "warn", f"{free:.1f} GB free", "" if free >= 2 else "free space; weights need it"
    )


def _cache() -> Check:
    from upwright.bodies.models import cache_dir, catalogue

    at_hand = [e.name for e in catalogue() if e.cached]
    told = f"{cache_dir()}; models at hand: {', '.join(at_hand) or 'none'}"
    return Check(
        "cache", "ok" if at_hand else "warn", told, "" if at_hand else "`upwright models fetch NAME` brings one"
    )


def _charter(project: Project) -> Iterator[Check]:
    from upwright.principles import Constitution
    from upwright.warden.charter import Charter

    try:
        charter = Charter.parse(project.charter_path.read_text())
    except OSError as error:
        yield Check("charter", "fail", f"charter.toml cannot be read: {error.strerror}", "put it back")
        return
    missing = [s for s in (charter.objective, *charter.protected) if s not in project.settings.suites]
    if missing:
        yield Check(
            "charter",
            "fail",
            f"names a suite that upwright.toml does not have: {missing[0]}",
            "add it, or correct the name",
        )
        return
    if not charter.may_change:
        yield Check(
            "charter", "warn", "may_change is empty, so nothing can be improved", "list the parts that may change"
        )
    guarded = ", ".join(charter.protected) or "nothing"
    told = f"objective {charter.objective}; protected: {guarded}; error rate {charter.error_rate:g}"
    if found := Constitution.read(project.root, charter.constitution):
        ruled = sum(not principle.judged for principle in found.principles)
        told += f"; {len(found.principles)} principles in {charter.constitution}, {ruled} of them with rules"
    yield Check("charter", "ok", told)


def _tasks(project: Project) -> Iterator[Check]:
    from upwright.tasks.suite import open_suites

    suites = open_suites(project.settings.suites, project.root, salt=f"upwright/{project.settings.run.seed}")
    for name, suite in suites.items():
        facts = suite.describe()
        count = "endless" if facts["size"] is None else f"{facts['size']} practice tasks"
        few = facts["size"] is not None and facts["size"] < project.settings.run.practice
        todo = f"practice is set to {project.settings.run.practice}: add tasks or lower it" if few else ""
        yield Check("tasks", "warn" if few else "ok", f"{name}: {facts['kind']}, {count}", todo)
    if any(suite.source.startswith("evaluator:") for suite in project.settings.suites.values()):
        yield _isolation()


def _isolation() -> Check:
    from upwright.tasks.evaluator import waiver
    from upwright.warden.isolation import IsolationError, strongest_wall

    try:
        wall = strongest_wall(bool(waiver()))
    except IsolationError as error:
        return Check("isolation", "fail", f"{error.what} ({error.value!r})", error.todo)
    if wall.name == "waiver":
        return Check("isolation", "warn", "nothing holds here; programs run by a signed waiver", "install bubblewrap")
    return Check("isolation", "ok", f"{wall.name} holds: programs and evaluators run behind it")


def _body(project: Project) -> Iterator[Check]:
    from upwright.bodies.body import Body
    from upwright.founding import needs_network

    body = Body(project.body_path)
    if not project.body_path.is_dir():
        yield Check("body", "fail", "there is no body/ directory", "put it back, or make the project again")
        return
    _ = (
        body.prompt,
        body.inference,
        body.memory,
        body.training,
        body.curriculum,
        body.architecture,
    )  # each raises BodyError when malformed
    weights = [p for p in (project.body_path / "model").glob("*") if p.suffix in (".safetensors", ".gguf")]
    if body.has("program/") and not weights:
        yield Check("body", "ok", "a program")
    elif body.has("model.toml"):
        yield Check("body", "ok", "an endpoint (model.toml)")
    elif weights:
        yield Check("body", "ok", f"weights of {sum(p.stat().st_size for p in weights) / GB:.2f} GB in body/model/")
    elif needs_network(body):
        yield Check("body", "ok", "no weights yet: the first run makes a network by architecture.toml")
    else:
        yield Check(
            "body",
            "fail",
            "has no model: neither model/ with weights nor model.toml",
            "put one there; see `upwright models`",
        )


def _warden(project: Project) -> Iterator[Check]:
    from upwright.warden.audit import verify_home
    from upwright.warden.door import Door

    if not project.warden.is_dir():
        yield _sockets(project)
        return
    report = verify_home(project.warden)
    if not report.ok:
        yield Check(
            "ledger",
            "fail",
            f"broken at entry {report.index}: {report.problem}",
            "restore ledger.jsonl and head.json from a backup",
        )
        return
    yield Check("ledger", "ok", f"{report.entries} entries, all verify")
    try:
        with Door.open(project.warden, project.charter_path.read_text()) as door:
            stopped = door.status()["stopped"]
    except UpwrightError as error:
        yield Check("warden", "fail", error.what, error.todo)
        return
    yield Check(
        "warden",
        "warn" if stopped else "ok",
        f"stopped: {stopped}" if stopped else "answers",
        "`upwright resume`" if stopped else "",
    )


def _sockets(project: Project) -> Check:
    """Whether a Unix socket can be made where the warden will listen."""
    import socket
    import tempfile

    try:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(f"{folder}/door.sock")
    except OSError as error:
        return Check(
            "warden",
            "fail",
            f"a Unix socket cannot be made: {error.strerror}",
            "use a file system that has them for TMPDIR",
        )
    return Check(
        "warden", "ok", f"not founded yet (the first run does); sockets work, its home will be {project.warden.name}/"
    )
