"""The app: global options, the commands of every group, and how errors reach a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from upwright.cli import agents, begin, compare, evolve, experiment, look, people, reports, runs
from upwright.cli.common import Global
from upwright.errors import Stopped, UpwrightError

EPILOG = """\
Exit codes: 0 done; 1 error; 2 the project, its charter, tasks or body, or the command line; 3 the model; 4 the model \
ran and failed; 5 a candidate could not be built; 6 disk or store; 7 the warden refused, or the ledger is broken; \
10 a change that was told is not promoted; 11 it is proven, and waits for a person; \
130 stopped (run again to go on).
"""

app = typer.Typer(
    name="upwright",
    help="AI that rebuilds itself, and proves that it got better.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"upwright {version('upwright')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option(
            "--project", "-p", metavar="DIR", help="The project; by default the current directory or a parent."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """AI that rebuilds itself, and proves that it got better."""
    context.obj = Global(project)


for group in (begin, evolve, runs, agents, compare, experiment, look, reports, people):
    group.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    A deliberate error is one message on stderr and its exit code; a traceback is a bug.
    """
    try:
        app(args=None if arguments is None else list(arguments))
    except Exception as error:
        known = as_known(error)
        if known is None:
            raise
        kind = "stopped" if isinstance(known, Stopped) else "error"
        typer.echo(f"{kind}: {known}", err=True)
        sys.exit(known.exit_code)
    except KeyboardInterrupt:
        typer.echo("stopped: nothing is lost; run again to go on", err=True)
        sys.exit(Stopped.exit_code)


def as_known(error: Exception) -> UpwrightError | None:
    """The deliberate error that this is (the warden's own are translated), or ``None`` for a bug."""
    if isinstance(error, UpwrightError):
        return error
    from upwright.warden.errors import WardenFault

    if not isinstance(error, WardenFault):
        return None
    from upwright.errors import CharterError, LedgerError, TaskError, WardenError
    from upwright.warden.errors import CharterFault, LedgerFault, VaultError

    kinds: dict[type[WardenFault], type[UpwrightError]] = {
        CharterFault: CharterError,
        LedgerFault: LedgerError,
        VaultError: TaskError,
    }
    return kinds.get(type(error), WardenError)(error.what, value=error.value, todo=error.todo)
