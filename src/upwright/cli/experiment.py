"""The command that runs an experiment on request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwright.cli.common import By, Json, console, duration, emit, percent, person, points, project_of, span

if TYPE_CHECKING:
    from upwright.experiments.answer import Finding
    from upwright.experiments.kept import Result
    from upwright.project import Project


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(short_help="Does X help on Y? Arms side by side on practice.")(experiment)


def experiment(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]", help="A TOML file, or a question in plain language. Without: what was found so far."
        ),
    ] = "",
    new: Annotated[bool, typer.Option("--new", help="Write a commented example, to the file WHAT or here.")] = False,
    endpoint: Annotated[
        str,
        typer.Option("--endpoint", metavar="URL#MODEL", help="The language model for a question in plain language."),
    ] = "",
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="VARIABLE", help="The environment variable with that endpoint's key.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Run what the language model wrote without asking.")] = False,
    picture: Annotated[Path | None, typer.Option(metavar="SVG", help="Where the picture goes too.")] = None,
    by: By = "",
    as_json: Json = False,
) -> None:
    """Compare arms (changes of the champion's texts or of its decoding) on practice tasks, with the same tasks and seeds for all.

    The answer comes in words with an interval, as a table and as a picture; it is kept under .upwright/experiments/ and noted on the
    ledger. Nothing is changed or promoted, and no sealed task is used. A question in plain language needs a language
    model (--endpoint, or judge in upwright.toml), which writes the TOML; you see it first.
    """
    from upwright.errors import Stopped

    if new:
        _write_example(context, what, as_json)
        return
    project = project_of(context)
    if not what:
        _show_all(project, as_json)
        return
    try:
        asked = _text_of(project, what, (endpoint, key_env), yes, as_json)
        if asked is None:
            return
        found = _run(project, *asked, person(by), as_json)
    except KeyboardInterrupt:
        raise Stopped("stopped on request", todo="nothing is lost: the same command goes on") from None
    drawn = _draw(project, found, picture)
    if as_json:
        emit("experiment", {"result": found, "picture": str(drawn)})
    else:
        _show(found, drawn)


def _write_example(context: typer.Context, what: str, as_json: bool) -> None:
    """The example, with this project's suite and skills where there is a project."""
    from upwright.errors import ProjectError
    from upwright.experiments.plan import example

    try:
        text = example(*_known(project_of(context)))
    except ProjectError:
        text = example()
    if what:
        if Path(what).exists():
            raise ProjectError("there is such a file already", value=what, todo="name another")
        Path(what).write_text(text)
        told = f"wrote {what}; edit it, then: upwright experiment {what}"
    if as_json:
        emit("experiment", {"example": text, "file": what or None})
    elif what:
        console().print(told)
    else:
        sys.stdout.write(text)


def _known(project: Project) -> tuple[str, tuple[str, ...]]:
    """The objective, and skills in it."""
    from upwright.practice import open_project

    opened = open_project(str(project.root))
    suite = opened.charter.objective
    return suite, tuple(sorted({task.skill for task in opened.suites[suite].draw(24, 0)}))


def _text_of(project: Project, what: str, model: tuple[str, str], yes: bool, as_json: bool) -> tuple[str, str] | None:
    """The TOML and what errors call it; ``None`` when a person did not want it."""
    from upwright.errors import ProjectError

    file = Path(what)
    if file.suffix == ".toml" or file.is_file():
        try:
            return file.read_text("utf-8"), file.name
        except (OSError, UnicodeDecodeError) as error:
            raise ProjectError(f"the experiment cannot be read: {error}", value=what, todo="name a TOML file") from None
    from upwright.experiments.plain import planned

    text, _ = planned(project, what, *model)
    if as_json:
        if not yes:
            emit("experiment", {"plan": text, "ran": False})
            return None
    else:
        console().print(f"{text.rstrip()}\n")
        if not yes and not typer.confirm("Run this experiment?"):
            console().print("not run; to change it, save it as a .toml file and give that")
            return None
    return text, "the model's experiment"


def _run(project: Project, text: str, where: str, by: str, as_json: bool) -> Result:
    from contextlib import nullcontext

    from upwright.experiments.run import experiment as run

    if as_json:
        return run(project, text, where=where, by=by)
    err = console(stderr=True)
    with err.status("starting") if err.is_terminal else nullcontext() as line:

        def report(done: int, total: int, note: str) -> None:
            if line is not None:
                line.update(f"{done}/{total} answers: {note}")

        return run(project, text, where=where, by=by, report=report)


def _draw(project: Project, found: Result, picture: Path | None) -> Path:
    """The picture: each arm's difference against what an answer cost."""
    from upwright.experiments.kept import FOLDER
    from upwright.project import write_atomic
    from upwright.web.scatter import Dot, scatter

    tokens = any(f.tokens for f in found.findings)
    dots = []
    for f in found.findings[1:]:
        cost = f.tokens if tokens else 1000 * f.seconds
        ends = (f.interval.low, f.interval.high) if f.interval else None
        if f.difference is not None:
            dots.append(Dot(f.name, cost, f.difference, ends))
    drawn = scatter(dots, "tokens an answer" if tokens else "milliseconds an answer", "difference, points")
    place = project.state / FOLDER / found.folder / "picture.svg"
    for target in (place, picture):
        if target is not None:
            write_atomic(target, drawn.encode())
    return place


def _show(found: Result, drawn: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print(found.question)
    out.print(found.answer)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    heads = ("arm", "score", "difference", "interval", "won", "lost", "tied", "tokens", "time", "failed", "says")
    for name in heads:
        table.add_column(name, overflow="fold", no_wrap=name == "arm")
    for f in found.findings:
        table.add_row(*(Text(cell) for cell in _cells(f)))
    out.print(table, soft_wrap=False)
    kind = "for a number of tasks fixed beforehand" if found.fixed else "confidence sequences"
    out.print(f"intervals {kind}; {duration(found.seconds)} on practice tasks; kept in {drawn.parent}")
    helped = [f.name for f in found.findings[1:] if f.says == "helps"]
    if helped:
        from upwright.experiments.kept import slug

        out.print(f"to propose it: upwright tell {drawn.parent / 'arms' / slug(helped[0])}")


def _cells(f: Finding) -> tuple[str, ...]:
    if f.difference is None or f.interval is None:
        between = ("–",) * 5
    else:
        between = (points(f.difference), span(f.interval, signed=True), str(f.won), str(f.lost), str(f.tied))
    cost = (f"{f.tokens:.0f}", f"{f.seconds:.2f} s", str(f.failures))
    return (f.name, percent(f.score), *between, *cost, f.says.value if f.says else f.told)


def _show_all(project: Project, as_json: bool) -> None:
    """What was found so far."""
    from upwright.experiments.kept import results

    found = results(project)
    if as_json:
        emit("experiment", {"results": found})
        return
    out = console()
    if not found:
        out.print("no experiment yet: `upwright experiment --new my.toml` writes one to begin with")
    for one in found:
        out.print(f"{one.question}\n  {one.answer}\n  {one.folder}")
