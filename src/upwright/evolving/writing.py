"""The project directory of an evolution, written as a person would: whole, or not at all, every file with a word on what it is for.

::

    NAME-evolved/
    ├── upwright.toml    how to run
    ├── charter.toml     what may change, how sure to be
    ├── tasks/NAME/      the evaluator's files, and evaluator.toml: how it is run and read
    └── body/            program/ (the first program), model.toml
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from upwright.errors import StorageError
from upwright.evolution.grid import LENGTH
from upwright.evolving import _lay
from upwright.evolving.files import Sources
from upwright.evolving.trials import Scale
from upwright.project import Project, new_directory, read_settings, refuse_occupied
from upwright.warden.charter import Charter
from upwright.warden.evaluator_spec import FILE, EvaluatorSpec
from upwright.warden.isolation import Limits

LAY = "lay.py"
"""The file that lays what may change over what may not, and runs a command there: :mod:`upwright.evolving._lay`."""
TEST_SHARE = 0.2
"""Share of a run's time that one test of a noisy evaluator may take."""
LEAST_RUNS, MOST_RUNS = 48, 256
"""Sealed runs of each body in a test."""
DEFAULT_MINUTES = 15.0
SEARCH_SECONDS = 300.0
"""Seconds of a search at effort 1.0: what the lever takes a round for (:attr:`upwright.levers.program.ProgramSearch.seconds`)."""
LEGS, SHORTEST, LONGEST = 8, 8.0, 240.0
"""Searches in a run, and the seconds that one takes at least and at most."""
CANDIDATES, FEW = 20, 50
"""Candidates that there is to be time for in each; and where their number is given, fewer than which are no search of their own."""


@dataclass(frozen=True, slots=True)
class Design:
    """All that a project is written from.

    Attributes:
        scale: of the objective; ``protected``: metric → its scale, for metrics that must not get worse.
        typical: seconds that a run takes.
        endpoints: language models that may propose, ``URL#MODEL``; ``features``: metrics that tell programs apart.
        minutes: how long a run of the project is meant to take; ``candidates``: how many it is meant to try, ``None`` for as many as fit.
    """

    sources: Sources
    spec: EvaluatorSpec
    scale: Scale
    typical: float
    language: str
    minutes: float = DEFAULT_MINUTES
    candidates: int | None = None
    endpoints: tuple[str, ...] = ()
    protected: Mapping[str, Scale] = field(default_factory=dict)
    features: tuple[str, ...] = ()


def lay_out(sources: Sources, folder: Path) -> None:
    """Copy the evaluator's files to ``tasks/NAME/``; a repository's go one folder deeper, with the script that lays them out.

    Raises:
        StorageError: the disk is full or read-only.
    """
    deeper = sources.format.kind == "command"
    place = folder / _lay.REPOSITORY if deeper else folder
    try:
        folder.mkdir(parents=True)
        for path, source in sources.beside.items():
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        if deeper:
            place.mkdir(exist_ok=True)
            shutil.copyfile(Path(_lay.__file__), folder / LAY)
    except OSError as error:
        raise StorageError(
            f"cannot copy the evaluator: {error.strerror or error}",
            value=str(folder),
            todo="free space, or check the files",
        ) from None


def entry_of(sources: Sources) -> str | tuple[str, ...]:
    """``entry`` of evaluator.toml: the evaluator's file, or the command in the laid-out repository."""
    if isinstance(sources.format.entry, str):
        return sources.format.entry
    return ("python", LAY, *sorted(sources.program), "--", *sources.format.entry)


def write(target: Path, design: Design, evaluator: Path) -> Project:
    """Write the project beside and move it into place.

    Args:
        evaluator: the folder that :func:`lay_out` has made; it is copied.

    Raises:
        ProjectError: the directory is not empty.
        StorageError: the disk is full or read-only.
    """
    refuse_occupied(target, "name a new one with --output")
    name = design.sources.name
    with new_directory(target) as staged:
        shutil.copytree(evaluator, staged / "tasks" / name)
        (staged / "tasks" / name / FILE).write_text(evaluator_text(design.spec))
        for path, text in texts(design).items():
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            (staged / path).write_text(text)
        for path, text in design.sources.program.items():
            file = staged / "body" / "program" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8", newline="")
        read_settings(staged / "upwright.toml")
        Charter.parse((staged / "charter.toml").read_text())
    return Project.open(target)


def texts(design: Design) -> dict[str, str]:
    """Path → text of the files that are not copies."""
    return {
        "upwright.toml": _upwright(design),
        "charter.toml": _charter(design),
        "body/model.toml": _model(design),
    }


def spec_of(sources: Sources, imports: Sequence[str], limits: Limits, **more: Any) -> EvaluatorSpec:
    """evaluator.toml's record, before anything was measured or after."""
    return EvaluatorSpec(
        kind=sources.format.kind,
        entry=entry_of(sources),
        program=sources.main,
        imports=tuple(imports),
        limits=limits,
        **more,
    )


def evaluator_text(spec: EvaluatorSpec) -> str:
    """The text of evaluator.toml; :meth:`EvaluatorSpec.parse` gives the spec back."""
    told = {
        "kind": "evaluate: evaluate(program_path); shinka: main(program_path, results_dir); command: prints JSON",
        "entry": "the evaluator",
        "program": "the program's main file, inside program/",
        "metric": "what is to get better",
        "direction": "max: more of it is better; min: less",
        "center": "the metric that scores 1/2: the first program's",
        "width": "so much better scores 3/4",
        "exact": "the metric repeats, bit for bit, whatever the seed: then a gain is shown by measuring again",
        "together": "the program runs in the evaluator's own process; weaker",
        "cascade": "whether quick stages come first, in a search",
        "thresholds": "what each quick stage must reach",
        "output": "the file that a command writes its metrics to",
        "imports": "loaded once, before a process is forked for each run",
    }
    plain = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in ("limits", "metrics")}
    blank = EvaluatorSpec()
    lines = ["# How this evaluator is run, and how what it measures is read. Frozen at the first run.\n"]
    for key, value in plain.items():
        if key in ("bounded", "output", "thresholds", "together", "cascade") and value == getattr(blank, key):
            continue
        text = _inline(key, list(value) if isinstance(value, tuple) else value)
        lines.append(f"{text}  # {told[key]}\n" if key in told else f"{text}\n")
    tables: dict[str, Any] = {"limits": {k: v for k, v in asdict(spec.limits).items() if v is not None}}
    if spec.metrics:
        tables["metrics"] = {name: asdict(scale) for name, scale in spec.metrics.items()}
    return "".join(lines) + "\n" + tomli_w.dumps(tables)


def test_size(design: Design) -> int:
    """Sealed runs of each body that one test of a noisy metric may take."""
    whole = TEST_SHARE * 60 * design.minutes / max(design.typical, 1e-3)
    return int(min(MOST_RUNS, max(LEAST_RUNS, whole)))


def _upwright(design: Design) -> str:
    name, exact = design.sources.name, design.scale.exact
    tables = {name: {"source": f"evaluator:tasks/{name}#{design.scale.metric}"}}
    tables |= {suite: {"source": f"evaluator:tasks/{name}#{metric}"} for suite, metric in suites(design).items()}
    practice = 1 if exact else 8
    return _UPWRIGHT.format(
        name=name,
        practice=practice,
        screen=practice,
        effort=_effort(design),
        task_timeout=f"{max(900.0, 2.0 * practice * design.spec.limits.seconds):.0f}",
        suites=tomli_w.dumps({"suites": tables}),
    )


def leg(design: Design) -> float:
    """Seconds of one search: an eighth of a run, and time for some candidates, but not nearly all of it."""
    whole = 60 * design.minutes
    if design.candidates is not None:
        return max(2.0, 0.5 * whole / legs(design.candidates))
    return max(2.0, min(max(whole / LEGS, SHORTEST, CANDIDATES * design.typical / 2), LONGEST, 0.8 * whole or LONGEST))


def legs(candidates: int) -> int:
    """Searches into which a number of candidates is cut."""
    return max(1, min(LEGS, candidates // FEW))


def _effort(design: Design) -> float:
    """The effort at which the lever expects as many seconds as a search takes; at most 1, so that a number of candidates comes out as it was given."""
    return min(1.0, float(f"{leg(design) / SEARCH_SECONDS:.3g}"))


def _model(design: Design) -> str:
    effort, fixed = _effort(design), design.sources.fixed
    table: dict[str, Any] = {"paths": ["**", *(f"!{path}" for path in fixed)]}
    if design.candidates is not None:
        table["candidates"] = round(design.candidates / legs(design.candidates) / effort)
    else:
        table["candidates"] = 0
    table["seconds"] = max(SEARCH_SECONDS, round(leg(design), 1))
    if design.endpoints:
        table["endpoints"] = list(design.endpoints)
    if design.features:
        table["features"] = [LENGTH, *design.features]
    if design.sources.format.reads_text:
        table["syntax"] = False
    lines = [_MODEL]
    for key, value in table.items():
        lines.append(f"{_inline(key, value)}  # {_SEARCH[key]}\n")
    return "".join(lines)


def _inline(key: str, value: Any) -> str:
    """One line of TOML."""
    return " ".join(tomli_w.dumps({key: value}).split())


def suites(design: Design) -> dict[str, str]:
    """Names of the protected suites → their metrics."""
    return {f"{design.sources.name}-{metric}": metric for metric in design.protected}


def _charter(design: Design) -> str:
    exact, size = design.scale.exact, test_size(design)
    margins = "".join(tomli_w.dumps({"protected": {suite: {"margin": 0.05}}}) for suite in suites(design))
    numbers = {"batch": 8, "n_max": size, "confirm": size // 4, "vault": size // 4}
    if exact:
        numbers = {"batch": 4, "n_max": LEAST_RUNS, "confirm": 4, "vault": 4}
    return _CHARTER.format(
        objective=tomli_w.dumps({"objective": design.sources.name}).strip(),
        gain="1e-9" if exact else "0.03",
        gain_told="the metric repeats exactly: any gain counts" if exact else _gain_told(design.scale),
        protected=f"\n# Metrics that must not get worse, each with a margin in score.\n{margins}" if margins else "",
        sealed_told="of an exact metric each is run three times, whatever stands here"
        if exact
        else "as many as fit into a run",
        **numbers,
    )


def _gain_told(scale: Scale) -> str:
    from math import pi, tan

    return f"about {scale.width * tan(0.03 * pi):.3g} of {scale.metric}, from where the first program stands"


_UPWRIGHT = """\
# How this project runs. What may change, and how sure to be, is in charter.toml; how the evaluator is run, in
# tasks/{name}/evaluator.toml. `upwright evolve` wrote these files; they may be edited until the first run.

levers = ["program"]    # search over programs: one build is a search of many candidates

[run]
seed = 0                # everything random derives from it
effort = {effort}          # of one search, of the seconds that body/model.toml gives it
practice = {practice}            # practice runs of every champion
samples = 0             # a program's answer is its own text: there is nothing to sample
screen = {screen}              # practice runs of a candidate before it may knock at the warden's door
task_timeout = {task_timeout}      # seconds without news after which a batch of runs counts as hung

[engine]
kind = "local"
workers = 1
replicas = 1

{suites}"""

_MODEL = """\
# The body is program/ beside this file: it answers with its own text, and the grader runs it.
runtime = "program"

# How it is searched; times and counts at effort 1.0 (upwright.toml).
[search]
"""
_SEARCH = {
    "paths": "what may change; in files with EVOLVE-BLOCK marks only what is between them",
    "candidates": "most of one search; 0 lets the clock end it",
    "seconds": "longest that one search takes",
    "endpoints": "language models that may propose",
    "features": "what tells programs apart",
    "syntax": "the evaluator reads the program's text, so texts that mean the same are not the same",
}

_CHARTER = """\
# The charter: what may change, what must never get worse, how sure to be, who has to agree.
# It is yours. Nothing that the loop can write can change it, and it is frozen at the first run;
# after that, edit it and put the edit in force with `upwright amend --by NAME`.

# The evaluator's metric to get better at, as a score: 1/2 is the first program.
{objective}

# The smallest gain worth finding, in score: {gain_told}.
minimum_gain = {gain}

# How many of the promotions of the whole run may be no improvement: at most 1 in 20 is expected.
error_rate = 0.05
error_control = "fdr"
beta = 0.1

# The files of the body that may change.
may_change = ["program/"]

# "auto": what the gate proves is promoted. "approve": a person agrees first (`upwright approve TEST`).
oversight = "auto"
{protected}
# What ends the run, besides what is asked for on the command line.
# [budget]
# minutes = 60
# generations = 20

# Sealed runs, on seeds that only the warden knows; {sealed_told}.
[sealed]
batch = {batch}
n_max = {n_max}
confirm = {confirm}
retries = 2

[vault]
size = {vault}
"""
