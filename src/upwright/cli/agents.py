"""Commands for an agent of one's own: ask, tell, mcp."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwright.cli.common import Json, console, emit, project_of

if TYPE_CHECKING:
    from upwright.agents.change import Offer
    from upwright.agents.fates import Fate
    from upwright.agents.outlook import Outlook
    from upwright.project import Project

NOT_PROMOTED, WAITS = 10, 11
"""Exit codes of ``tell`` beside 0 (promoted) and those of errors."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="What an agent may see: champion, failures, scope.")(ask)
    app.command(short_help="Propose a change, and learn the verdict.")(tell)
    app.command(short_help="Serve an agent by the Model Context Protocol.")(mcp)


def ask(
    context: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="With the text of every part.")] = False,
    look: Annotated[bool, typer.Option("--look", help="Only what is known already: run no model.")] = False,
    as_json: Json = False,
) -> None:
    """Show what an agent may see: the champion's text parts, where it fails, what may change, what was tried before.

    It is all practice. A champion that was not evaluated yet is evaluated for this, and a project that never ran is founded.
    """
    from upwright.agents.outlook import ask as see
    from upwright.cli.display import Display

    project = project_of(context)
    display = Display(project, console(stderr=True, wrap=True))
    quiet = as_json or look or not display.console.is_terminal
    with nullcontext() if quiet else display:
        seen = _stoppable(lambda: see(project, look_only=look, on_event=None if quiet else display))
    if as_json:
        emit("ask", _plain(seen, full))
        return
    from upwright.agents import words

    console().print(words.whole(seen, full))


def _plain(seen: Outlook, full: bool) -> dict[str, Any]:
    from upwright.records import to_json

    data: dict[str, Any] = to_json(seen)
    for part in data["parts"] if not full else ():
        del part["text"]
    data["history"] = [_fate(f) for f in seen.history]
    return data


def _fate(found: Fate) -> dict[str, Any]:
    from upwright.records import to_json

    return {**to_json(found), "words": found.words}


def tell(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]",
            help="Edits (SEARCH/REPLACE blocks or a unified diff), a part under its own name, a directory laid out as a body, or -.",
        ),
    ] = "",
    part: Annotated[
        list[str] | None,
        typer.Option("--part", metavar="PATH=FILE", help="A part's whole new text; PATH= deletes it. Instead of FILE."),
    ] = None,
    edits: Annotated[
        bool, typer.Option("--edits", help="FILE holds SEARCH/REPLACE blocks; else its marks tell.")
    ] = False,
    diff: Annotated[bool, typer.Option("--diff", help="FILE holds a unified diff; else its marks tell.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it should help; goes on the ledger.")
    ] = "",
    author: Annotated[
        str, typer.Option("--author", metavar="NAME", help="Who proposes; goes on the ledger.", envvar="UPWRIGHT_AGENT")
    ] = "agent",
    parent: Annotated[
        str, typer.Option("--parent", metavar="DIGEST", help="The champion that was read; refused if it is another.")
    ] = "",
    weakness: Annotated[str, typer.Option("--weakness", metavar="SKILL", help="The skill that it is for.")] = "",
    anew: Annotated[
        bool,
        typer.Option("--anew", help="Give up an unbuilt round of an interrupted run, instead of finishing it first."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Propose a change to the champion's text parts: it is built, screened, tested by the gate, and promoted if it is proven better.

    What is out of scope or does not apply is refused with every reason, before anything is run. Interrupted, the same
    command goes on. Exit codes: 0 promoted; 10 not promoted; 11 proven, and waits for a person.
    """
    from dataclasses import replace

    from upwright.agents.fates import Standing
    from upwright.agents.hearing import tell as hear
    from upwright.cli.display import Display

    project = project_of(context)
    offer = replace(
        _offer(file, part or (), edits or diff), reason=reason, author=author, parent=parent, weakness=weakness or None
    )
    display = Display(project, console(stderr=as_json, wrap=True))
    with nullcontext() if as_json else display:
        found = _stoppable(lambda: hear(project, offer, anew=anew, on_event=None if as_json else display))
    if as_json:
        emit("tell", _fate(found))
    else:
        console().print(found.words)
    codes = {Standing.PROMOTED: 0, Standing.WAITING: WAITS}
    raise typer.Exit(codes.get(found.standing, NOT_PROMOTED))


def _offer(file: str, part: list[str] | tuple[str, ...], marked: bool) -> Offer:
    """What was given on the command line."""
    from upwright.agents import change
    from upwright.errors import ProjectError

    if bool(file) == bool(part):
        raise ProjectError(
            "a change is one FILE or some --part", value=file or None, todo="for example: upwright tell edits.txt"
        )
    if part:
        return change.parts(part)
    path = Path(file)
    if file != "-" and path.is_dir():
        return change.folder(path)
    text = sys.stdin.read() if file == "-" else change.read_text(path)
    return change.Offer(text=text) if marked else change.offered(text, path.name)


def mcp(
    context: typer.Context,
    config: Annotated[
        bool, typer.Option("--config", help="Print the JSON by which a client starts this server.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve an agent on standard input and output, by the Model Context Protocol: read, propose, learn the verdict.

    A client starts this command itself; --config prints what it wants to know. Needs: pip install 'upwright[agents]'.
    """
    project = project_of(context)
    if not config and not as_json:
        serve(project)
        return
    import json

    from upwright.agents.guide import client_config

    if as_json:
        emit("mcp", client_config(project))
    else:
        sys.stdout.write(json.dumps(client_config(project), indent=2) + "\n")


def serve(project: Project) -> None:
    """Run the server.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    from importlib.util import find_spec

    from upwright.errors import MissingExtra

    if find_spec("mcp") is None:
        raise MissingExtra("mcp", "agents")
    from upwright.agents.server import serve as run

    run(project)


def _stoppable(action: Any) -> Any:
    """Call; Ctrl-C is a stop that loses nothing."""
    from upwright.errors import Stopped

    try:
        return action()
    except KeyboardInterrupt:
        raise Stopped("stopped on request", todo="nothing is lost: the same command goes on") from None
