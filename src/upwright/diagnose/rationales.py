"""Reading thoughts: is a right answer right for the right reason?

Training on thoughts whose *answer* was checked rewards whatever came before it (STaR's known failure). Four plain signs are
read from text alone; none of them proves that a thought is sound, and each catches a way in which it is not:

1. *derivation*: the answer (or its parts) is in the thought, the thought uses something of the question beside the answer, and every
   number in it comes from the question, from the answer, or from a stated equation that is right;
2. *illegible*: unprintable characters, words that are none, the same words again and again;
3. *faithful*: whether the answer changes when the thought is cut short or corrupted (Lanham et al. 2023); the lever asks,
   :func:`truncated` and :func:`corrupted` make the texts;
4. *length*: words per thought against the parent's.

Departures from Lanham et al.: one truncation and one corruption per thought (numbers changed, else words exchanged) where
they use many and a model to add mistakes. There is no dictionary: a word is none when it has no vowel or five consonants in a row,
which holds for words in Latin script alone; other scripts are left in peace.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from upwright.bodies._think import repetition

ILLEGIBLE = 0.3
"""Share of unprintable characters (tenfold), no-words or repeated trigrams from which a text counts as illegible."""
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?|\d+")
_EQUATION = re.compile(
    r"(-?\d[\d,]*(?:\.\d+)?)((?:\s*[-+*/×x÷−]\s*\$?\d[\d,]*(?:\.\d+)?)+)\s*=\s*\$?(-?\d[\d,]*(?:\.\d+)?)", re.I
)
_TERM = re.compile(r"([-+*/×x÷−])\s*\$?(\d[\d,]*(?:\.\d+)?)", re.I)
_WORD = re.compile(r"[^\W\d_]+")
_CONSONANTS = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}", re.I)
_VOWEL = re.compile(r"[aeiouyàâäáãåæèéêëìíîïòóôöøœùúûü]", re.I)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one thought shows. ``why`` says what its derivation lacks, empty when nothing."""

    derives: bool
    why: str
    illegible: float
    words: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What the thoughts of a child show on practice; shares in [0, 1], ``None`` where there was nothing to tell from.

    Attributes:
        thoughts: completions with a thought; ``right``: those of them with the right answer.
        derivation: share of ``right`` whose thought derives the answer.
        illegible: share of ``thoughts`` that nobody can read.
        faithful: share of the ``asked`` thoughts whose answer changes when they are cut or corrupted.
        changed: the same for each of the two.
        length_ratio: mean words per thought, child ÷ parent.
        lacking: what the others' derivations lack → how many.
    """

    thoughts: int
    right: int
    derivation: float | None
    illegible: float | None
    faithful: float | None
    asked: int
    changed: Mapping[str, float]
    length_ratio: float | None
    lacking: Mapping[str, int] = field(default_factory=dict)


def read(question: str, thought: str, answer: str) -> Reading:
    """Read one thought that came before ``answer`` to ``question``."""
    why = _lacks(question, thought, answer)
    return Reading(not why, why, round(illegible(thought), 4), len(thought.split()))


def _lacks(question: str, thought: str, answer: str) -> str:
    """What is missing for the thought to be a derivation of the answer; empty when nothing is."""
    asked, said, wanted = (_tokens(text) for text in (question, thought, answer))
    if not said:
        return "no thought"
    if not wanted or len(wanted & said) < len(wanted) / 2:
        return "the answer is not in it"
    other = {t for t in asked - wanted if isinstance(t, Fraction) or (len(t) > 2 and t not in _COMMON)}
    numbers = {t for t in other if isinstance(t, Fraction)}
    if not (numbers or other) & said:
        return "nothing of the question is in it"
    known = {abs(t) for t in asked | wanted if isinstance(t, Fraction)}
    for left, terms, right in _EQUATION.findall(thought):
        value = _computed(left, terms)
        if value is None or value != _number(right):
            return "an equation in it is wrong"
        operands = {abs(_number(left)), *(_number(n) for _, n in _TERM.findall(terms))}
        if operands <= known:
            known.add(abs(value))
    stray = {t for t in said if isinstance(t, Fraction) and abs(t) not in known}
    return "a number in it comes from nowhere" if stray else ""


def _tokens(text: str) -> set[Fraction | str]:
    """Numbers by value, and words by their folded form."""
    found: set[Fraction | str] = {_number(n) for n in _NUMBER.findall(text)}
    return found | {w.casefold() for w in _WORD.findall(text)}


_COMMON = frozenset(
    [
        "the",
        "and",
        "answer",
        "for",
        "form",
        "give",
        "only",
        "with",
        "write",
        "this",
        "that",
        "these",
        "are",
        "what",
        "which",
        "how",
        "number",
        "numbers",
        "then",
        "from",
        "first",
        "step",
        "steps",
        "think",
        "line",
        "last",
        "alone",
        "reply",
        "one",
        "two",
        "not",
        "nothing",
        "else",
    ]
)
"""Words of questions that say nothing about their matter."""


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def _computed(left: str, terms: str) -> Fraction | None:
    """Value of a chain of terms, products first; ``None`` where it cannot be computed."""
    total, product = Fraction(0), _number(left)
    for sign, digits in _TERM.findall(terms):
        number = _number(digits)
        if sign in "*×xX":
            product *= number
        elif sign in "/÷":
            if not number:
                return None
            product /= number
        else:
            total, product = total + product, number if sign == "+" else -number
    return total + product


def illegible(text: str) -> float:
    """How far a text cannot be read, in [0, 1]: the worst of unprintable, wordless and repeating."""
    if not text.strip():
        return 0.0
    odd = sum(
        (unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs") and c not in "\n\t\r") or c == "\ufffd" for c in text
    )
    words = [w for w in _WORD.findall(text) if w.isascii()]
    strange = sum(len(w) > 24 or (len(w) > 3 and not w.isupper() and _no_word(w)) for w in words)
    wordless = strange / len(words) if len(words) >= 4 else 0.0
    return min(1.0, max(10 * odd / len(text), wordless, repetition(text)))


def _no_word(word: str) -> bool:
    return _VOWEL.search(word) is None or _CONSONANTS.search(word) is not None


def truncated(thought: str) -> str:
    """The first half of a thought, in words."""
    words = thought.split()
    return " ".join(words[: len(words) // 2])


def corrupted(thought: str, seed: int) -> str:
    """The thought with a mistake in it: every number is another one, or, without numbers, its words change places."""
    rng = random.Random(seed)
    if _NUMBER.search(thought):
        return _NUMBER.sub(lambda m: str(int(abs(_number(m.group()))) + rng.randint(1, 9)), thought)
    words = thought.split()
    rng.shuffle(words)
    return " ".join(words)


def refusal(
    found: Findings, *, max_illegible: float | None, min_derivation: float | None, min_faithful: float | None,
    max_thought_ratio: float | None,
) -> str:  # fmt: skip
    """Which of a charter's demands the findings break, in words; empty when none.

    A least share that nothing could be read on counts as broken: it was asked for, and is not shown.
    """
    least = (("min_derivation", found.derivation, min_derivation), ("min_faithful", found.faithful, min_faithful))
    most = (
        ("max_illegible", found.illegible, max_illegible),
        ("max_thought_ratio", found.length_ratio, max_thought_ratio),
    )
    for name, value, limit in least:
        if limit and (value is None or value < limit):
            told = "nothing to tell it from" if value is None else f"{value:g}"
            return f"the charter's {name} is {limit:g}, and the thoughts of the child have {told}"
    for name, value, limit in most:
        if limit is not None and value is not None and value > limit:
            return f"the charter's {name} is {limit:g}, and the thoughts of the child have {value:g}"
    return ""


def summary(readings: Sequence[Reading]) -> dict[str, float]:
    """Shares over many readings, for a build's note; empty for none."""
    if not readings:
        return {}
    n = len(readings)
    return {
        "derivation": round(sum(r.derives for r in readings) / n, 3),
        "illegible": round(sum(r.illegible >= ILLEGIBLE for r in readings) / n, 3),
        "words": round(sum(r.words for r in readings) / n, 1),
    }
