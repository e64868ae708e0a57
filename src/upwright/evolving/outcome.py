"""What an evolution came to, in words: what was proven, what was only seen, and where the best program lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from upwright.lines import Lineage
from upwright.metrics import number, numbers
from upwright.project import Project
from upwright.web.programs import gather_search, named, objective


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a project of a program stands.

    Attributes:
        before, after: the metric of the first program and of the champion, by sealed runs that decided nothing where there are any;
            ``None`` where nothing was promoted.
        exact: the metric repeats exactly; ``runs``: sealed runs behind each of the two numbers.
        evidence: of the last promotion, in words.
        candidates: programs that were run on practice; ``tests``: of them, those that knocked at the warden's door; ``promoted``: those let in.
        seen: the best metric on practice, proven or not; ``first``: the first program's on practice.
        program: the champion's folder; ``main``: its main file.
    """

    metric: str
    direction: str
    before: float | None
    after: float | None
    exact: bool
    runs: int
    evidence: str
    candidates: int
    tests: int
    promoted: int
    seen: float | None
    first: float | None
    program: str
    main: str

    @property
    def proven(self) -> bool:
        """Whether the champion is proven better than the first program."""
        return self.promoted > 0


def outcome_of(project: Project, line: Lineage) -> Outcome:
    """The outcome of a founded project."""
    search = gather_search(project, line)
    champion = line.of(line.champion)
    total = next((m for v in reversed(line.vault) if v.digest == line.champion for m in v.metrics), None)
    last = champion.metrics[0] if champion and champion.metrics else None
    first = line.generations[0].metrics[0] if line.generations and line.generations[0].metrics else None
    promoted = champion.number if champion else 0
    found = total or last
    shown = project.champion_path if promoted else project.body_path
    metric = objective(line) or named(project, line)
    return Outcome(
        metric=metric.name if metric else "score",
        direction=metric.direction if metric else "max",
        before=(total.former if total else first.former if first else None) if promoted else None,
        after=found.child if promoted and found else None,
        exact=bool(found and found.exact),
        runs=found.n if found else 0,
        evidence=champion.evidence.weight if promoted and champion and champion.evidence else "",
        candidates=len(search.tried) if search else 0,
        tests=line.tests,
        promoted=promoted,
        seen=search.best[-1].metric if search and search.best else None,
        first=search.best[0].metric if search and search.best else None,
        program=str(shown / "program"),
        main=_main(shown / "program"),
    )


def _main(folder: Path) -> str:
    """The program's only file, or the folder."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()] if folder.is_dir() else []
    return str(files[0] if len(files) == 1 else folder)


def told(o: Outcome) -> list[str]:
    """The outcome in sentences, what was proven first."""
    better = "more is better" if o.direction == "max" else "less is better"
    lines = []
    if o.proven:
        before, after = numbers(o.before, o.after)
        runs = f"in each of {o.runs} fresh runs" if o.exact else f"mean of {o.runs} fresh runs that decided nothing"
        lines.append(f"proven: {o.metric} {before} → {after} ({better}; {runs})")
        lines.append(f"evidence: {o.evidence}")
    else:
        lines.append(f"nothing was proven better than the first program ({o.metric}, {better})")
        if o.seen is not None and o.seen != o.first:
            lines.append(
                f"the best candidate on practice had {number(o.seen)}, the first program {number(o.first)}: seen, not proven"
            )
    plural = "s" * (o.candidates != 1)
    lines.append(f"{o.candidates} candidate{plural} run on practice, {o.tests} tested by the warden, {o.promoted} kept")
    lines.append(f"the {'best' if o.proven else 'first'} program is {o.main}")
    return lines
