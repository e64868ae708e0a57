"""What right answers to a skill look like, told from verified answers alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from upwright.levers._search import Case

LEAST = 3
"""Answers that must agree before a shape is stated."""


def _json_of(kind: type) -> Callable[[str], bool]:
    def matches(text: str) -> bool:
        try:
            return isinstance(json.loads(text), kind)
        except json.JSONDecodeError:
            return False

    return matches


def _pattern(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


_SHAPES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("a date written like {0}", _pattern(r"\d{4}-\d{2}-\d{2}")),
    ("a time written like {0}", _pattern(r"\d{1,2}:\d{2}")),
    ("a whole number in digits, such as {0}", _pattern(r"-?\d+")),
    ("a number in digits, such as {0}", _pattern(r"-?[$€£]?\d[\d,]*(\.\d+)?")),
    ("one JSON object such as {0}", _json_of(dict)),
    ("one JSON list such as {0}", _json_of(list)),
    ("a code written like {0}", _pattern(r"(?=.*[A-Z])(?=.*\d)[A-Z0-9-]+")),
    ("one word in lower case, such as {0}", _pattern(r"[a-z]+")),
    ("one word, such as {0}", _pattern(r"[^\W\d_]+")),
    ("items separated by commas, such as {0}", _pattern(r"[^,\n]+(,[^,\n]+)+")),
    ("one short line, such as {0}", _pattern(r".{1,60}")),
)


def shape(answers: Sequence[str]) -> str | None:
    """A noun phrase that describes every answer, with a real one as its example; ``None`` when none fits.

    A handful of answers that keep coming back is named in full ("one of: no, yes").
    """
    texts = [a.strip() for a in answers]
    if len(texts) < LEAST:
        return None
    distinct = sorted(set(texts))
    if 1 < len(distinct) <= 4 and len(texts) >= 3 * len(distinct) and max(map(len, distinct)) <= 20:
        return f"one of: {', '.join(distinct)}"
    for phrase, matches in _SHAPES:
        if all(matches(t) for t in texts):
            return phrase.format(sorted(distinct, key=lambda t: (len(t), t))[len(distinct) // 2])  # a typical one
    return None


def shapes(cases: Sequence[Case], weights: Mapping[str, float], most: int) -> dict[str, str]:
    """The shape of answers for up to ``most`` skills, weakest first; skills without a common shape are left out."""
    answers: dict[str, list[str]] = {}
    for case in cases:
        answers.setdefault(case.task.skill, []).append(case.answer)
    found = {}
    for skill in sorted(answers, key=lambda s: (-weights.get(s, 0.0), s)):
        phrase = shape(answers[skill])
        if phrase is not None and skill in weights:
            found[skill] = phrase
    return dict(list(found.items())[:most])
