"""The command that compares levers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwright.cli.common import Json, console, duration, emit, points, project_of

if TYPE_CHECKING:
    from upwright.arms import Comparison
    from upwright.events import Event


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(short_help="Levers side by side at equal compute.")(compare)


def compare(
    context: typer.Context,
    levers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LEVER]...", help="Levers or controls; A+B works with both. Default: what was compared."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Paired seeds.")] = 3,
    minutes: Annotated[float, typer.Option(min=0.01, metavar="M", help="Wall time of each arm and seed.")] = 6.0,
    picture: Annotated[Path | None, typer.Option(metavar="SVG", help="Where the picture goes.")] = None,
    as_json: Json = False,
) -> None:
    """Run levers side by side on this project's champion, each alone, and show the proven gain of each.

    The project itself is not changed, but its allocator reads the result. Controls: frozen (learns nothing), gold
    (gold answers only), and those that train for another reward. Ctrl-C and again goes on.
    """
    from upwright.arms import read_comparisons
    from upwright.cli.display import Display
    from upwright.compare import compare as run
    from upwright.errors import ProjectError
    from upwright.web.scatter import Dot, scatter

    project = project_of(context)
    if levers:
        out = console(wrap=True)
        arms, total = list(dict.fromkeys(levers)), len(set(levers)) * seeds
        shown = [_Heading(total, minutes)]
        if as_json:
            found = run(project, arms, seeds=seeds, minutes=minutes)
        else:
            with Display(project, out) as display:

                def follow(arm: str, seed: int, event: Event) -> None:
                    display(shown[0].over(arm, seed, event))

                found = run(project, arms, seeds=seeds, minutes=minutes, on_event=follow)
    else:
        past = read_comparisons(project)
        if not past:
            raise ProjectError("nothing was compared yet", todo="name levers: upwright compare memory training frozen")
        found = past[-1]
    where = picture or project.state / "compare" / "compare.svg"
    dots = [
        Dot(a.arm, a.cpu_seconds, a.gain, (a.interval.low, a.interval.high) if a.interval else None) for a in found.arms
    ]
    where.write_text(scatter(dots, "CPU seconds", "proven gain, points"))
    if as_json:
        from upwright.arms import as_rows

        emit(
            "compare",
            {"champion": found.champion, "minutes": found.minutes, "rows": as_rows(found), "arms": found.arms},
        )
        return
    _table(found)
    console().print(f"picture: {where}")


class _Heading:
    """Which arm is at work, put into an event's note."""

    def __init__(self, total: int, minutes: float) -> None:
        self.total, self.minutes, self.seen = total, minutes, dict[tuple[str, int], None]()

    def over(self, arm: str, seed: int, event: Event) -> Any:
        from dataclasses import replace

        self.seen.setdefault((arm, seed))
        note = f"arm {len(self.seen)} of at most {self.total} ({arm}, seed {seed}): {event.note}"
        return replace(event, note=note)


def _table(found: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    from upwright.arms import as_rows

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    heads = ("arm", "proven gain", "lowest to highest", "won", "CPU time", "points per CPU hour", "last candidate")
    for name in heads:
        table.add_column(name, overflow="fold", no_wrap=name == "arm")
    for row in as_rows(found):
        cells = (
            row["arm"], points(row["gain"]), f"{points(row['worst'])} to {points(row['best'])}",
            f"{row['won']} of {row['seeds']}", duration(row["cpu_seconds"]), points(row["gain_per_cpu_hour"]), row["why"],
        )  # fmt: skip
        table.add_row(*(Text(str(cell)) for cell in cells))
    out = console()
    out.print(f"from generation {found.champion[:10]}, {found.minutes:g} minutes an arm and seed")
    out.print(table, soft_wrap=False)
