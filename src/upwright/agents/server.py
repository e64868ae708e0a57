"""``upwright mcp``: a Model Context Protocol server on standard input and output, made with the official SDK.

An agent reads the champion, its diagnosis and its failures, proposes a change and learns the verdict. There is no tool that
promotes, approves or rolls back, none that opens a file of the disk by its path (a part is looked up among the champion's own
texts), and none that tells what the warden saw beyond its word.

What this does not stop: an agent that has a shell of its own on this machine, as the same user, can read whatever that user
can. Give such an agent this server alone, or another user.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from upwright.agents import words
from upwright.agents.change import Offer
from upwright.agents.desk import Desk, Work
from upwright.agents.fates import Fate, fate
from upwright.agents.guide import SHORT
from upwright.agents.outlook import Outlook, Part
from upwright.errors import UpwrightError
from upwright.founding import translated
from upwright.project import Project
from upwright.records import to_json

T = TypeVar("T")

NEWS = 0.1
"""Seconds between two looks at whether there is news to report."""
WAIT = 240.0
"""Seconds that a tool waits for a verdict unless it is asked otherwise."""

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
Ctx = Context[Desk, Any]


def serve(project: Project) -> None:
    """Serve until standard input ends."""
    anyio.run(make_server(project).run_stdio_async)


def make_server(project: Project) -> MCPServer[Desk]:
    """The server of a project, its tools and resources in place."""
    desk = Desk(project)

    @asynccontextmanager
    async def life(_: MCPServer[Desk]) -> AsyncIterator[Desk]:
        try:
            yield desk
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(desk.close)

    server = MCPServer[Desk](
        "upwright", title=f"Upwright: {project.root.name}", instructions=SHORT, version=_version(),
        log_level="ERROR", lifespan=life,
    )  # fmt: skip
    _reading(server, desk)
    _proposing(server, desk)
    _resources(server, desk)
    return server


def _version() -> str:
    from importlib.metadata import version

    return version("upwright")


def _reading(server: MCPServer[Desk], desk: Desk) -> None:
    """The tools that read."""

    @server.tool(annotations=READS)
    async def read_parent(
        path: Annotated[str, Field(description="A part, such as prompt.md or program/main.py; empty lists them.")] = "",
    ) -> CallToolResult:
        """The champion, which a change is made to: its digest and the list of its text parts; or the exact text of one part."""
        seen = await _sync(desk.look)
        if path:
            found = _part(seen, path)
            return _told(found.text, {"path": found.path, "may_change": found.may_change, "text": found.text})
        listed = [{"path": p.path, "size": p.size, "may_change": p.may_change} for p in seen.parts]
        return _told(
            words.parent(seen), {"digest": seen.parent, "generation": seen.generation, "parts": listed}
        )  # fmt: skip

    @server.tool(annotations=READS)
    async def read_scope() -> CallToolResult:
        """What may change, what a change is judged by, what must not get worse, and what is left of the budget."""
        seen = await _sync(desk.look)
        return _told(words.terms(seen.terms), to_json(seen.terms))

    @server.tool(annotations=READS)
    async def read_diagnosis(ctx: Ctx) -> CallToolResult:
        """Where the champion fails on practice tasks: each weak skill with an interval, and what kinds of errors it makes.

        The first time for a champion it is evaluated for this, which may take a while; progress is reported.
        """
        seen = await _followed(ctx, _safely(desk.ask), math.inf)
        return _told(words.diagnosis(seen), {"parent": seen.parent, "diagnosis": to_json(seen.diagnosis)})

    @server.tool(annotations=READS)
    async def read_failures(
        ctx: Ctx,
        skill: Annotated[str, Field(description="Only this skill; empty for all.")] = "",
        n: Annotated[int, Field(ge=1, le=48, description="Most tasks that are told.")] = words.SHOWN,
    ) -> CallToolResult:
        """Practice tasks that the champion got wrong, with what was expected; and earlier proposals that came to nothing."""
        seen = await _followed(ctx, _safely(desk.ask), math.inf)
        chosen = [m for m in seen.misses if not skill or m.skill == skill][:n]
        text = f"{words.misses(seen, n, skill)}\n\n{words.history(seen.history)}"
        data = {"asked": seen.asked, "failed": len(seen.misses), "tasks": to_json(chosen)}
        return _told(text, {**data, "proposals": [_plain(f) for f in seen.history]})


def _proposing(server: MCPServer[Desk], desk: Desk) -> None:
    """The tools that propose, and learn what became of it."""

    @server.tool(annotations=ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False))
    async def propose_change(
        ctx: Ctx,
        reason: Annotated[str, Field(description="Why it should help, in a sentence; goes on the ledger.")],
        edits: Annotated[
            str,
            Field(description="SEARCH/REPLACE blocks, each under a line with the part's path, or a unified diff."),
        ] = "",
        files: Annotated[
            dict[str, str | None] | None,
            Field(description="Instead of edits: path to the whole new text of that part; null deletes it."),
        ] = None,
        parent: Annotated[
            str, Field(description="Digest of the champion that you read; refused if it is another.")
        ] = "",
        weakness: Annotated[str, Field(description="The skill that it is for.")] = "",
        wait: Annotated[float, Field(ge=0, le=3600, description="Seconds to wait for the verdict.")] = WAIT,
    ) -> CallToolResult:
        """Propose one change to the champion's texts. It is built, screened on practice tasks, and if it passes, tested by the gate
        on tasks that nobody has seen; what is proven better is promoted (after a person agrees, where the charter says so).

        Answers with the verdict, or that it is under way: then read_verdict waits for it.
        """
        offer = Offer(files or {}, edits, reason, _client(ctx), parent, weakness or None)
        return await _verdict(ctx, _safely(lambda: desk.tell(offer)), wait)

    @server.tool(annotations=READS)
    async def read_verdict(
        ctx: Ctx,
        round: Annotated[int, Field(ge=0, description="Its number; 0 is your last proposal.")] = 0,
        wait: Annotated[float, Field(ge=0, le=3600, description="Seconds to wait while it is under way.")] = WAIT,
    ) -> CallToolResult:
        """What became of a proposal: promoted, not promoted and why, waits for a person, or under way."""
        if not round and desk.round is not None:
            said = await _verdict(ctx, desk.round, wait)
            round = (said.structured_content or {}).get("round", 0)
            if not round:
                return said
        return _fate(_safely(lambda: fate(desk.project, round or None)))  # a person may have decided meanwhile


def _resources(server: MCPServer[Desk], desk: Desk) -> None:
    """The same facts as resources."""

    @server.resource("upwright://champion/{+path}", mime_type="text/plain")
    def champion(path: str) -> str:
        """The exact text of one part of the champion, such as upwright://champion/prompt.md."""
        try:
            return _part(desk.look(), path).text
        except ToolError as error:
            raise ResourceNotFoundError(str(error)) from None

    @server.resource("upwright://scope", mime_type="text/markdown")
    def scope() -> str:
        """What is in scope, and how a change is judged."""
        return words.terms(desk.look().terms)

    @server.resource("upwright://diagnosis", mime_type="text/markdown")
    def diagnosis() -> str:
        """Where the champion fails on practice tasks, as far as it is known."""
        seen = desk.look()
        return words.diagnosis(seen)

    @server.resource("upwright://proposals", mime_type="text/markdown")
    def proposals() -> str:
        """What was proposed before, and what became of it."""
        return words.history(desk.look().history)


# ---- inside -----------------------------------------------------------------------------------------


def _part(seen: Outlook, path: str) -> Part:
    """A part by its exact name; nothing is looked up on the disk."""
    for part in seen.parts:
        if part.path == path:
            return part
    raise ToolError(f"the champion has no text part {path!r}; it has: {', '.join(p.path for p in seen.parts)}")


def _client(ctx: Ctx) -> str:
    """How the agent's program calls itself."""
    info = ctx.request_context.session.client_params
    return (info.client_info.name if info else "").strip() or "agent"


def _safely(action: Callable[[], T]) -> T:
    """Call; deliberate errors reach the agent in words.

    Raises:
        ToolError: what happened and what to do.
    """
    try:
        with translated():
            return action()
    except UpwrightError as error:
        raise ToolError(str(error)) from None


async def _sync(action: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(lambda: _safely(action))


async def _followed(ctx: Ctx, work: Work, wait: float) -> Any:
    """The result of a piece of work, its progress reported meanwhile; ``None`` when it takes longer than ``wait`` seconds."""
    reported = -1
    with anyio.move_on_after(wait):
        while True:
            done = work.result.done()
            if work.news != reported:
                reported = work.news
                await ctx.report_progress(float(reported), None, work.said)
            if done:
                return _safely(work.result.result)
            await anyio.sleep(NEWS)
    return None


async def _verdict(ctx: Ctx, work: Work, wait: float) -> CallToolResult:
    found = await _followed(ctx, work, wait)
    if found is None:
        said = f"under way ({work.said}): read_verdict waits for it"
        return _told(said, {"standing": "under way", "words": said})
    return _fate(found)


def _fate(found: Fate) -> CallToolResult:
    return _told(found.words, _plain(found))


def _plain(found: Fate) -> dict[str, Any]:
    return {**to_json(found), "words": found.words}


def _told(text: str, data: Any) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data)
