"""Self-edits as text: how one is asked for, read, checked against its passage, and kept.

The model is shown the first sentence of a passage (which names its subject) and one more, and writes how fast and how often
to learn it, the fact in full, one question and its short answer. A line is kept when it is grounded: nothing in it that the passage
does not say, as far as names, numbers and the answer's wording tell.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import msgspec

from upwright.bodies.body import Body, Example, Prompt
from upwright.records import Task

EDITS = "model/adapter/edits.jsonl"
RATES = {"slow": 0.5, "middle": 1.0, "fast": 2.0}
"""What an edit may ask for, as a multiple of the recipe's learning rate."""
PASSES = (2, 12)
"""Least and most passes that an edit may ask for; the default is between them."""
DEFAULT = ("middle", 6)
INSTRUCTIONS = "Say the fact of the last sentence in full, then write one question about it and its short answer, and how to learn it."
_HOUSE = "The lighthouse Amberly stands on the island of Stoke."
_DOCTOR = "The doctor Ilse Brandt came from a village called Lund."


@dataclass(frozen=True, slots=True)
class Unit:
    """What one edit is about: a passage, or one practice task that the body failed.

    Attributes:
        pieces: its sentences, or the question with its answer.
        asks: practice tasks that tell whether it was learned.
        gold: for a failed task its confirmed answer, which every question of the edit must have.
        question: for a failed task its own words.
    """

    id: str
    skill: str
    text: str
    pieces: tuple[str, ...]
    asks: tuple[Task, ...]
    gold: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote about one piece, as far as it is grounded; an empty text was left out."""

    piece: str
    fact: str = ""
    question: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Edit:
    """One line of ``edits.jsonl``: what was written for a passage, the update's settings, and what it was worth.

    Attributes:
        before: share of the passage's practice questions answered right before the update, in [0, 1]; ``after`` after
            it; ``None`` where no practice question asks about it.
        retained_before: the same on earlier passages, or ``None`` when there were none.
        kept: whether this one of the drafts trained the child; ``confirmed`` is then ``after`` in the finished child.
    """

    unit: str
    text: str
    draft: int
    written: tuple[Written, ...]
    rate: str
    passes: int
    by: str
    before: float | None = None
    after: float | None = None
    retained_before: float | None = None
    retained_after: float | None = None
    kept: bool = False
    confirmed: float | None = None

    @property
    def gain(self) -> float:
        """The reward: ``after − before`` in [−1, 1]; 0 where it could not be measured."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a passage."""
    return tuple(part.strip() for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part.strip())


def shown(pieces: Sequence[str], piece: str) -> str:
    """What the model sees to write about one piece: the first sentence for the subject, then the piece."""
    return piece if piece == pieces[0] else f"{pieces[0]} {piece}"


def rendered(written: Written, rate: str, passes: int) -> str:
    """What the model is to write."""
    lines = [f"Learn: {rate}, {passes} times"]
    if written.fact:
        lines.append(f"Fact: {written.fact}")
    if written.question:
        lines += [f"Q: {written.question}", f"A: {written.answer}"]
    return "\n".join(lines)


def writer_prompt(earlier: Iterable[Edit], failures: bool) -> Prompt:
    """Instructions and six worked examples; edits of earlier rounds that paid take the place of up to three."""
    paid = sorted((e for e in earlier if e.kept and e.gain > 0), key=lambda e: (-e.gain, e.unit))
    own = [example for edit in paid for example in examples_of(edit)[:1]][:3]
    return Prompt(INSTRUCTIONS, (*_FIXED[failures][: 6 - len(own)], *own))


def examples_of(edit: Edit) -> list[Example]:
    """What was shown and what was written, for the pieces that have a question."""
    first = edit.text if any(w.piece == edit.text for w in edit.written) else sentences(edit.text)[0]
    return [Example(shown((first,), w.piece), rendered(w, edit.rate, edit.passes)) for w in edit.written if w.question]


def _example(first: str, piece: str, how: tuple[str, int], *wrote: str) -> Example:
    return Example(shown((first,), piece), rendered(Written(piece, *wrote), *how))


def _failed(piece: str, how: tuple[str, int], *wrote: str) -> Example:
    return _example(piece, piece, how, *wrote)


_FIXED = {
    False: (
        _example(_HOUSE, _HOUSE, ("fast", 4), _HOUSE, "On which island does the lighthouse Amberly stand?", "Stoke"),
        _example(
            _HOUSE, "It was built by Ruth Calder.", ("middle", 6), "The lighthouse Amberly was built by Ruth Calder.",
            "Who built the lighthouse Amberly?", "Ruth Calder",
        ),
        _example(
            _DOCTOR, "Ilse Brandt died in 1921.", ("slow", 8), "The doctor Ilse Brandt died in 1921.",
            "In which year did the doctor Ilse Brandt die?", "1921",
        ),
        _example(
            "The Veld market opens in spring.", "A basket of plums costs 7 marks.", ("middle", 4),
            "At the Veld market a basket of plums costs 7 marks.",
            "How many marks does a basket of plums cost at the Veld market?", "7",
        ),
        _example(
            _DOCTOR, "In winter she painted cranes on silk.", ("fast", 6),
            "In winter the doctor Ilse Brandt painted cranes on silk.", "Which animals did the doctor Ilse Brandt paint?",
            "cranes",
        ),
        _example(
            _HOUSE, "It is lit with whale oil.", ("slow", 6), "The lighthouse Amberly is lit with whale oil.",
            "What is the lighthouse Amberly lit with?", "whale oil",
        ),
    ),
    True: (
        _failed("What is 3 + 4? Write only the number. The answer is 7.", ("middle", 6),
                 "3 + 4 is 7.", "Which number is 3 + 4? Write only the number.", "7"),
        _failed("Name the capital of Peru. The answer is Lima.", ("fast", 4),
                 "The capital of Peru is Lima.", "Which city is the capital of Peru?", "Lima"),
        _failed("Write 'CAT' in small letters. Answer with the word only. The answer is cat.", ("slow", 8),
                 "'CAT' in small letters is cat.", "How is 'CAT' written in small letters? Answer with the word only.", "cat"),
    ),
}  # fmt: skip


def settings_of(texts: Iterable[str]) -> tuple[str, int]:
    """Rate and passes that most of the pieces name; :data:`DEFAULT` for what none names."""
    rates: list[str] = []
    passes: list[int] = []
    for text in texts:
        found = re.search(r"Learn:\s*(slow|middle|fast),\s*(\d{1,3})\s*times", text)
        if found:
            rates.append(found[1])
            passes.append(min(max(int(found[2]), PASSES[0]), PASSES[1]))
    if not rates:
        return DEFAULT
    return max(sorted(set(rates)), key=rates.count), sorted(passes)[len(passes) // 2]


def read_written(text: str, piece: str, unit: Unit) -> Written:
    """What in ``text`` is well-formed and grounded; of several questions the first."""
    fact = re.search(r"^\s*Fact:\s*(\S.*?)\s*$", text, re.M)
    pair = re.search(r"^\s*Q:\s*(\S.*?\?(?:[^?\n]*[.!])?)\s*\n\s*A:\s*(\S.*?)\s*$", text, re.M)
    said = fact[1] if fact and _fact_stands(fact[1], piece, unit.text) else ""
    if pair and _pair_stands(pair[1], pair[2], piece, unit):
        answer = pair[2].strip() if unit.gold else pair[2].strip().rstrip(".")
        return Written(piece, said, pair[1].strip(), unit.gold or answer)
    return Written(piece, said)


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", _fold(text))


def _names(text: str) -> set[str]:
    """Capitalised words but a sentence's first, and numbers, folded."""
    later = re.findall(r"(?<![.!?]\s)(?<!^)\b[A-Z]\w*", text)
    return {_fold(word) for word in (*later, *re.findall(r"\b\d+\b", text))}


def _holds(text: str, part: str) -> bool:
    """Whether the words of ``part`` stand in ``text`` in a row."""
    return bool(_words(part)) and f" {' '.join(_words(part))} " in f" {' '.join(_words(text))} "


def _fact_stands(fact: str, piece: str, text: str) -> bool:
    """Every name and number is the passage's, and most of the piece's longer words are there."""
    wanted = {word for word in _words(piece) if len(word) > 3 or word.isdigit()}
    there = wanted & set(_words(fact))
    return _names(fact) <= set(_words(text)) and len(there) >= 0.6 * len(wanted) and len(fact) <= 2 * len(piece) + 80


def _pair_stands(question: str, answer: str, piece: str, unit: Unit) -> bool:
    """A question that makes sense alone, whose answer the piece says and the question does not."""
    if unit.gold:
        same = _fold(answer).rstrip(".") == _fold(unit.gold).rstrip(".")
        return same and _names(unit.question) == _names(question) and _fold(question) != _fold(unit.question)
    if not _holds(piece, answer) or _holds(question, answer):
        return False
    named = _names(question)
    return bool(named & _names(unit.text)) and named <= set(_words(unit.text))


def lines_of(edit: Edit, unit: Unit) -> list[tuple[str, str, bool]]:
    """What an edit trains on, as ``(input, answer, given)``; ``given`` is true of what the model did not write.

    The passage itself (or the failed question with its confirmed answer) is always among them.
    """
    own = (unit.question, unit.gold) if unit.gold else recital(unit.text)
    lines: list[tuple[str, str, bool]] = [(*own, True)]
    for wrote in edit.written:
        if wrote.fact and not unit.gold:
            lines.append((*recital(wrote.fact), False))
        if wrote.question:
            lines.append((wrote.question, wrote.answer, False))
    return list({line[0]: line for line in reversed(lines)}.values())[::-1]


def recital(text: str) -> tuple[str, str]:
    """A text as a question and its answer: its first words (five, or half of a short one) ask for all of it."""
    words = text.split()
    return f"Complete the text: {' '.join(words[: max(2, min(5, len(words) // 2))])} …", text


def read_edits(body: Body) -> list[Edit]:
    """Every edit of the body's earlier rounds, kept or not."""
    path = body.root / EDITS
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")  # not splitlines: a text may hold other line separators
    return [msgspec.convert(json.loads(line), type=Edit) for line in lines if line.strip()]


def render_edits(edits: Sequence[Edit]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(asdict(edit), ensure_ascii=False) + "\n" for edit in edits).encode()
