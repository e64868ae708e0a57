"""Commands that account for a run: report, verify, calibrate, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwright.cli.common import Json, console, emit, project_of
from upwright.cli.look import Gen


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Report the whole run, here or as a page.")(report)
    app.command(short_help="Check the ledger and every generation.")(verify)
    app.command(short_help="Measure how often the gate errs.")(calibrate)
    app.command(short_help="Write a generation for other programs.")(export)


def report(
    context: typer.Context,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Report the whole run: the curve, what changed and why, the evidence, what got worse, what it cost."""
    from upwright.web.facts import gather

    project = project_of(context)
    facts = gather(project)
    if html is not None:
        from upwright.project import write_atomic
        from upwright.web.page import render

        write_atomic(html.absolute(), render(facts).encode("utf-8", "replace"))
        if not as_json:
            console().print(f"wrote {html}")
    if as_json:
        emit("report", facts)
    elif html is None:
        from upwright.web.terminal import show

        show(console(), facts)


def verify(context: typer.Context, as_json: Json = False) -> None:
    """Recompute the whole ledger and every stored generation; name the first thing that is broken."""
    from upwright.bodies.store import Store
    from upwright.errors import LedgerError, ProjectError
    from upwright.lineage import read_lineage
    from upwright.warden.audit import verify_home

    project = project_of(context)
    if not project.warden.is_dir():
        raise ProjectError("this project has no ledger yet", value=str(project.root), todo="start with `upwright run`")
    found = verify_home(project.warden)
    if as_json and not found.ok:
        emit("verify", found)
    if not found.ok:
        where = "" if found.index is None else f" at entry {found.index}" + (f" ({found.kind})" if found.kind else "")
        raise LedgerError(
            f"the ledger is broken{where}: {found.problem}", todo="restore ledger.jsonl and head.json from a backup"
        )
    store = Store(project.state / "store")
    generations = read_lineage(project).generations
    for line in generations:
        store.verify(line.digest)
    if as_json:
        emit("verify", {**_plain(found), "generations": len(generations)})
        return
    out = console()
    out.print(
        f"the ledger verifies: {found.entries} entries, every hash, signature, threshold and verdict; root {found.root[:16]}…"
    )
    out.print(f"every file of {len(generations)} generation{'s' * (len(generations) != 1)} matches its digest")


def calibrate(context: typer.Context, as_json: Json = False) -> None:
    """Measure the gate with candidates that cannot be better: how often would it promote them?"""
    from upwright.calibrate import calibrate as measure

    project = project_of(context)
    if as_json:
        emit("calibrate", {"record": measure(project, on_event=None)})
        return
    from upwright.cli.display import Display
    from upwright.web.facts import calibration_lines

    with Display(project, console(wrap=True)) as display:
        record = measure(project, on_event=display)
    out = console()
    for text in calibration_lines(_plain(record)):
        out.print(text)


def export(
    context: typer.Context,
    gen: Gen,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    as_json: Json = False,
) -> None:
    """Write a generation as a directory that other programs can load, with a model card."""
    from upwright.export import export as write

    project = project_of(context)
    made = write(project, gen, directory)
    files = sorted(p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file())
    if as_json:
        emit("export", {"directory": str(made), "files": files})
        return
    out = console()
    out.print(f"wrote {made}")
    for name in files:
        out.print(f"  {name}")


def _plain(record: object) -> dict[str, Any]:
    from upwright.records import to_json

    data = to_json(record)
    return data if isinstance(data, dict) else {"record": data}
