"""Commands to begin with: init, doctor, models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upwright.cli.common import Global, Json, amount, console, emit

if TYPE_CHECKING:
    from collections.abc import Callable

models = typer.Typer(help="List the models that can be fetched by name, or fetch one.", no_args_is_help=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Make a project directory.")(init)
    app.command(short_help="Check this machine and the project.")(doctor)
    app.add_typer(models, name="models")


def init(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to make the project; must not exist, or be empty.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A name (`upwright models`), a Hugging Face directory, a .gguf file, or URL#model.",
        ),
    ] = "smollm2-135m-instruct",
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            "-t",
            metavar="FILE",
            help="What to get better at: a .jsonl or .py file, or KIND:SPEC; NAME=FILE names it.",
        ),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option("--protect", metavar="FILE", help="Tasks that must not get worse, given in the same way."),
    ] = None,
    quickstart: Annotated[
        bool, typer.Option("--quickstart", help="Use the tasks and the charter that come with Upwright.")
    ] = False,
    agent: Annotated[
        bool,
        typer.Option(
            "--agent", help="Write AGENTS.md for coding agents too; into a project that is there, that alone."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a project: a directory with a charter, tasks and a body, all of which you may edit before the first run."""
    from upwright.founding import init as make

    if agent and (directory / "upwright.toml").is_file():
        _guide(directory, as_json)
        return
    if not as_json:
        console().print("making the project; a model that is not at hand is fetched now")
    project = make(directory, model, tasks or (), protect=protect or (), quickstart=quickstart)
    if agent:
        from upwright.agents.guide import write_guide

        write_guide(project)
    made = sorted(p.relative_to(project.root).as_posix() + "/" * p.is_dir() for p in project.root.iterdir())
    if as_json:
        emit("init", {"project": str(project.root), "files": made, "suites": sorted(project.settings.suites)})
        return
    told = {
        "charter.toml": "what may change, what must never get worse, how sure to be",
        "upwright.toml": "how to run",
        "tasks/": "what is measured",
        "body/": "what is improved: the model and its prompt",
        "AGENTS.md": "what a coding agent reads: `upwright mcp --config` connects one",
    }
    out = console()
    out.print(f"made {project.root}")
    for name in made:
        out.print(f"  {name:<16} {told.get(name, '')}")
    out.print(f"edit them as you like, then: cd {directory} && upwright run")


def _guide(directory: Path, as_json: bool) -> None:
    """Write AGENTS.md into a project that is there."""
    from upwright.agents.guide import write_guide
    from upwright.project import Project

    path = write_guide(Project.open(directory))
    if as_json:
        emit("init", {"project": str(path.parent), "files": [path.name]})
    else:
        console().print(f"wrote {path}; `upwright mcp --config` prints how a client is connected")


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check this machine and the project, and say what to do about what is wrong."""
    from upwright.cli.checks import run_checks

    chosen = context.obj.project if isinstance(context.obj, Global) else None
    found = run_checks(chosen)
    if as_json:
        emit("doctor", {"checks": found, "ok": not any(c.state == "fail" for c in found)})
    else:
        out = console()
        styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
        from rich.text import Text

        for check in found:
            line = Text.assemble((f"{check.state:<5}", styles[check.state]), f"{check.name:<10} {check.told}")
            if check.todo:
                line.append(f"\n                 → {check.todo}")
            out.print(line)
    if any(c.state == "fail" for c in found):
        raise typer.Exit(1)


@models.callback(invoke_without_command=True)
def models_default(context: typer.Context, as_json: Json = False) -> None:
    """List the models that can be fetched by name, or fetch one."""
    if context.invoked_subcommand is None:
        list_models(as_json)


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """List the catalogue, with licences and sizes."""
    from upwright.bodies.models import catalogue

    found = catalogue()
    if as_json:
        emit("models", {"models": found})
        return
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("name", "kind", "size", "licence", "at hand", "from"):
        table.add_column(name, overflow="fold", no_wrap=name == "name")
    for e in found:
        table.add_row(e.name, e.kind, f"{amount(e.size)}B", e.licence, "yes" if e.cached else "no", e.source)
    console().print(table, soft_wrap=False)


@models.command("fetch")
def fetch_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from the catalogue.")], as_json: Json = False
) -> None:
    """Fetch a model into the cache and check it."""
    from upwright.bodies.models import fetch

    model = fetch(name, None if as_json else _bytes_progress())
    if as_json:
        emit(
            "models fetch",
            {**{k: str(getattr(model, k)) for k in ("kind", "name", "licence", "sha256")}, "path": str(model.path)},
        )
    else:
        console().print(f"{model.name} is at {model.path}; licence {model.licence}; SHA-256 {model.sha256[:16]}…")


def _bytes_progress() -> Callable[[int, int], None]:
    err = console(stderr=True)

    def show(done: int, total: int) -> None:
        if err.is_terminal:
            err.print(f"\r{amount(done)}B of {amount(total)}B", end="")
            if done >= total:
                err.print()

    return show
