"""The command that evolves a program: evolve."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwright.cli.common import By, Json, console, door_of, emit

if TYPE_CHECKING:
    from upwright.evolving import Wish
    from upwright.lines import Lineage
    from upwright.project import Project


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(short_help="Evolve a program by what scores it.")(evolve)


def evolve(
    program: Annotated[
        Path, typer.Argument(metavar="PROGRAM", help="A file, or a folder: an example's, or a whole repository.")
    ],
    evaluator: Annotated[
        str | None,
        typer.Argument(
            metavar="[EVALUATOR]",
            help="What scores it: a file with evaluate(program_path) or main(program_path, results_dir), or a command in quotes "
            "that prints JSON or a number. Left out, it is the evaluator.py or evaluate.py in PROGRAM's folder.",
        ),
    ] = None,
    lang: Annotated[
        str, typer.Option("--lang", metavar="L", help="The program's language; by default as its file's name tells.")
    ] = "",
    metric: Annotated[
        str,
        typer.Option(
            "--metric", metavar="M", help="What is to get better; by default combined_score, or the only one."
        ),
    ] = "",
    minimise: Annotated[bool, typer.Option("--minimise", help="Less of the metric is better.")] = False,
    protect: Annotated[
        list[str] | None,
        typer.Option(
            "--protect", metavar="M", help="A metric that must not get worse; M:min where less of it is better."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, metavar="M", help="End after M minutes.")] = 15.0,
    candidates: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N candidates, or after --minutes.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="The project; by default NAME-evolved in the current directory."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="PATH", help="Of a folder, a file, folder or pattern that may change; may be repeated."
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", metavar="URL#MODEL", help="A language model that may propose; may be repeated."),
    ] = None,
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="Run the program in the evaluator's own process: weaker, for objects as arguments."
        ),
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", min=0.1, metavar="S", help="End a run after S seconds; by default as the first runs tell."
        ),
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--noisy", help="Whether the metric repeats exactly; by default the first runs tell."),
    ] = None,
    waive_isolation: Annotated[
        bool,
        typer.Option(
            "--waive-isolation", help="Accept that no isolation may hold here; signed on the ledger with --by."
        ),
    ] = False,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Evolve a program, and keep only what is proven better by runs that the search has never seen.

    The first program is run a few times in isolation, a project is written (NAME-evolved/: read it, it is yours), then candidates are
    proposed, run and tested until the time is over. The same command goes on where it stopped. Neither PROGRAM nor EVALUATOR is changed:
    the best program is in champion/program/ of the project.
    """
    from upwright.errors import ProjectError
    from upwright.evolving import Wish

    if waive_isolation and not by.strip():
        raise ProjectError("a waiver of isolation is signed by a person", todo="add --by NAME")
    wish = Wish(
        program, evaluator, output, lang, metric, minimise, exact, together, by.strip() if waive_isolation else "",
        tuple(allow or ()), tuple(protect or ()), tuple(endpoint or ()), minutes, candidates, seconds,
    )  # fmt: skip
    _evolve(wish, as_json)


def _evolve(wish: Wish, as_json: bool) -> None:
    from upwright.errors import Stopped
    from upwright.evolving import begin, signed, waived
    from upwright.founding import translated

    out = console()

    def say(text: str) -> None:
        if as_json:
            _line({"told": text})
        else:
            out.print(text)

    try:
        with translated():
            if wish.waiver:
                waived(wish.waiver)
            project = begin(wish, say)
            if not wish.waiver and (name := signed(project)):
                waived(name)
                say(f"isolation is waived for this project, signed by {name}")
            _found(project, wish.waiver)
            line = _improve(project, wish, as_json)
    except KeyboardInterrupt:
        raise Stopped("stopped on request", todo="nothing is lost: the same command goes on") from None
    _tell(project, line, as_json)


def _found(project: Project, waiver: str) -> None:
    """Found the project; a waiver that is not on its ledger yet goes there under the person's name."""
    from upwright.founding import found
    from upwright.warden import ledger

    found(project)
    if not waiver:
        return
    entries = ledger.read(project.warden / ledger.FILE)
    notes = [e.data["data"] for e in entries if e.kind == "note" and e.data["kind"] == "waiver"]
    if not any(note.get("by") == waiver for note in notes):
        with door_of(project) as door:
            door.note("waiver", {"what": "isolation of programs and evaluators", "by": waiver})


def _improve(project: Project, wish: Wish, as_json: bool) -> Lineage:
    from upwright.cli.evolving import Telling
    from upwright.evolving import rounds
    from upwright.limits import Limits
    from upwright.loop import run

    limits = Limits(minutes=wish.minutes, rounds=rounds(project, wish.candidates))
    if as_json:
        from upwright.records import to_json

        return run(project, limits=limits, on_event=lambda event: _line(to_json(event)))
    display = Telling(project, console(wrap=True))
    with display if display.console.is_terminal else nullcontext():
        heard: Callable[[Any], None] = display
        return run(project, limits=limits, on_event=heard)


def _line(data: Any) -> None:
    sys.stdout.write(json.dumps({**data, "schema": 1, "command": "event"}) + "\n")
    sys.stdout.flush()


def _tell(project: Project, line: Lineage, as_json: bool) -> None:
    from upwright.evolving.outcome import outcome_of, told

    outcome = outcome_of(project, line)
    if as_json:
        emit("evolve", {**_plain(outcome), "proven": outcome.proven, "project": str(project.root)})
        return
    out = console()
    for text in told(outcome):
        out.print(text)
    out.print(f"`upwright -p {os.path.relpath(project.root)} report` tells the whole; the same command goes on")


def _plain(outcome: object) -> dict[str, Any]:
    from upwright.records import to_json

    data = to_json(outcome)
    assert isinstance(data, dict)
    return data
