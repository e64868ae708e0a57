"""What an agent may see, in words: Markdown that reads alike on a terminal and in a tool's answer."""

from __future__ import annotations

from collections.abc import Iterable

from upwright.agents.fates import Fate
from upwright.agents.outlook import Outlook, Part, Terms
from upwright.diagnose import Diagnosis

SHOWN = 8
"""Failures that are told without being asked for more."""
LATE = 12
"""Earlier proposals that are told."""
BRIEF = 600
"""Characters of a question or an answer that are told."""


def whole(outlook: Outlook, full: bool = False) -> str:
    """All of it."""
    sections = [
        parent(outlook),
        terms(outlook.terms),
        diagnosis(outlook),
        misses(outlook, SHOWN),
        history(outlook.history),
    ]
    if full:
        sections[1:1] = [part(p) for p in outlook.parts]
    return "\n\n".join(sections)


def parent(outlook: Outlook) -> str:
    """Which champion it is, and what texts it has."""
    name = f"generation {outlook.generation}, digest {outlook.parent}" if outlook.parent else "body/, not founded yet"
    lines = [f"# The champion: {name}", ""]
    for p in outlook.parts:
        lines.append(f"- {p.path} ({p.size} bytes){'' if p.may_change else ', may not change'}")
    absent = [path for path in outlook.terms.may_change if not any(_under(path, p.path) for p in outlook.parts)]
    lines += [f"- {path} (absent; may be added)" for path in absent]
    return "\n".join(lines)


def _under(allowed: str, path: str) -> bool:
    return path == allowed or (allowed.endswith("/") and path.startswith(allowed))


def part(p: Part) -> str:
    """The text of one part between fences that it does not hold."""
    fence = "```"
    while fence in p.text:
        fence += "`"
    return f"## {p.path}\n\n{fence}\n{p.text}{'' if p.text.endswith(chr(10)) or not p.text else chr(10)}{fence}"


def terms(t: Terms) -> str:
    """What is in scope, and how a change is judged."""
    held = ", ".join(f"{name} (at most {100 * margin:g} points worse)" for name, margin in t.protected.items())
    lines = [
        "# What is in scope",
        "",
        f"- objective: get better at the suite {t.objective}, by {100 * t.minimum_gain:g} points or more",
        f"- may change: {', '.join(t.may_change) or 'nothing that is text'}",
        f"- must not get worse: {held or 'nothing is protected'}",
    ]
    if t.forbidden:
        lines.append(f"- no answer may contain: {', '.join(t.forbidden)}")
    if t.minimum_rung:
        lines.append(
            f"- a child must have learned from {t.minimum_rung} or stronger; what an agent tells is a judge's word"
        )
    lines.append(
        "- " + ("a person agrees before what was proven is promoted" if t.approval else "what is proven is promoted")
    )
    lines += [f"- {limit.name}: {limit.left:g} of {limit.limit:g} left" for limit in t.budget]
    if t.stopped is not None:
        lines.append(f"- a person has stopped the project: {t.stopped}")
    return "\n".join(lines)


def diagnosis(outlook: Outlook) -> str:
    """Where the champion fails, on practice."""
    found, note = outlook.diagnosis, outlook.note
    lines = ["# The diagnosis, on practice tasks", ""]
    if found is None:
        return "\n".join([*lines, note or "not known yet"])
    lines += _measured(found) if outlook.measured else _weaknesses(found)
    if found.failures:
        lines.append(f"- {found.failures} tasks could not be run; they are in no rate")
    return "\n".join([*lines, *([note] if note else [])])


def _weaknesses(found: Diagnosis) -> list[str]:
    lines = []
    for weak in found.weaknesses:
        lines.append(f"- {weak.sentence}")
        if weak.errors:
            shares = sorted(weak.errors.items(), key=lambda e: -e[1])
            lines.append(f"  errors: {', '.join(f'{kind} {100 * share:.0f} %' for kind, share in shares)}")
    return lines or ["- no weakness was found"]


def _measured(found: Diagnosis) -> list[str]:
    """Of a program: its scores, which say how good it is and not whether it is right."""
    return [
        f"- {row.skill}: score {row.rate:.4g} of 1 ({100 * row.interval.level:g} % interval {row.interval.low:.3g} to "
        f"{row.interval.high:.3g}, {row.tasks} runs)"
        for row in found.skills
        if row.difficulty is None
    ]


def misses(outlook: Outlook, n: int = SHOWN, skill: str = "") -> str:
    """Practice tasks that the champion got wrong, with what was expected; of a program, what the evaluator told."""
    found = outlook.misses
    chosen = [m for m in found if not skill or m.skill == skill]
    lines = ["# Runs of the evaluator" if outlook.measured else "# Practice tasks that it failed on", ""]
    if not outlook.asked:
        return "\n".join([*lines, "not known yet"])
    if not outlook.measured:
        lines.append(
            f"{len(found)} of {outlook.asked} failed" + (f", {len(chosen)} of them in {skill}" if skill else "")
        )
    for number, m in enumerate(chosen[:n], 1):
        score = "no score" if m.score is None else f"score {m.score:g}"
        lines += [
            "",
            f"## {number}. {m.skill}, difficulty {m.difficulty}: {m.kind}, {score}",
            "",
            f"question: {_short(m.question)}",
            *([] if outlook.measured else [f"expected: {_short(m.expected)}"]),
            f"{'told' if outlook.measured else 'it said'}: {_short(m.said) or '(nothing)'}",
        ]
    return "\n".join(lines)


def history(found: Iterable[Fate], n: int = LATE) -> str:
    """What was proposed before, and what became of it."""
    lines = ["# What was proposed before", ""]
    late = list(found)
    if not late:
        return "\n".join([*lines, "nothing yet"])
    if len(late) > n:
        lines.append(f"the last {n} of {len(late)}:")
    lines += [f"- {one(f)}" for f in late[-n:]]
    return "\n".join(lines)


def one(f: Fate) -> str:
    """One proposal in a line."""
    changed = f", {', '.join(f.changed)}" if f.changed else ""
    return f"round {f.round}, {f.lever} by {f.author}{changed}: {_short(f.reason, 160)} → {f.words}"


def _short(text: str, most: int = BRIEF) -> str:
    text = text.strip()
    return text if len(text) <= most else text[: most - 1] + "…"
