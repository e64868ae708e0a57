"""The record of an experiment: a folder of its own, and a note on the ledger.

::

    .upwright/experiments/does-it-help-1a2b3c4d/
      experiment.toml   what was asked, as it was given
      result.json       all that came of it
      picture.svg       difference against cost
      arms/NAME/        the texts of each arm that differ from its generation: `upwright tell` takes such a folder
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upwright.experiments.answer import Finding
from upwright.experiments.arms import Arm
from upwright.project import Project, write_atomic
from upwright.records import canonical_digest, from_json, to_json
from upwright.warden import ledger

FOLDER = "experiments"
RESULT = "result.json"
KIND = "experiment"
"""The ledger's kind of note."""
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Result:
    """An experiment that has ended.

    Attributes:
        answer: in words; ``findings``: of every arm, the first one first.
        key: tells the same question about the same bodies; ``plan``: digest of the plan.
        fixed: whether the intervals are for a number of tasks fixed beforehand; else they are confidence sequences.
        ended: why it ended before its plan did; empty when it did not.
        folder: its name under ``.upwright/experiments/``.
    """

    question: str
    answer: str
    suite: str
    skills: tuple[str, ...]
    findings: tuple[Finding, ...]
    champion: str
    key: str
    plan: str
    level: float
    fixed: bool
    ended: str
    seconds: float
    by: str
    folder: str = ""
    schema: int = SCHEMA


def key_of(plan: str, arms: Sequence[Arm]) -> str:
    """What tells whether an experiment was done before: its plan, and the bodies that its arms are."""
    return canonical_digest([plan, [arm.digest for arm in arms]])


def place_of(project: Project, question: str, key: str) -> Path:
    """The experiment's folder."""
    words = re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")[:40].strip("-")
    return project.state / FOLDER / f"{words or 'experiment'}-{key[:8]}"


def read_result(place: Path) -> Result | None:
    """What came of an experiment; ``None`` when it has not ended."""
    try:
        return from_json(Result, json.loads((place / RESULT).read_bytes()))
    except (OSError, ValueError):
        return None


def results(project: Project) -> tuple[Result, ...]:
    """Every experiment that has ended, oldest first."""
    places = sorted((project.state / FOLDER).glob(f"*/{RESULT}"), key=lambda p: p.stat().st_mtime)
    return tuple(found for place in places if (found := read_result(place.parent)))


def keep(place: Path, result: Result, text: str, arms: Sequence[Arm]) -> Result:
    """Write the record.

    Raises:
        StorageError: the disk is full or read-only.
    """
    kept = replace(result, folder=place.name)
    place.mkdir(parents=True, exist_ok=True)
    write_atomic(place / "experiment.toml", text.encode())
    for arm in arms:
        for path, new in arm.changes.items():
            if new is not None:
                target = place / "arms" / slug(arm.name) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(target, new.encode())
    write_atomic(place / RESULT, json.dumps(to_json(kept), indent=1, ensure_ascii=False).encode())
    return kept


def slug(name: str) -> str:
    """An arm's name as a folder's."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "arm"


def note(project: Project, result: Result) -> None:
    """Put the result on the ledger, once: a note for people, which no decision reads.

    Raises:
        WardenError: the warden cannot be reached.
    """
    from upwright.warden.door import Door

    entries = ledger.read(project.warden / ledger.FILE)
    if any(e.kind == "note" and e.data["kind"] == KIND and e.data["data"].get("key") == result.key for e in entries):
        return
    arms = [
        {
            "name": f.name[:80], "digest": f.digest, "told": f.told[:200], "score": f.score, "difference": f.difference,
            "interval": None if f.interval is None else [f.interval.low, f.interval.high, f.interval.level],
            "pairs": f.pairs, "failures": f.failures, "says": f.says,
        }
        for f in result.findings
    ]  # fmt: skip
    facts = {
        "key": result.key, "question": result.question[:1000], "answer": result.answer[:4000], "suite": result.suite,
        "skills": list(result.skills)[:40], "champion": result.champion, "plan": result.plan, "level": result.level,
        "interval": "fixed" if result.fixed else "sequence", "ended": result.ended, "arms": arms, "by": result.by[:80],
        "distance": "practice",
    }  # fmt: skip
    with Door.open(project.warden) as door:
        door.note(KIND, facts)
