"""Programs as answers: ``evaluator:FOLDER`` or ``evaluator:FOLDER#METRIC``, a folder with an evaluator and evaluator.toml.

A task is one run of the evaluator: its input is a commitment to the run's seed, its answer the seed. The answer that a body gives is its program, which
:class:`upwright.warden.evaluator.Judge` runs; the same code judges practice and sealed runs. Suites that share a folder, an objective and
protected metrics say, share one pool of warm processes. For a machine where no isolation holds, the environment variable ``UPWRIGHT_WAIVER``
carries the name of the person who accepts that; it is frozen on the ledger at founding.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upwright.errors import TaskError
from upwright.records import Failure, FailureKind, Task, canonical_digest
from upwright.tasks.base import Evaluator
from upwright.warden.buckets import run_input
from upwright.warden.canon import sha256
from upwright.warden.errors import GraderError, VaultError
from upwright.warden.parcel import pack, unpack

if TYPE_CHECKING:  # a project without programs does not load what runs them
    from upwright.warden.evaluator import Judge

WAIVER = "UPWRIGHT_WAIVER"
SCORER = {"kind": "program"}
_judges: dict[tuple[int, Path, str], Judge] = {}
_lock = threading.Lock()


class EvaluatorFolder:
    """``evaluator:FOLDER#METRIC``: an endless source; without a metric, the one that evaluator.toml names."""

    kind = "evaluator"

    def load(self, spec: str, root: Path) -> Evaluator:
        """A checked folder, pinned by the SHA-256 of all of it.

        Raises:
            TaskError: the folder, its evaluator.toml or its entry is missing or malformed.
        """
        from upwright.warden.evaluator_spec import EvaluatorSpec

        name, _, metric = spec.partition("#")
        folder = root / name
        if not name or not folder.is_dir():
            raise TaskError(f"evaluator:{spec}: there is no such folder", value=str(folder), todo="check the path")
        try:
            found = EvaluatorSpec.read(folder)
            sha = sha256(pack(folder))
        except (GraderError, VaultError) as error:
            raise TaskError(f"evaluator:{spec}: {error.what}", value=error.value, todo=error.todo) from None
        if isinstance(found.entry, str) and not (folder / found.entry).is_file():
            raise TaskError(f"evaluator:{spec}: there is no file {found.entry} in it", value=str(folder))
        return Evaluator(folder.resolve(), metric.strip() or found.metric, sha, root / "body" / "program")


def task(source: Evaluator, seed: int) -> Task:
    """The task of a run with this seed."""
    made = Task("", run_input(seed), seed, source.metric, 1, dict(SCORER))
    return replace(made, id="t" + canonical_digest([source.sha256, source.metric, seed])[:16])


def graded(source: Evaluator, text: str, task: Task) -> float | Failure:
    """Score of a program in [0, 1]: 0 where its run failed; or why nobody could say."""
    from upwright.warden.evaluator import grade, program_of

    if type(task.answer) is not int:
        return Failure(FailureKind.INFRASTRUCTURE, "the task of a program has no seed")
    try:
        program_of(text)
    except GraderError:
        return 0.0
    try:
        return grade(judge(source), text, task.answer, source.metric).score
    except GraderError as error:
        return Failure(FailureKind.INFRASTRUCTURE, f"the grader could not grade: {error.what}")


def judge(source: Evaluator) -> Judge:
    """This process's judge of a folder, which works on a copy of it; it lives until the process ends.

    Raises:
        GraderError: the folder is not the one that was loaded, or no isolation holds here.
    """
    from upwright.warden.evaluator import Judge

    key = (os.getpid(), source.folder, source.sha256)
    with _lock:
        if key not in _judges:
            try:
                data = pack(source.folder)
                if sha256(data) != source.sha256:
                    raise GraderError(
                        "the evaluator's folder was changed since it was loaded", value=str(source.folder)
                    )
                copy = Path(tempfile.mkdtemp(prefix="upwright-evaluator-"))
                unpack(data, copy / source.folder.name)
            except VaultError as error:
                raise GraderError(error.what, value=error.value, todo=error.todo) from None
            except OSError as error:
                raise GraderError("the evaluator cannot be copied", value=error.strerror, todo="free space") from None
            _judges[key] = Judge(copy / source.folder.name, waiver=bool(waiver()), whole=True)
        return _judges[key]


@atexit.register
def close_judges() -> None:
    """End every process that this one's judges keep warm."""
    with _lock:
        for key in [k for k in _judges if k[0] == os.getpid()]:
            judge = _judges.pop(key)
            with contextlib.suppress(Exception):
                judge.close()
            shutil.rmtree(judge.folder.parent, ignore_errors=True)


def waiver() -> str:
    """Who accepts that no isolation holds on this machine; empty for nobody."""
    return os.environ.get(WAIVER, "").strip()


def sealed_spec(source: Evaluator) -> dict[str, Any]:
    """What the warden takes at founding: the folder, and the first body's program to try it with."""
    spec: dict[str, Any] = {
        "kind": "evaluator", "path": str(source.folder), "sha256": source.sha256, "metric": source.metric,
    }  # fmt: skip
    if source.program is not None and source.program.is_dir():
        spec["program"] = texts(source.program)
    return {**spec, "waiver": waiver()} if waiver() else spec


def texts(folder: Path) -> dict[str, str]:
    """Path → text of every file of a program; bytes that are no UTF-8 stand as lone surrogates."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8", "surrogateescape")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.relative_to(folder).parts
    }
