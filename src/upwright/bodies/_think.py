"""Thoughts: how a body is asked for them, and how the answer is told from them.

A body with ``think`` > 0 in ``inference.toml`` is asked to think briefly and to give the answer alone on a last,
marked line (chain of thought: Wei et al. 2022). What is scored, voted on and shown is the answer; the thought only costs tokens.
"""

from __future__ import annotations

import re
from collections import Counter

MARK = "Answer:"
CUE = f"First think in a few short steps. Then write the answer alone on a last line that begins with {MARK!r}"
"""Added to the instructions of a body that thinks."""

_MARKED = re.compile(
    r"(?:^|(?<=[.!?;:])[ \t])[ \t*#>]*(?:the\s+)?(?:final\s+)?answer\**\s*(?::|\bis\b:?)\**[ \t]*", re.I | re.M
)
_TAGGED = re.compile(r"<think>.*?</think>|^.*</think>", re.S)


def split(text: str) -> tuple[str, str | None]:
    """Thought and answer of a completion; the answer is ``None`` where no line is marked as it.

    The last mark counts, and everything after it. A thought between ``<think>`` tags, as some models write it, is a
    thought as well: what follows it is the answer, marked or not.
    """
    tagged = _TAGGED.search(text)
    rest = text[tagged.end() :] if tagged else text
    marks = list(_MARKED.finditer(rest))
    if marks:
        before = text[: len(text) - len(rest)] + rest[: marks[-1].start()]
        return _untagged(before), rest[marks[-1].end() :].strip().removesuffix("**").rstrip()
    return (_untagged(tagged.group()), rest.strip()) if tagged else (text.strip(), None)


def _untagged(text: str) -> str:
    return text.replace("<think>", "").replace("</think>", "").strip()


def final(text: str, think: int) -> str:
    """What counts as the answer of a body with this budget of thought: with none, or without a mark, the whole text."""
    if think <= 0:
        return text
    answer = split(text)[1]
    return text.strip() if answer is None else answer


def marked(thought: str, answer: str) -> str:
    """A completion with this thought and this answer, as the body is asked to write it."""
    return f"{thought.strip()}\n{MARK} {answer.strip()}" if thought.strip() else answer.strip()


def repetition(text: str, n: int = 3) -> float:
    """Share of a text's word ``n``-grams that it has said before, in [0, 1); 0 for a text too short to tell."""
    words = text.casefold().split()
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = sum(grams.values())
    return 1.0 - len(grams) / total if total >= 2 * n else 0.0
