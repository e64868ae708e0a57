"""From a program and what scores it to a project directory: what ``upwright evolve`` does before the loop runs.

The files are sorted by reading them (:mod:`~upwright.evolving.recognise`, :mod:`~upwright.evolving.files`), the first program is run a few times in isolation
(:mod:`~upwright.evolving.trials`), and the project is written (:mod:`~upwright.evolving.writing`). Nothing that a person pointed at is changed, imported or run in
this process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from upwright.bodies.body import Body
from upwright.errors import ProjectError, TaskError
from upwright.evolution.settings import read_search
from upwright.evolving import trials
from upwright.evolving.config import Config, read_config
from upwright.evolving.files import Sources, gather
from upwright.evolving.recognise import language_of, needs
from upwright.evolving.trials import FIRST_SECONDS, Judged, Scale, Trial
from upwright.evolving.writing import DEFAULT_MINUTES, Design, lay_out, spec_of, write
from upwright.project import Project
from upwright.tasks.evaluator import WAIVER
from upwright.warden.evaluator_spec import FILE, EvaluatorSpec
from upwright.warden.evaluator_spec import Scale as SpecScale
from upwright.warden.isolation import Limits

__all__ = ["Wish", "begin", "rounds", "signed", "waived"]

Say = Callable[[str], None]
"""Told what is found out, a sentence each."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for.

    Attributes:
        evaluator: a file, or a command; ``None`` where the program's folder tells.
        output: the project directory; by default ``NAME-evolved`` in the current one.
        language: of the program; by default as its file's name tells.
        exact: what the person says of the metric; ``None`` to find out.
        together: the program runs in the evaluator's own process.
        waiver: who accepts that no isolation may hold here; empty for nobody.
        allow: paths inside a folder that may change; empty for all that the evaluator is not.
        protect: metrics that must not get worse, ``NAME`` or ``NAME:min``.
        candidates: most of them, ``None`` for as many as there is time for.
        seconds: after which one run is ended; ``None`` to find out.
    """

    program: Path
    evaluator: str | None = None
    output: Path | None = None
    language: str = ""
    metric: str = ""
    minimise: bool = False
    exact: bool | None = None
    together: bool = False
    waiver: str = ""
    allow: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    minutes: float = DEFAULT_MINUTES
    candidates: int | None = None
    seconds: float | None = None


class Judge(Protocol):
    """What the first runs need of :class:`upwright.warden.evaluator.Judge`."""

    def judge(self, program: Mapping[str, str], seed: int, metric: str | None = None) -> Judged: ...
    def close(self) -> None: ...


JudgeOf = Callable[[Path, EvaluatorSpec, bool], Judge]
"""``judge_of(folder, spec, whole)``."""


def begin(wish: Wish, say: Say = lambda told: None, judge_of: JudgeOf | None = None) -> Project:
    """The project of a wish: a new one, or the one that an earlier call made, if it is about the same program.

    Raises:
        ProjectError: the program cannot be read, or the directory holds something else.
        TaskError: the evaluator cannot be read, or gave the first program no score.
        GraderError: no isolation holds here, and nobody waives it.
    """
    sources = gather(wish.program, wish.evaluator, wish.allow)
    target = (wish.output or Path(f"{sources.name}-evolved")).absolute()
    if (target / "upwright.toml").is_file():
        project = Project.open(target)
        _same(project, sources)
        say(f"{target.name} is there already: it goes on")
        return project
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ProjectError("the directory is not empty", value=str(target), todo="name a new one with --output")
    config = read_config(wish.program if wish.program.is_dir() else wish.program.parent)
    for note in (*sources.notes, *config.notes):
        say(note)
    with tempfile.TemporaryDirectory(prefix="upwright-evolve-") as scratch:
        folder = Path(scratch) / sources.name
        lay_out(sources, folder)
        design = _tried(wish, sources, config, folder, say, judge_of or isolated)
        project = write(target, design, folder)
    say(f"wrote {target.name}: charter.toml says how sure to be, tasks/{sources.name}/evaluator.toml how a run is read")
    return project


def rounds(project: Project, candidates: int | None) -> int | None:
    """Searches of a project in which so many candidates are tried; ``None`` where the clock ends them.

    Raises:
        ProjectError: the project's searches are not counted in candidates.
    """
    if candidates is None:
        return None
    search = read_search(Body(project.body_path))
    each = max(search.ahead, round(search.candidates * project.settings.run.effort))
    if not search.candidates:
        raise ProjectError(
            "this project's searches end by the clock",
            value=f"--candidates {candidates}",
            todo="leave out --candidates",
        )
    return max(1, round(candidates / each))


def signed(project: Project) -> str:
    """Who signed at this project's founding that no isolation need hold; empty for nobody."""
    from upwright.warden import ledger

    book = project.warden / ledger.FILE
    if not book.exists():
        return ""
    suites: Mapping[str, Mapping[str, Any]] = ledger.read(book)[0].data.get("suites", {})
    return next((str(s["waiver"]) for s in suites.values() if s.get("waiver")), "")


def waived(by: str) -> None:
    """From now on isolation is waived in this process and its workers, under a person's name."""
    os.environ[WAIVER] = by


def isolated(folder: Path, spec: EvaluatorSpec, whole: bool) -> Judge:
    """The judge that also judges sealed runs.

    Raises:
        GraderError: no isolation holds here, and nobody waives it.
    """
    from upwright.tasks.evaluator import waiver
    from upwright.warden.evaluator import Judge as Isolated

    return Isolated(folder, spec, waiver=bool(waiver()), size=1, whole=whole)


def _same(project: Project, sources: Sources) -> None:
    """Refuse to go on with another program than the one that a project began with."""
    begun = project.body_path / "program"
    for path, text in sources.program.items():
        file = begun / path
        if not file.is_file() or file.read_bytes() != text.encode():
            raise ProjectError(
                "the project in this directory began with another program",
                value=f"{project.root.name}: {path}",
                todo="name a new directory with --output",
            )


def _tried(wish: Wish, sources: Sources, config: Config, folder: Path, say: Say, judge_of: JudgeOf) -> Design:
    """Run the first program and decide how it is to be judged."""
    language = language_of(sources.main, wish.language)
    together = wish.together or (language != "python" and sources.format.kind != "command")
    if together and not wish.together:
        say(f"the program is {language}: it lies in the evaluator's own cell, and proposers change it as text")
    found = needs([sources.scored_by, *_python(sources)], _modules(sources))
    if found.missing:
        say(f"not installed here: {', '.join(found.missing)}")
    given = _given(sources, say)
    most = wish.seconds or config.seconds or (given.limits.seconds if given else FIRST_SECONDS)
    limits = replace(given.limits if given else Limits(), seconds=most)
    warm = tuple(dict.fromkeys((*found.warm, *(given.imports if given else ()))))
    spec = spec_of(sources, warm, limits, together=together)
    named = wish.metric or (given.metric if given else "")
    known = given is not None and (named == given.metric or named in given.metrics)
    direction = "min" if wish.minimise or (given and known and given.of(named).direction == "min") else "max"
    if named:
        spec = replace(spec, metric=named)
    trial = _run(judge_of(folder, spec, True), sources.program, say)
    metric = trials.choose_metric(trial, named)
    scale = trials.scale_of(trial, metric, direction, wish.exact)
    seconds = wish.seconds or trials.time_out(trial.seconds, config.seconds)
    protected = _protected(wish.protect, trial, metric)
    spec = replace(
        spec,
        **_scaled(scale),
        metrics={name: _of(s) for name, s in protected.items()},
        limits=replace(spec.limits, seconds=seconds),
    )
    _say_found(trial, scale, seconds, say)
    spec = _staged(spec, sources, config, folder, say, judge_of)
    typical = max(min(trial.seconds), 1e-3)
    features = tuple(name for name in config.features if name in trial.metrics and name != metric)[:1]
    return Design(
        sources, spec, scale, typical, language, wish.minutes, wish.candidates, wish.endpoints, protected, features
    )


def _given(sources: Sources, say: Say) -> EvaluatorSpec | None:
    """The evaluator.toml beside an evaluator: what gets better, and what a run may use. How the metric is read the first runs tell.

    Raises:
        GraderError: it is malformed.
    """
    if sources.evaluator is None or not (sources.evaluator.parent / FILE).is_file():
        return None
    spec = EvaluatorSpec.read(sources.evaluator.parent)
    if spec.entry != sources.evaluator.name:
        return None
    say(f"of {FILE}: metric, direction and limits taken")
    return spec


def _run(judge: Judge, program: Mapping[str, str], say: Say) -> Trial:
    try:
        return trials.try_first(lambda seed: judge.judge(program, seed), 0, say)
    finally:
        judge.close()


def _scaled(scale: Scale) -> dict[str, Any]:
    return {
        "metric": scale.metric,
        "direction": scale.direction,
        "center": scale.center,
        "width": scale.width,
        "exact": scale.exact,
    }


def _of(scale: Scale) -> SpecScale:
    """A scale as evaluator.toml has it."""
    return SpecScale(scale.direction, scale.center, scale.width, exact=scale.exact)


def _protected(named: Sequence[str], trial: Trial, objective: str) -> dict[str, Scale]:
    """Scales of the metrics that must not get worse."""
    found = {}
    for text in named:
        name, _, direction = text.partition(":")
        if name == objective:
            raise TaskError(
                "the objective's metric cannot be protected as well", value=name, todo="leave out --protect"
            )
        if direction not in ("", "min", "max"):
            raise TaskError(
                "a protected metric is NAME or NAME:min", value=text, todo="write NAME:min where less is better"
            )
        found[name] = trials.scale_of(trial, trials.choose_metric(trial, name), direction or "max")
    return found


def _say_found(trial: Trial, scale: Scale, seconds: float, say: Say) -> None:
    values = trial.metrics[scale.metric]
    better = "more" if scale.direction == "max" else "less"
    if scale.exact:
        say(
            f"{scale.metric} = {values[0]:.6g} in each of {trial.runs} runs, bit for bit: it repeats exactly ({better} is better)"
        )
    else:
        say(f"{scale.metric} = {scale.center:.6g} ± {scale.spread:.2g} over {trial.runs} runs ({better} is better)")
    others = [name for name in trial.metrics if name != scale.metric]
    if others:
        say(f"other metrics: {', '.join(others[:12])}{' …' * (len(others) > 12)}")
    say(f"a run takes {max(trial.seconds):.2g} s; one is ended after {seconds:g} s")
    for alarm in trial.alarms:
        say(f"the first program set off an alarm: {alarm}")


def _staged(
    spec: EvaluatorSpec, sources: Sources, config: Config, folder: Path, say: Say, judge_of: JudgeOf
) -> EvaluatorSpec:
    """The spec with quick stages, where the config wants them, the evaluator has them, and the first program passes them."""
    if not (sources.format.stages and config.thresholds and config.cascade is not False):
        return replace(spec, cascade=False)
    staged = replace(spec, cascade=True, thresholds=config.thresholds)
    judge = judge_of(folder, staged, False)
    try:
        judged = judge.judge(sources.program, 0)
    finally:
        judge.close()
    if judged.failure or judged.stage:
        where = f"stage {judged.stage}" if judged.stage else "a stage"
        say(f"the first program does not pass {where} of the evaluator: every candidate is judged whole")
        return replace(spec, cascade=False)
    say(f"quick stages first: thresholds {', '.join(f'{t:g}' for t in config.thresholds)}")
    return staged


def _python(sources: Sources) -> list[str]:
    return [text for path, text in sources.program.items() if path.endswith(".py")]


def _modules(sources: Sources) -> list[str]:
    """Names of modules that lie beside the files."""
    return [path.partition("/")[0].removesuffix(".py") for path in (*sources.program, *sources.beside)]
