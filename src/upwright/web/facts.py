"""Everything that a report tells, gathered once; the page and the terminal only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from upwright.bodies.architecture import Architecture
from upwright.bodies.body import Training, parse_toml
from upwright.bodies.store import Store
from upwright.diagnose.self_knowledge import remaining
from upwright.errors import StorageError, UpwrightError
from upwright.lineage import read_diagnoses, read_lineage
from upwright.lines import Comparison, GenerationLine, Lineage, Measure
from upwright.project import Project
from upwright.records import SCHEMA, Generation, Interval, to_json
from upwright.trajectory import ConfirmedPoint, Trajectory, account
from upwright.warden.audit import verify_home
from upwright.web.diffs import FileDiff, compare
from upwright.web.programs import Search, gather_search, sentence
from upwright.web.shapes import Shapes


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Whether the ledger verifies, and if not, the first broken entry."""

    ok: bool
    entries: int
    root: str
    index: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class Worse:
    """Something that a promotion made worse, by its point estimate."""

    generation: int
    what: str
    before: float | None
    after: float | None
    change: float
    certain: bool
    """Whether the two intervals do not even touch."""


@dataclass(frozen=True, slots=True)
class Knowing:
    """How well one generation's confidence tells its right answers from its wrong ones, on practice.

    ``auroc`` in [0, 1], 0.5 is chance, higher is better; ``ece``, the calibration error in [0, 1], lower is better.
    """

    number: int
    auroc: float
    interval: Interval
    ece: float


@dataclass(frozen=True, slots=True)
class Facts:
    """A report.

    Attributes:
        changes: digest of a generation → what differs from its parent.
        charter: the charter in force, as plain JSON types.
        curves: skill of the objective → (generation number, confirmed score).
        shapes: digest of a generation that changed ``architecture.toml`` or ``training.toml`` → its network and its parent's.
        search: of a body that is a program, every candidate that was tried on practice.
    """

    name: str
    made: str
    lineage: Lineage
    trajectory: Trajectory
    changes: Mapping[str, tuple[FileDiff, ...]]
    worse: tuple[Worse, ...]
    curves: Mapping[str, tuple[tuple[int, Measure], ...]]
    ledger: LedgerCheck | None
    knowing: tuple[Knowing, ...] = ()
    charter: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, Shapes] = field(default_factory=dict)
    search: Search | None = None
    schema: int = SCHEMA


def gather(project: Project) -> Facts:
    """Read and check the whole project.

    Raises:
        LedgerError: the ledger cannot even be read.
    """
    line = read_lineage(project)
    check = None
    if line.founded:
        report = verify_home(project.warden)
        check = LedgerCheck(report.ok, report.entries, report.root, report.index, report.problem)
    return Facts(
        name=project.root.name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        lineage=line,
        trajectory=account(_points(line)),
        changes=_changes(project, line),
        worse=_worse(line),
        curves=_curves(line),
        ledger=check,
        knowing=_knowing(project, line),
        charter=_charter(project),
        shapes=_shapes(project, line),
        search=gather_search(project, line),
    )


def kept(line: Lineage) -> tuple[GenerationLine, ...]:
    """The generations that the champion came from."""
    return tuple(g for g in line.generations if not g.rolled_back)


def _points(line: Lineage) -> list[ConfirmedPoint]:
    seconds, found = 0.0, []
    for g in line.generations:
        seconds += g.cost.seconds
        if g.score and g.score.n and not g.rolled_back:
            m = g.score
            low, high = max(0.0, min(m.interval.low, m.mean)), min(1.0, max(m.interval.high, m.mean))
            found.append(ConfirmedPoint(g.number, m.mean, low, high, seconds))
    return found


def _knowing(project: Project, line: Lineage) -> tuple[Knowing, ...]:
    found: dict[int, Knowing] = {}
    for row in read_diagnoses(project):
        generation = line.of(str(row.get("champion", "")))
        for signal in row.get("self_knowledge") or ():
            if generation and signal["name"] == "confidence" and signal["auroc"] is not None and signal["interval"]:
                ends = signal["interval"]
                interval = Interval(ends["low"], ends["high"], ends["level"])
                found[generation.number] = Knowing(generation.number, signal["auroc"], interval, signal["ece"])
    return tuple(found[number] for number in sorted(found))


def knowing_told(facts: Facts) -> list[str]:
    """Self-knowledge in words: one line a generation, then what changed; empty when nothing was measured."""
    told = [
        f"generation {k.number}: AUROC {k.auroc:.2f} ({k.interval.low:.2f} to {k.interval.high:.2f}), "
        f"calibration error {100 * k.ece:.0f} %"
        for k in facts.knowing
    ]
    if len(facts.knowing) > 1:
        first, last = facts.knowing[0], facts.knowing[-1]
        if last.interval.low > first.auroc and last.auroc > first.interval.high:
            told.append("it knows better than at the start when it is right")
        elif last.interval.high < first.auroc and last.auroc < first.interval.low:
            left = remaining(first.auroc, first.interval, last.auroc, last.interval)
            told.append(
                "it got worse at knowing when it is wrong: trust its own judgement less than before; "
                f"the run gives it {100 * left:.0f} % of its weight"
            )
        else:
            told.append("no clear change in how well it knows when it is right")
    return told


def _curves(line: Lineage) -> Mapping[str, tuple[tuple[int, Measure], ...]]:
    curves: dict[str, list[tuple[int, Measure]]] = {}
    for g in kept(line):
        for s in g.skills:
            curves.setdefault(s.skill, []).append((g.number, s.child))
    return {skill: tuple(points) for skill, points in sorted(curves.items())}


def _worse(line: Lineage) -> tuple[Worse, ...]:
    found: list[Worse] = []
    for g in kept(line):
        for s in g.skills if g.number else ():
            if s.child.mean < s.former.mean:
                apart = s.child.interval.high < s.former.interval.low
                found.append(
                    Worse(
                        g.number, f"skill {s.skill}", s.former.mean, s.child.mean, s.child.mean - s.former.mean, apart
                    )
                )
        for c in g.evidence.protected if g.evidence else ():
            if c.mean is not None and c.mean < 0:
                found.append(Worse(g.number, _protected(c), None, None, c.mean, False))
    return tuple(found)


def _protected(c: Comparison) -> str:
    than = "" if c.versus == "champion" else ", against the last approved generation"
    return f"protected suite {c.suite}{than} (margin {100 * (c.margin or 0):g} points, kept)"


def _changes(project: Project, line: Lineage) -> Mapping[str, tuple[FileDiff, ...]]:
    if not line.generations:
        return {}
    store, found = Store(project.state / "store"), {}
    for g in line.generations:
        if g.parent:
            try:
                found[g.digest] = compare(store, store.get(g.parent), store.get(g.digest))
            except UpwrightError:
                found[g.digest] = ()
    return found


REDESIGNED = ("architecture.toml", "training.toml")


def _shapes(project: Project, line: Lineage) -> Mapping[str, Shapes]:
    """The networks of generations whose shape or recipe is another than their parent's."""
    store, found = Store(project.state / "store"), {}
    for g in line.generations:
        if not g.parent or not set(REDESIGNED) & set(g.changed):
            continue
        try:
            new, old = (_made(store, store.get(digest)) for digest in (g.digest, g.parent))
            if new[0] is not None:
                found[g.digest] = Shapes(new[0], old[0], _recipe(old[1], new[1]))
        except (UpwrightError, ValueError):
            continue  # what cannot be read any more is in the list of changed files
    return found


def _made(store: Store, generation: Generation) -> tuple[Architecture | None, Training]:
    """Shape and recipe of a stored body; the shape is ``None`` where no file tells it."""

    def text(name: str) -> str | None:
        return store.file(generation, name).decode() if name in generation.files else None

    shape, recipe = map(text, REDESIGNED)
    return (
        None if shape is None else parse_toml(shape, Architecture, REDESIGNED[0]),
        Training() if recipe is None else parse_toml(recipe, Training, REDESIGNED[1]),
    )


def _recipe(before: Training, after: Training) -> tuple[str, ...]:
    old, new = asdict(before), asdict(after)
    return tuple(f"{key}: {old[key]} → {new[key]}" for key in new if old[key] != new[key])


def _charter(project: Project) -> Mapping[str, Any]:
    from upwright.warden.charter import Charter
    from upwright.warden.errors import WardenFault

    try:
        plain = to_json(Charter.parse(project.charter_path.read_text()).plain())
    except (OSError, WardenFault, StorageError):
        return {}
    return plain if isinstance(plain, dict) else {}


def headline(facts: Facts) -> str:
    """What happened, in one sentence."""
    line = facts.lineage
    champion = line.of(line.champion)
    if champion is None:
        return "Nothing has run yet."
    count = len(facts.search.tried) if facts.search else len(line.candidates)
    tried = f"{count} candidate{'s' * (count != 1)}"
    if champion.number == 0:
        return f"No candidate of {tried} has been proven better on {line.objective} than the body that the run started from."
    opened = [v for v in line.vault if v.digest == champion.digest]
    if told := sentence(line):
        return f"Generation {champion.number} brought {told}, after {tried}."
    if opened:
        total = opened[-1].total
        return (
            f"Generation {champion.number} scores {_pct(total.child.mean)} on {line.objective}, where the first body scores "
            f"{_pct(total.former.mean)}: a total gain of {_gain(total.gain)}, measured on {total.gain.n} vault tasks that no decision used."
        )
    first = line.generations[0].score
    before = f", from {_pct(first.mean)}" if first else ""
    now = f"a confirmed {_pct(champion.score.mean)}" if champion.score else "a score that is not confirmed yet"
    return f"Generation {champion.number} has {now} on {line.objective}{before}, after {tried}."


def calibration_lines(record: Mapping[str, Any]) -> list[str]:
    """A calibration record as readable lines: its own summary, or its values, whatever their keys."""
    if record.get("summary"):
        return [str(text) for text in record["summary"]]
    return [f"{key.replace('_', ' ')}: {_value(value)}" for key, value in record.items() if key != "schema"]


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k.replace('_', ' ')} {_value(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        ends = len(value) == 2 and all(isinstance(v, int | float) for v in value)
        return (" to " if ends else ", ").join(_value(v) for v in value)
    return str(value)


def _pct(value: float) -> str:
    return f"{100 * value:.1f} %"


def _gain(m: Measure) -> str:
    return f"{100 * m.mean:+.1f} points (95 % interval {100 * m.interval.low:+.1f} to {100 * m.interval.high:+.1f})"
