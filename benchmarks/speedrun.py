"""What training to the loss costs the first and the last generation of a speed run, on seeds that the run has not seen.

For a project that was run (a copy of ``examples/speedrun``). Both generations are trained from the same fresh seeds, one after
the other, one thread each, the first of them first on every other seed. FLOPs, tokens and steps are the same on
every machine; seconds are of this one, wall and CPU, for the whole of a training: making the network, the steps and the looks at the held-out
loss. *Training seconds* are wall seconds of the steps alone, what the task file counts under ``MEASURE = "seconds"``. Ratios are
geometric means of first over last, with 95 % intervals (Student's t on the paired logarithms). Run, on an otherwise idle machine::

    python -m benchmarks.speedrun speedrun
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.training import ratio
from upwright.bodies.body import Body
from upwright.bodies.store import Store
from upwright.errors import BodyError, BuildError, ProjectError, UpwrightError
from upwright.levers._designs import told
from upwright.levers.speed import _Design, _told
from upwright.lineage import read_lineage
from upwright.project import Project
from upwright.records import Task, to_json
from upwright.tasks import Suite, load_source
from upwright.training.target import Aim, Texts, reach

WHICH = ("first", "last")
MEASURES = ("flops", "tokens", "steps", "wall seconds", "cpu seconds", "training seconds")
SALT = "speed run, measured again"
"""Splits the suite's tasks otherwise than any project does, so the seeds drawn are not those of a run."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one thread within."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def design_of(body: Body) -> _Design:
    """A body's shape and recipe.

    Raises:
        BodyError: it has no shape.
    """
    if body.architecture is None:
        raise BodyError("a body that trains needs architecture.toml", value=str(body.root), todo="name a speed run")
    return _Design(body.architecture, body.training)


def asked(task: Task) -> tuple[Aim, int]:
    """The aim and the training seed of a task."""
    said = json.loads(task.input)
    return Aim(float(said["loss"]), float(said["flops"])), int(said["seed"])


def trained(design: _Design, texts: Texts, aim: Aim, seed: int) -> dict[str, Any]:
    """One training to the aim: what it did, and the wall and CPU seconds of all of it."""
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="upwright-bench-") as scratch:
        try:
            found = to_json(reach(design.shape, design.recipe, texts, aim, seed, Path(scratch)))
        except BuildError as error:  # it diverged
            found = {"reached": False, "loss": None, "steps": 0, "tokens": 0, "flops": 0.0, "seconds": 0.0}
            found["ended"] = error.what
    spent = {"wall seconds": time.perf_counter() - wall, "cpu seconds": time.process_time() - cpu}
    return {**found, "training seconds": found.pop("seconds"), **spent}


def warmed(design: _Design, texts: Texts, aim: Aim) -> None:
    """A few steps that nobody counts: imports and first allocations are behind us afterwards."""
    trained(design, texts, replace(aim, flops=aim.flops / 200), 0)


def ratios(rows: Sequence[Mapping[str, Any]], measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """First over last on the seeds on which both reached the loss: geometric means with 95 % intervals.

    An interval takes two seeds; of one there is the mean alone, of none nothing.
    """
    both = [row for row in rows if all(row[name]["reached"] for name in WHICH)]
    found = {}
    for measure in measures:
        first, last = ([row[name][measure] for row in both] for name in WHICH)
        if len(both) == 1:
            found[measure] = {"mean": first[0] / last[0]}
        elif both:
            found[measure] = ratio(first, last)
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each training."""
    head = f"{'seed':>4}  {'':5}  {'loss':>7}  {'FLOPs':>9}  {'tokens':>9}  {'steps':>5}  {'wall s':>7}  {'CPU s':>7}"
    lines = [head]
    for number, row in enumerate(rows):
        for name in WHICH:
            one = row[name]
            loss = "-" if one["loss"] is None else f"{one['loss']:.4f}"
            lines.append(
                f"{number:4}  {name:5}  {loss:>7}  {one['flops']:9.3g}  {one['tokens']:9,}  {one['steps']:5}"
                f"  {one['wall seconds']:7.2f}  {one['cpu seconds']:7.2f}" + ("" if one["reached"] else "  not reached")
            )
    return "\n".join(lines)


def generations(project: Project, last: str = "champion") -> dict[str, Body]:
    """Generation 0 and the champion, or another that is named.

    Raises:
        ProjectError: the project was not run, or the two are one.
    """
    line, store = read_lineage(project), Store(project.state / "store")
    digests = {"first": line.resolve("0"), "last": line.resolve(last)}
    if len(set(digests.values())) < 2:
        raise ProjectError("generation 0 is still the champion: nothing to compare", value=project.root.name)
    for digest in digests.values():
        store.verify(digest)
    return {name: Body(store.checkout(digest), digest) for name, digest in digests.items()}


def tasks_of(project: Project, count: int, seed: int) -> tuple[Task, ...]:
    """Fresh training seeds of the project's objective."""
    name, settings = next(iter(project.settings.suites.items()))
    return Suite(name, load_source(settings.source, project.root), SALT).draw(count, seed)


def measure(root: Path, seeds: int = 10, seed: int = 0, last: str = "champion") -> dict[str, Any]:
    """Every training, the ratios, and what the two generations are."""
    project = Project.open(root)
    bodies = generations(project, last)
    designs = {name: design_of(body) for name, body in bodies.items()}
    texts = {name: Texts.read(body.root / "model") for name, body in bodies.items()}
    tasks = tasks_of(project, seeds, seed)
    rows: list[dict[str, Any]] = []
    with one_thread():
        for name in WHICH:
            warmed(designs[name], texts[name], asked(tasks[0])[0])
        for number, task in enumerate(tasks):
            aim, drawn = asked(task)
            row: dict[str, Any] = {"seed": drawn, "load": os.getloadavg()[0]}
            for name in WHICH[:: 1 if number % 2 == 0 else -1]:
                row[name] = trained(designs[name], texts[name], aim, drawn)
                print(f"seed {number}, {name}: {row[name]['ended']}", file=sys.stderr, flush=True)
            rows.append(row)
    facts = {
        name: {"digest": bodies[name].digest, "shape": told(d.shape), "recipe": _told(d.recipe)}
        for name, d in designs.items()
    }
    reached = {name: sum(row[name]["reached"] for row in rows) for name in WHICH}
    return {"generations": facts, "seeds": len(rows), "reached": reached, "first over last": ratios(rows), "all": rows}


def main() -> int:
    """Parse, measure, print a table, keep the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="directory of a speed run")
    parser.add_argument("--seeds", type=int, default=10, help="training seeds")
    parser.add_argument("--seed", type=int, default=0, help="which seeds are drawn")
    parser.add_argument("--last", default="champion", help="generation to compare with generation 0")
    parser.add_argument("--out", type=Path, default=Path("bench-out/speedrun.json"))
    args = parser.parse_args()
    before = machine()
    try:
        found = measure(args.project, args.seeds, args.seed, args.last)
    except UpwrightError as error:
        print(error, file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": before, **found}, indent=2) + "\n")
    print(table(found["all"]))
    for name, one in found["generations"].items():
        print(f"{name}: {one['shape']}; {one['recipe']}; reached on {found['reached'][name]} of {found['seeds']} seeds")
    for name, one in found["first over last"].items():
        between = f" ({one['low']:.2f} to {one['high']:.2f})" if "low" in one else ""
        print(f"{name:16} {one['mean']:7.2f} times{between}")
    print(f"kept in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
