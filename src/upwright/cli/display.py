"""What a person sees while a run is going: a live view on a terminal, else a line for each event."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

from upwright.cli.common import amount, duration, measured, percent, points
from upwright.metrics import number
from upwright.project import VERBS

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from upwright.lines import CandidateLine, Lineage
    from upwright.loop import Event
    from upwright.project import Project

SHOWN = 6
"""Finished candidates in view."""
QUIET = 3.0
"""Seconds without news after which the view says what it is waiting for."""
PLAIN_EVERY = 15.0
"""Seconds between progress lines when stdout is not a terminal."""


class Display:
    """Call it with each event. Use it as a context manager, so that the terminal is given back.

    Args:
        project: whose lineage and live evidence are shown beside the events.
    """

    def __init__(self, project: Project, console: Console) -> None:
        self.project, self.console = project, console
        self.event: Event | None = None
        self.last = ""
        self._heard = self._began = time.monotonic()
        self._lineage: Lineage | None = None
        self._live: Any = None
        self._plain: tuple[object, ...] = ()
        self._plain_at = 0.0
        self._proving: tuple[int, float] = (-1, 0.0)

    def __enter__(self) -> Display:
        self._refresh()
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(self, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take in what the loop is doing now."""
        self._heard = time.monotonic()
        closed = event.verb == "promote" and event.done >= event.total
        if event.note.startswith("ended: "):
            self.last = event.note
        self.event = event
        if event.verb == "prove" and self._proving[0] != event.round:
            self._proving = (event.round, time.time() - 1.0)
        if closed:
            self._refresh()
        if self._live is None:
            self._say(event, closed)

    def _refresh(self) -> None:
        from upwright.errors import UpwrightError
        from upwright.lineage import read_lineage

        try:
            self._lineage = read_lineage(self.project)
        except UpwrightError:  # the run itself will say what is wrong
            self._lineage = None

    # ---- a line for each event ----------------------------------------------------------------

    def _say(self, event: Event, closed: bool) -> None:
        now = time.monotonic()
        key = (event.round, event.verb, event.note if event.done >= event.total else "")
        if key == self._plain and now - self._plain_at < PLAIN_EVERY:
            return
        self._plain, self._plain_at = key, now
        count = f" {event.done}/{event.total}" if event.total > 1 else ""
        lever = f" [{event.lever}]" if event.lever and event.verb in ("propose", "build", "prove", "promote") else ""
        self.console.print(
            f"gen {event.generation} round {event.round} {event.verb}{lever}{count} {event.note}".rstrip(),
            soft_wrap=True,
        )
        done = self._finished()
        if closed and done and done[-1].round == event.round:
            c = done[-1]
            self.console.print(f"  = {outcome(c)}: {c.why}", soft_wrap=True)

    def _finished(self) -> list[CandidateLine]:
        return [c for c in self._lineage.candidates if c.why] if self._lineage else []

    # ---- the live view ------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.console import Group
        from rich.panel import Panel

        yield Panel(Group(*self._rows()), title="upwright", title_align="left", border_style="dim", padding=(0, 1))

    def _rows(self) -> list[RenderableType]:
        from rich.text import Text

        event = self.event
        rows: list[RenderableType] = [self._headline()]
        if event is None:
            rows.append(Text(f"starting: {duration(time.monotonic() - self._began)}", style="dim"))
            return rows
        verbs = Text("  ")
        for verb in VERBS:
            verbs.append(f" {verb} ", style="bold reverse" if verb == event.verb else "dim")
            verbs.append(" " if verb != VERBS[-1] else "")
        rows += [verbs, self._work(event)]
        if event.note:
            rows.append(Text(f"   {event.note}", overflow="ellipsis", no_wrap=True))
        evidence = self._evidence() if event.verb in ("prove", "promote") else []
        rows += [*evidence, self._spend(event), *self._table()]
        return rows

    def _headline(self) -> RenderableType:
        from rich.text import Text

        event, line = self.event, self._lineage
        text = Text(f"{self.project.root.name}", style="bold")
        if event:
            text.append(f"   generation {event.generation}, round {event.round}", style="not bold")
        champion = line.of(line.champion) if line else None
        if champion and champion.number and champion.metrics:
            m = champion.metrics[0]
            text.append(f"   champion: {m.name} {number(m.child)}, in sealed runs", style="not bold")
        elif champion and champion.score:
            text.append(f"   champion: {measured(champion.score)} confirmed", style="not bold")
        elif champion and champion.practice is not None:
            text.append(f"   champion: {percent(champion.practice)} on practice", style="not bold")
        return text

    def _work(self, event: Event) -> RenderableType:
        from rich.text import Text

        text = Text("   ")
        if event.lever and event.verb in ("propose", "build", "prove", "promote"):
            text.append(f"{event.lever}  ", style="cyan")
        if event.total > 1:
            text.append(bar(event.done / event.total), style="green")
            text.append(f" {event.done}/{event.total}")
        quiet = time.monotonic() - self._heard
        if quiet > QUIET:
            what = "the model" if event.verb in ("evaluate", "build", "prove") else "the warden"
            text.append(f"   waiting for {what}: {duration(quiet)}", style="yellow")
        return text

    def _evidence(self) -> list[RenderableType]:
        """The warden's live view for people: each suite's e-value on its way to the threshold."""
        from rich.text import Text

        try:
            path = self.project.warden / "people" / "progress.json"
            if path.stat().st_mtime < self._proving[1]:  # of an earlier test
                return []
            view = json.loads(path.read_bytes())
            needed = float(view["log_threshold"])
            suites = dict(view["suites"])
        except (OSError, ValueError, KeyError, TypeError):
            return []
        if view.get("test", 0) < 0 or not suites:
            return []
        rows: list[RenderableType] = [
            Text(f"   test {view['test']}: e-value of {math.exp(min(needed, 700)):.0f} needed", style="dim")
        ]
        for name, s in suites.items():
            share = min(1.0, max(0.0, s["log_e"] / needed)) if needed > 0 else 0.0
            text = Text(f"   {name:<18.18} ")
            text.append(bar(share), style="green" if s["crossed"] else "magenta")
            text.append(f" e = {amount_e(s['log_e'])} after {s['n']} tasks, mean {points(s['mean'])} points")
            rows.append(text)
        return rows

    def _spend(self, event: Event) -> RenderableType:
        from rich.text import Text

        left = "" if event.left is None else f", {duration(event.left)} left"
        tokens = amount(event.tokens)
        return Text(
            f"   spent {duration(event.seconds)} and {tokens} tokens{left}   Ctrl-C stops; run again to go on",
            style="dim",
        )

    def _table(self) -> list[RenderableType]:
        from rich.text import Text

        rows: list[RenderableType] = []
        styles = {"PROMOTE": "bold green", "REJECT": "red", "INSUFFICIENT": "yellow"}
        for c in self._finished()[-SHOWN:]:
            text = Text(f"   {c.round:>3} {c.lever:<12.12} {points(c.gain):>6} ", overflow="ellipsis", no_wrap=True)
            text.append(f"{outcome(c):<12} ", style=styles.get(c.decision or "", "dim"))
            text.append(c.why, style="dim")
            rows.append(text)
        return [Text("   finished candidates (practice gain, verdict)", style="dim"), *rows] if rows else []


def outcome(candidate: CandidateLine) -> str:
    """The warden's word, or that it never knocked."""
    return candidate.decision or "not tested"


def amount_e(log_e: float) -> str:
    """An e-value from its logarithm."""
    return f"{math.exp(log_e):.2f}" if log_e < math.log(100) else amount(math.exp(min(log_e, 700)))


def bar(share: float, width: int = 24) -> str:
    """A bar of ``width`` cells, filled to ``share`` in [0, 1]."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)
