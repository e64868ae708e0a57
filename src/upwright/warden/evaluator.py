"""Program evaluators: a folder with an evaluator in it, and the one judge that runs it, on practice as for sealed runs.

A program is text: a table of path → content. To judge it, the evaluator runs in a cell of its own and the program in another
(:mod:`upwright.warden.isolation`); what comes out is data, and only here does it become a metric and a score. A metric that is no plain finite
number is a failed run, never a score. ``evaluator.toml`` in the folder says how it is run: :class:`EvaluatorSpec`.

What this does not stop: an evaluator that believes what a program says of itself (see each harness), and with ``together = true`` a program that
reaches into the evaluator's process.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from upwright.warden.errors import GraderError
from upwright.warden.evaluator_spec import FILE, KINDS, EvaluatorSpec, Scale, finite
from upwright.warden.grader import Grade
from upwright.warden.isolation import Ending, IsolationError, Limits, Pool, Ran, harness, strongest_wall
from upwright.warden.parcel import plain_path

__all__ = [
    "FILE", "KINDS", "EvaluatorSpec", "Judge", "Judged", "Scale", "digests", "finite", "grade", "program_of",
]  # fmt: skip

REPEATS = 5
"""Runs by which an exact evaluator is recognised."""
MOST_PATHS = 20_000
MOST_OUTPUT = 16 * 1024
"""Characters of output that are kept of a run: the last ones."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One run of one program.

    Attributes:
        metrics: name → plain finite number.
        score: in [0, 1], higher is better; ``None`` for a run that failed.
        failure: why there is no score, in a word: ``timeout``, ``memory``, ``crash``, ``limit``, ``protocol`` (how a process ended),
            ``program`` (it lacks the file that is asked for), ``error`` (the evaluator says so), ``value`` (a metric is missing or no plain finite number). Empty for a score.
        artifacts: texts for people: what the evaluator told, ``output``, and for a failure ``why``.
        stage: 0 for a whole evaluation; k where the cascade ended it after stage k.
        alarms: what looks like an attack, one sentence each.
    """

    metrics: Mapping[str, float]
    score: float | None
    failure: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    stage: int = 0
    seconds: float = 0.0
    alarms: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """One sentence about a failure; empty for a score."""
        return self.artifacts.get("why", "") if self.failure else ""


class Cells(Protocol):
    """What a judge needs of :class:`upwright.warden.isolation.Pool`."""

    def run(self, job: Mapping[str, Any], program: Mapping[str, str], seed: int, limits: Limits | None = None) -> Ran:
        """One run of the evaluator on a program."""
        ...

    def close(self) -> None:
        """End every process."""
        ...


class Judge:
    """Runs programs through a folder's evaluator. A context manager; thread-safe: as many runs at once as there are cells.

    Args:
        folder: the evaluator's files; they must not change while the judge lives.
        spec: ``None`` reads evaluator.toml.
        waiver: the operator accepts that no isolation holds on this machine.
        size: cells.
        whole: judge every program whole, whatever the spec says of a cascade.
        cells: another pool than an isolated one, for tests.

    Raises:
        GraderError: the spec is malformed, or no isolation holds and there is no waiver.
    """

    def __init__(
        self,
        folder: Path,
        spec: EvaluatorSpec | None = None,
        *,
        waiver: bool = False,
        size: int = 2,
        whole: bool = False,
        cells: Cells | None = None,
    ) -> None:
        self.folder, self.size = folder, size
        self.spec = spec if spec is not None else EvaluatorSpec.read(folder)
        self._job = job_of(self.spec, whole)
        self._cells = cells if cells is not None else _pool(folder, self.spec, waiver, size)

    def judge(self, program: Mapping[str, str], seed: int, metric: str | None = None) -> Judged:
        """Run the evaluator on a program.

        Args:
            program: path inside ``program/`` → text.
            seed: of everything random in both cells.
            metric: which one the score is of; ``None`` for the objective's.

        Raises:
            GraderError: trouble of ours, which says nothing about the program.
        """
        main = self.spec.program
        if self.spec.kind != "command" and main not in program:
            return failed("program", f"the program has no file {main}")
        ran = self._run(program, seed)
        extra = {"output": ran.output[-MOST_OUTPUT:]} if ran.output else {}
        if ran.ending is not Ending.OK:
            return failed(ran.ending.value, ran.why, ran, extra)
        return read(ran, self.spec, metric, extra)

    def repeated(self, program: Mapping[str, str], times: int = REPEATS) -> list[Judged]:
        """``times`` runs, each in a fresh process under another seed."""
        return [self.judge(program, seed_of(program, i)) for i in range(times)]

    def repeats(self, program: Mapping[str, str], times: int = REPEATS, metric: str | None = None) -> bool:
        """Whether the metric is the same, bit for bit, in ``times`` runs. A program that gets no score does not show it.

        Raises:
            GraderError: trouble of ours.
        """
        return all_same([j.metrics.get(metric or self.spec.metric) for j in self.repeated(program, times)])

    def close(self) -> None:
        """End every process."""
        self._cells.close()

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, program: Mapping[str, str], seed: int) -> Ran:
        """One run; tried once more where the trouble was ours."""
        for last in (False, True):
            try:
                ran = self._cells.run(self._job, program, seed)
            except IsolationError as e:
                raise GraderError(e.what, value=e.value, todo=e.todo) from e
            if ran.ending is not Ending.INFRASTRUCTURE:
                break
            if last:
                raise GraderError(
                    f"the evaluator could not be run: {ran.why}", todo="see the machine's memory and disk"
                )
        return ran


def _pool(folder: Path, spec: EvaluatorSpec, waiver: bool, size: int) -> Cells:
    try:
        together = spec.together or spec.kind == "command"
        wall = strongest_wall(waiver)
        imports = [f"{harness.__name__}.{spec.kind}", *spec.imports]
        return Pool(folder, spec.kind, imports, spec.limits, together=together, wall=wall, size=size)
    except IsolationError as e:
        raise GraderError(e.what, value=e.value, todo=e.todo) from e


def job_of(spec: EvaluatorSpec, whole: bool = False) -> dict[str, Any]:
    """What a harness is told."""
    if spec.kind == "command":
        return {"kind": spec.kind, "entry": list(spec.entry), "program": spec.program, "output": spec.output}
    job: dict[str, Any] = {"kind": spec.kind, "entry": spec.entry, "program": spec.program}
    if spec.kind == "evaluate":
        job["thresholds"] = list(spec.thresholds) if spec.cascade and not whole else []
    return job


def read(ran: Ran, spec: EvaluatorSpec, metric: str | None, extra: Mapping[str, str]) -> Judged:
    """What a run that ended well says. Nothing that came out of a cell is taken for what it claims to be."""
    name, data = metric or spec.metric, ran.value if isinstance(ran.value, dict) else {}
    told = {str(k): str(v) for k, v in _table(data, "artifacts").items()} | dict(extra)
    stage = data.get("stage", 0)
    stage = stage if type(stage) is int and 0 <= stage <= 3 else 0
    metrics: dict[str, float] = {}
    wrong = {str(k): str(v) for k, v in _table(data, "refused").items()}
    for key, value in _table(data, "metrics").items():
        number = finite(value)
        if number is None:
            wrong[str(key)] = repr(value)[:80]
        else:
            metrics[str(key)] = number
    if wrong:
        key, shown = next(iter(wrong.items()))
        return failed("value", f"the metric {key} is {shown}", ran, told, stage)
    if isinstance(data.get("error"), str) and data["error"]:
        return failed("error", f"the evaluator says: {data['error'][:500]}", ran, told, stage, metrics)
    if name not in metrics:
        listed = ", ".join(sorted(metrics)[:20]) or "none"
        return failed("value", f"there is no number {name} among the metrics ({listed})", ran, told, stage, metrics)
    try:
        score = spec.score(metrics[name], name)
    except ValueError as e:
        return failed("value", f"the metric {name}: {e}", ran, told, stage, metrics)
    return Judged(metrics, score, "", told, stage, ran.seconds, tuple(ran.alarms))


def failed(
    kind: str,
    why: str,
    ran: Ran | None = None,
    told: Mapping[str, str] | None = None,
    stage: int = 0,
    metrics: Mapping[str, float] | None = None,
) -> Judged:
    """A run without a score."""
    facts = {**(told or {}), "why": why[:1000]}
    seconds, alarms = (ran.seconds, tuple(ran.alarms)) if ran is not None else (0.0, ())
    return Judged(metrics or {}, None, kind, facts, stage, seconds, alarms)


def grade(judge: Judge, text: str, seed: int, metric: str | None = None) -> Grade:
    """What a body's answer gets: a run that fails, or an answer that is no program, has no score to win with, which is 0.

    Raises:
        GraderError: trouble of ours.
    """
    try:
        program = program_of(text)
    except GraderError as e:
        return Grade(0.0, None, e.what)
    judged = judge.judge(program, seed, metric)
    if judged.score is None:
        return Grade(0.0, None, f"{judged.failure}: {judged.why}", judged.alarms)
    return Grade(judged.score, judged.metrics[metric or judge.spec.metric], "", judged.alarms)


def all_same(values: Sequence[float | None]) -> bool:
    """Whether there is a number everywhere and it is the same, bit for bit."""
    return None not in values and len({struct.pack("<d", v) for v in values if v is not None}) == 1


def seed_of(program: Mapping[str, str], i: int) -> int:
    """A 63-bit seed that follows from a program."""
    data = json.dumps([i, dict(program)], sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def program_of(text: str) -> dict[str, str]:
    """The program that a body's answer is: a JSON object, path inside ``program/`` → text.

    Raises:
        GraderError: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or len(found) > MOST_PATHS:
        raise GraderError("the answer is no program", value=text[:80], todo="answer a JSON object, path → text")
    for path, content in found.items():
        if not plain_path(path) or not isinstance(content, str):
            raise GraderError("the answer is no program: a path or a text is malformed", value=path[:200])
    return found


def digests(program: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 (hex) of every file; bytes that are no UTF-8 stand in a text as lone surrogates (``surrogateescape``)."""
    return {path: hashlib.sha256(_bytes(text)).hexdigest() for path, text in program.items()}


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _table(data: Mapping[str, Any], name: str) -> Mapping[Any, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}
