"""An archive read in the order in which things happened: what a search that goes on has to know again, and what a report counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from upwright.evolution.archive import Archive
from upwright.evolution.records import Draft, Result


@dataclass(frozen=True, slots=True)
class Past:
    """A draft that a proposer was told of, and what it was told."""

    draft: Draft
    result: Result


def past(archive: Archive) -> Iterator[Past]:
    """Every draft that a proposer was told of, in the order in which it was."""
    query = (
        "SELECT event, proposer, files, note, changes, parents, 1, score, metrics, why, alarms FROM candidate"
        " WHERE event IS NOT NULL UNION ALL"
        " SELECT event, proposer, files, note, changes, parents, 0, NULL, '{}', why, '[]' FROM refused ORDER BY event"
    )
    for _, proposer, files, note, changes, parents, judged, score, metrics, why, alarms in archive.rows(query):
        of = json.loads(parents)
        digests = archive.digests(of) if judged else tuple(of)
        draft = Draft(archive.program(files), proposer, note, digests, changes)
        yield Past(draft, Result(score, json.loads(metrics), why, tuple(json.loads(alarms))))


def lately(archive: Archive, most: int) -> list[float | None]:
    """Scores of the last candidates that were placed, oldest first."""
    query = "SELECT score FROM candidate WHERE event IS NOT NULL ORDER BY event DESC LIMIT ?"
    return [score for (score,) in archive.rows(query, most)][::-1]


def failures(archive: Archive, most: int) -> list[tuple[str, str, str, str]]:
    """(kind, why, note, first parent's digest) of the last drafts that failed or were refused, oldest first."""
    query = (
        "SELECT * FROM (SELECT event, kind, why, note, parents, 1 FROM candidate WHERE kind != '' AND event IS NOT NULL"
        " ORDER BY event DESC LIMIT ?1) UNION ALL"
        " SELECT * FROM (SELECT event, kind, why, note, parents, 0 FROM refused ORDER BY event DESC LIMIT ?1)"
        " ORDER BY event DESC LIMIT ?1"
    )
    found = []
    for _, kind, why, note, parents, judged in archive.rows(query, most):
        of = json.loads(parents)[:1]
        (parent,) = (archive.digests(of) if judged else tuple(of)) or ("",)
        found.append((kind, why, note, parent))
    return found[::-1]


def counts(archive: Archive, since: int = 0) -> dict[str, dict[str, float]]:
    """Proposer → ``candidates``, ``failed`` and ``seconds`` of judging, of candidates from a number on. A scan: for reports."""
    query = (
        "SELECT proposer, count(*), sum(score IS NULL), sum(seconds) FROM candidate"
        " WHERE event IS NOT NULL AND number >= ? GROUP BY proposer ORDER BY proposer"
    )
    return {
        name: {"candidates": n, "failed": failed, "seconds": seconds}
        for name, n, failed, seconds in archive.rows(query, since)
    }


def kinds(archive: Archive, since: int = 0) -> dict[str, int]:
    """Kind of failure → how many of the candidates from a number on. A scan: for reports."""
    query = "SELECT kind, count(*) FROM candidate WHERE kind != '' AND number >= ? GROUP BY kind ORDER BY kind"
    return dict(archive.rows(query, since))


def alarms(archive: Archive, since: int = 0, most: int = 20) -> list[str]:
    """What looked like an attack, each once, of candidates from a number on, the first ones."""
    query = "SELECT DISTINCT why FROM candidate WHERE kind = 'alarm' AND number >= ? ORDER BY number LIMIT ?"
    return [why for (why,) in archive.rows(query, since, most)]


def refusals(archive: Archive, since: int = 0) -> dict[str, int]:
    """Kind of refusal (``duplicate``, ``scope``, …) → how many drafts from an event on. A scan: for reports."""
    query = "SELECT kind, count(*) FROM refused WHERE event >= ? GROUP BY kind ORDER BY kind"
    return dict(archive.rows(query, since))
