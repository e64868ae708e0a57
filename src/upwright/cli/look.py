"""Commands that look: status, log, show, diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwright.cli.common import (
    Json,
    amount,
    console,
    duration,
    emit,
    gained,
    measured,
    percent,
    points,
    project_of,
    size,
)

if TYPE_CHECKING:
    from upwright.lines import CandidateLine, Comparison, Evidence, GenerationLine, Lineage
    from upwright.metrics import Metric

_ITEMS, _WIDE = 24, 200  # most items and characters of one thing that a build noted; the page has all

Gen = Annotated[
    str, typer.Argument(metavar="GEN", help="A generation: its number, `champion`, or the beginning of its digest.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(short_help="Show where the project stands.")(status)
    app.command(short_help="List generations, or every candidate.")(log)
    app.command(short_help="Show one generation and its evidence.")(show)
    app.command(short_help="Compare two generations as text.")(diff)


def status(context: typer.Context, as_json: Json = False) -> None:
    """Show where the project stands: champion, score, spend, what waits for a person."""
    from upwright.lineage import read_lineage

    project = project_of(context)
    line = read_lineage(project)
    champion = line.of(line.champion)
    if as_json:
        facts = {
            "founded": line.founded, "objective": line.objective, "champion": champion, "anchor": line.anchor,
            "generations": len(line.generations), "candidates": len(line.candidates), "tests": line.tests,
            "waiting": line.waiting, "stopped": line.stopped, "spent": line.spent, "vault": line.vault[-1:],
        }  # fmt: skip
        emit("status", facts)
        return
    out = console()
    if champion is None:
        out.print(
            f"{project.root.name}: not started. Edit charter.toml, tasks/ and body/ as you like, then `upwright run`."
        )
        return
    out.print(f"{project.root.name}: champion is generation {champion.name}")
    rows = [
        ("objective", line.objective),
        *_measured(line, champion),
        ("candidates", f"{len(line.candidates)} tried, {line.tests} tested, {len(line.generations) - 1} promoted"),
        ("spent", f"{duration(line.spent.seconds)}, {amount(line.spent.tokens)} tokens"),
    ]
    if line.stopped is not None:
        rows.append(("stopped", f"{line.stopped}; `upwright resume` lets it go on"))
    for test in line.waiting:
        rows.append(
            ("waits for you", f"test {test} passed the gate: `upwright approve {test}` or `upwright refuse {test}`")
        )
    for name, value in rows:
        out.print(f"  {name:<16} {value}")


def _measured(line: Lineage, champion: GenerationLine) -> list[tuple[str, str]]:
    """How good the champion is. Of a metric that repeats exactly there is no more to say than the metric."""
    from upwright.web.programs import sentence

    found = _metrics(champion.metrics)
    if told := sentence(line):
        found.append(("since the first", told))
    if _exact(champion):
        return found
    vault = gained(line.vault[-1].total.gain) + ", on vault tasks" if line.vault else "the vault has not been opened"
    return [
        *found,
        ("confirmed score", _score(champion)),
        ("last gain", gained(champion.confirmation.gain) if champion.confirmation else "–"),
        ("total gain", vault),
    ]


def _exact(g: GenerationLine) -> bool:
    return bool(g.metrics) and all(m.exact for m in g.metrics)


def _metrics(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """What the evaluator itself measured of a program: the objective's metric, then the protected ones."""
    found = []
    for m in metrics:
        runs = f"in each of {m.n} fresh runs" if m.exact else f"mean of {m.n} fresh runs"
        found.append(("metric", f"{m.told} ({'more' if m.direction == 'max' else 'less'} is better; {runs})"))
    return found


def _score(line: GenerationLine) -> str:
    if line.score:
        return f"{measured(line.score)}, {line.score.n} fresh tasks"
    return f"none yet; {percent(line.practice)} on practice" if line.practice is not None else "none yet"


def log(
    context: typer.Context,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Every candidate, not only those that were promoted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the generations, or with --all every candidate and why it was rejected."""
    from upwright.lineage import read_lineage

    line = read_lineage(project_of(context))
    if as_json:
        emit(
            "log",
            {
                "generations": line.generations,
                "candidates": line.candidates if all_ else (),
                "rollbacks": line.rollbacks,
            },
        )
        return
    from rich.table import Table
    from rich.text import Text

    out = console()
    if not line.generations:
        out.print("nothing yet: start with `upwright run`")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("gen", "digest", "lever", "confirmed", "gain", "why it was tried"):
        table.add_column(name, overflow="fold", no_wrap=name in ("gen", "digest"))
    for g in line.generations:
        mark = "▶" if g.digest == line.champion else "↶" if g.rolled_back else " "
        gain = gained(g.confirmation.gain) if g.confirmation else "–"
        cells = (f"{mark}{g.number}", g.digest[:10], g.lever or "–", measured(g.score), gain, g.reason)
        table.add_row(*(Text(c) for c in cells))
    out.print(table, soft_wrap=False)
    if all_:
        _print_candidates(line)


def _print_candidates(line: Lineage) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print("\ncandidates")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("round", "lever", "practice", "verdict", "why"):
        table.add_column(name, overflow="fold", no_wrap=name in ("round", "lever"))
    for c in line.candidates:
        cells = (str(c.round), c.lever, points(c.gain), verdict(c), c.why or "under way")
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table, soft_wrap=False)


def verdict(candidate: CandidateLine) -> str:
    """The warden's word, or why there is none."""
    if candidate.decision:
        return candidate.decision
    return "not tested" if candidate.why else "under way"


def show(
    context: typer.Context,
    gen: Gen,
    data: Annotated[
        bool, typer.Option("--data", help="What its weights were trained on, every example traced.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show one generation: what changed, why, the evidence, the gain, the cost; or what it was trained on."""
    from upwright.errors import ProjectError
    from upwright.lineage import read_lineage

    line = read_lineage(project_of(context))
    digest = line.resolve(gen)
    found = line.of(digest)
    if found is None:
        tried = [c for c in line.candidates if c.digest == digest]
        if not tried:
            raise ProjectError(
                "this body never was a candidate of this run", value=gen, todo="`upwright log --all` lists them"
            )
        if as_json:
            emit("show", {"candidate": tried[-1]})
            return
        _print_candidate(tried[-1])
        return
    if data:
        from upwright.cli.data import show_data

        show_data(project_of(context), line, found, as_json)
        return
    if as_json:
        emit("show", {"generation": found})
        return
    _print_generation(line, found)


def _print_candidate(c: CandidateLine) -> None:
    out = console()
    out.print(f"candidate of round {c.round}, digest {c.digest}")
    for name, value in (
        ("lever", c.lever),
        ("tried because", c.reason),
        ("practice gain", points(c.gain)),
        *_metrics(c.metrics),
        ("verdict", verdict(c)),
        ("why", c.why),
    ):
        out.print(f"  {name:<16} {value}")


def _print_generation(line: Lineage, g: GenerationLine) -> None:
    out = console()
    flag = ", the champion" if g.digest == line.champion else ", rolled back" if g.rolled_back else ""
    out.print(f"generation {g.number}{flag}")
    rows = [
        ("digest", g.digest),
        ("promoted" if g.number else "founded", g.at[:19].replace("T", " ")),
        ("tried because", g.reason),
    ]
    if g.number:
        parent = line.of(g.parent or "")
        rows += [
            ("from", f"generation {parent.name}" if parent else "–"),
            ("lever", f"{g.lever or '–'}, learned from {g.rung or '–'}"),
            ("changed", ", ".join(g.changed) or "–"),
        ]
    rows += _planned(line, g)
    rows += _metrics(g.metrics)
    if not _exact(g):
        rows.append(("confirmed", _score(g)))
    rows += _reached(g)
    if g.confirmation and not _exact(g):
        rows.append(("gain", f"{gained(g.confirmation.gain)} on {g.confirmation.gain.n} fresh tasks"))
    if g.number:
        rows.append(
            (
                "cost",
                f"{duration(g.build.seconds)} to build; {duration(g.cost.seconds)} and {amount(g.cost.tokens)} tokens since the generation before",
            )
        )
    for name, value in rows:
        out.print(f"  {name:<16} {value}")
    if g.evidence:
        _print_evidence(g.evidence)
    if g.skills and not g.metrics:
        out.print("skills, confirmed (before → now)")
        for s in sorted(g.skills, key=lambda s: s.former.mean - s.child.mean):
            change = "" if g.number == 0 else f"{percent(s.former.mean):>8} → "
            worse = "   worse" if g.number and s.child.mean < s.former.mean else ""
            out.print(f"  {s.skill:<20} {change}{percent(s.child.mean):>8}   {s.child.n} tasks{worse}")
    if g.proposal:
        import json

        out.print("proposal")
        out.print(json.dumps(dict(g.proposal.settings), indent=2, ensure_ascii=False, default=str))
    if g.note:
        out.print("what building it noted")
        for text in noted(g.note):
            out.print(f"  {text}")


def _print_evidence(e: Evidence) -> None:
    out = console()
    weight = "measured again" if e.claim else f"e-value {amount(e.e_value)} of {e.threshold:.0f} needed"
    out.print(f"evidence of test {e.test}: {weight}; {e.reason}")
    for c in e.protected if e.claim else (e.objective, *e.protected):
        out.print(f"  {comparison(c)}")


def _planned(line: Lineage, g: GenerationLine) -> list[tuple[str, str]]:
    """What the plan expected of the round that made a generation, if there was a plan."""
    from upwright.plans import rows

    for plan in line.plans:
        for came, row in zip(plan.happened, rows(plan)):
            if came is not None and came.round == g.round:
                return [("known then", row[1]), ("expected", row[2]), ("happened", row[3])]
    return []


def _reached(g: GenerationLine) -> list[tuple[str, str]]:
    found = g.frontier.frontiers if g.frontier else ()
    return [(f"{100 * f.threshold:g} % right to", f"difficulty {f.told}, on practice") for f in found]


def noted(note: Mapping[str, Any]) -> list[str]:
    """A build's note in lines: a name and what was found, each item of a list or a table on a line of its own."""
    lines = []
    for name, found in note.items():
        items = [f"{k}: {_brief(v)}" for k, v in found.items()] if isinstance(found, Mapping) else []
        items = [_brief(v) for v in found] if isinstance(found, list) else items
        if not items:
            lines.append(f"{name}: {'–' if isinstance(found, list | Mapping) else _brief(found)}")
        elif isinstance(found, list) and all(isinstance(v, int | float) for v in found):
            lines.append(f"{name}: {', '.join(items)}")
        else:
            more = [f"  and {len(items) - _ITEMS} more"] if len(items) > _ITEMS else []
            lines += [name, *(f"  {item}" for item in items[:_ITEMS]), *more]
    return lines


def _brief(found: object) -> str:
    import json

    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= _WIDE else text[: _WIDE - 1] + "…"


def comparison(c: Comparison) -> str:
    """One comparison in a line."""
    claim = "better" if c.margin is None else f"not worse by {100 * c.margin:g} points"
    than = "" if c.versus == "champion" else " than the last approved generation"
    if c.exactly:
        return f"{c.suite}: {claim}{than}? {c.exactly}"
    count = f"{c.wins} won, {c.losses} lost, {c.ties} tied of {c.n}"
    return f"{c.suite}: {claim}{than}? {count}; mean {points(c.mean)} points; e-value {amount(c.e_value)}"


def diff(context: typer.Context, old: Gen, new: Gen, as_json: Json = False) -> None:
    """Show what differs between two generations, as readable text."""
    from rich.text import Text

    from upwright.bodies.store import Store
    from upwright.drafts import recover
    from upwright.lineage import read_lineage
    from upwright.web.diffs import compare

    project = project_of(context)
    line = read_lineage(project)
    store = Store(project.state / "store")
    a, b = (recover(project, store, line.resolve(name)) for name in (old, new))
    found = compare(store, a, b)
    if as_json:
        emit("diff", {"old": a.digest, "new": b.digest, "files": found})
        return
    out = console()
    if not found:
        out.print("no difference")
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for file in found:
        out.print(Text(f"{file.path}: {file.kind}", style="bold"))
        if file.lines is None:
            for label, digest, count in (
                ("before", file.before, file.before_size),
                ("now", file.after, file.after_size),
            ):
                if digest is not None:
                    out.print(f"  {label:<7} {size(count or 0):>12}  {digest[:16]}")
        for text in file.lines or ():
            out.print(Text(text, style=styles.get(text[:1], "")))
