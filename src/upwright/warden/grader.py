"""Scorers: text → score in [0, 1], higher is better. Pure, and shared with practice.

A spec is a table with a ``kind``:

========  =================================================================================================
exact     equal after stripping; a list of answers means any of them
text      equal after NFKC, case folding, dropping punctuation, collapsing spaces
number    the last number (``take = "last"``) or the only one (``"only"``); ``tolerance``, ``relative``
regex     ``pattern`` is found in the text; with ``group``, that group must equal the answer
json      the first JSON value in the text equals the answer; ``partial = true`` scores per key
choice    a letter or the text of one of ``options``
python    ``score(text, task)`` of the suite's generator file
program   the suite's evaluator runs the program that the answer is (:mod:`upwright.warden.evaluator`); no time limit but its own
judge     a language model with a ``rubric`` at an OpenAI-compatible ``url``
========  =================================================================================================

A *check* is a public format rule that needs no answer: ``regex`` (full match), ``json_keys``,
``choice``, ``number``. A grader that cannot grade raises :class:`GraderError`; that is never a score.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from upwright.warden.deadline import deadline
from upwright.warden.errors import GraderError
from upwright.warden.judge import judge

Spec = Mapping[str, Any]
Scorer = Callable[[str, Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Grade:
    """What an answer got.

    Attributes:
        score: in [0, 1], higher is better.
        metric: for a program, what its evaluator measured; ``None`` for a run that failed, which scores 0.
        why: one sentence about a run that failed.
        alarms: what looked like an attack in it.
    """

    score: float
    metric: float | None = None
    why: str = ""
    alarms: tuple[str, ...] = ()


MAX_TEXT = 100_000
"""Longest text, in characters, that patterns are run on."""
PATTERN_SECONDS, SCORER_SECONDS = 2.0, 30.0

KEYS: dict[str, frozenset[str]] = {
    "exact": frozenset(),
    "text": frozenset(),
    "number": frozenset({"tolerance", "relative", "take"}),
    "regex": frozenset({"pattern", "group"}),
    "json": frozenset({"partial"}),
    "choice": frozenset({"options"}),
    "python": frozenset(),
    "program": frozenset(),
    "judge": frozenset({"url", "model", "rubric", "timeout", "retries", "api_key_env"}),
}
CHECKS: dict[str, frozenset[str]] = {
    "regex": frozenset({"pattern"}),
    "json_keys": frozenset({"keys"}),
    "choice": frozenset({"options"}),
    "number": frozenset(),
}
_NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+)?(?:(?<=\d)[eE][-+]?\d{1,4})?"
)


def validate(spec: Spec, *, check_only: bool = False) -> None:
    """Refuse a malformed scorer spec (or, with ``check_only``, a malformed public check).

    Raises:
        GraderError: names the key, its value, and what is known.
    """
    kinds = CHECKS if check_only else KEYS
    if not isinstance(spec, Mapping) or spec.get("kind") not in kinds:
        raise GraderError("a scorer needs a known kind", value=spec, todo="known kinds: " + ", ".join(sorted(kinds)))
    known = kinds[spec["kind"]]
    for key in spec:
        if key != "kind" and key not in known:
            raise GraderError(
                f"unknown key in a scorer of kind {spec['kind']}: {key}",
                value=spec[key],
                todo=f"known: {sorted(known)}",
            )
    required = {"regex": "pattern", "json_keys": "keys", "judge": "url"}.get(spec["kind"])
    if required and required not in spec:
        raise GraderError(f"a scorer of kind {spec['kind']} needs {required}", value=dict(spec), todo=f"add {required}")
    _validate_values(spec)


def _validate_values(spec: Spec) -> None:
    rules: dict[str, Callable[[Any], bool]] = {
        "tolerance": _is_amount,
        "relative": _is_amount,
        "take": lambda v: v in ("last", "only"),
        "pattern": _is_pattern,
        "group": lambda v: isinstance(v, int | str) and not isinstance(v, bool),
        "partial": lambda v: isinstance(v, bool),
        "options": _is_strings,
        "keys": _is_strings,
        "url": lambda v: isinstance(v, str) and v.startswith(("http://", "https://")),
        "model": lambda v: isinstance(v, str),
        "rubric": lambda v: isinstance(v, str),
        "timeout": _is_amount,
        "retries": lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 10,
    }
    for key, good in rules.items():
        if key in spec and not good(spec[key]):
            raise GraderError(
                f"bad value of {key} in a scorer of kind {spec['kind']}", value=spec[key], todo=f"change {key}"
            )


def _is_amount(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < math.inf


def _is_strings(v: Any) -> bool:
    return isinstance(v, list | tuple) and len(v) > 0 and all(isinstance(x, str) and x.strip() for x in v)


def _is_pattern(v: Any) -> bool:
    try:
        re.compile(v)
    except (re.error, TypeError):
        return False
    return True


def grade(
    spec: Spec, text: str, answer: Any, task: Mapping[str, Any] | None = None, scorer: Scorer | None = None
) -> float:
    """Score of an answer text in [0, 1]; higher is better.

    Args:
        task: fields of the task, for ``python`` and ``judge`` (its ``input``).
        scorer: the generator file's ``score`` function, for ``python``; what runs the suite's evaluator, for ``program``.

    Raises:
        GraderError: the grader could not grade; never read this as 0.
    """
    validate(spec)
    kind = spec["kind"]
    if kind == "python":
        return _python(scorer, text, task or {})
    if kind == "program":
        return _program(scorer, text, task or {})
    if kind == "judge":
        return judge(spec, text, answer, str((task or {}).get("input", "")))
    if kind == "regex":
        return _regex(spec, text, answer)
    if kind == "json":
        return _json(text, answer, bool(spec.get("partial", False)))
    one = {"exact": _exact, "text": _text, "number": _number, "choice": _choice}[kind]
    golds = answer if isinstance(answer, list | tuple) else [answer]
    return max((one(spec, text, gold) for gold in golds), default=0.0)


def check(spec: Spec, text: str) -> bool:
    """Whether a text satisfies a public format rule; needs no answer.

    Raises:
        GraderError: the rule is malformed, or its pattern could not be run.
    """
    validate(spec, check_only=True)
    kind, stripped = spec["kind"], text.strip()
    if kind == "regex":
        return match(spec["pattern"], stripped, whole=True) is not None
    if kind == "number":
        return len(stripped) <= 400 and _NUMBER.fullmatch(stripped) is not None and any(c.isdigit() for c in stripped)
    if kind == "choice":
        return normalise(stripped) in {normalise(o) for o in spec.get("options", LETTERS)}
    value = first_json(text)
    return isinstance(value, dict) and all(k in value for k in spec["keys"])


def normalise(text: str) -> str:
    """NFKC, case-folded, punctuation dropped, spaces collapsed."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(" " if unicodedata.category(c).startswith("P") else c for c in folded).split())


def match(pattern: str, text: str, *, whole: bool = False) -> re.Match[str] | None:
    """Search (or fully match) with bounded input and, on the main thread, bounded time.

    Raises:
        GraderError: the text is too long, or the pattern takes too long on it.
    """
    if len(text) > MAX_TEXT:
        raise GraderError(f"the text has more than {MAX_TEXT} characters, too long for a pattern", value=len(text))
    compiled = re.compile(pattern)
    with deadline(PATTERN_SECONDS, f"the pattern {pattern!r}"):
        return compiled.fullmatch(text) if whole else compiled.search(text)


def _exact(_: Spec, text: str, gold: Any) -> float:
    return float(text.strip() == str(gold).strip())


def _text(_: Spec, text: str, gold: Any) -> float:
    return float(normalise(text) == normalise(str(gold)))


def numbers(text: str) -> list[Decimal]:
    """All numbers in a text: signs, decimals, exponents, commas between thousands."""
    found = []
    for m in _NUMBER.finditer(text[-MAX_TEXT:]):
        try:
            if any(c.isdigit() for c in m.group()):
                found.append(Decimal(m.group().replace(",", "").replace("\u2212", "-")))
        except InvalidOperation:
            continue
    return found


def _number(spec: Spec, text: str, gold: Any) -> float:
    wanted = numbers(str(gold))
    if len(wanted) != 1 or isinstance(gold, bool):
        raise GraderError(
            "the answer of a task scored by number is not one number", value=gold, todo="correct the task"
        )
    found = numbers(text)
    if not found or (spec.get("take", "last") == "only" and len(found) != 1):
        return 0.0
    target = wanted[0]
    allowed = max(Decimal(str(spec.get("tolerance", 0))), Decimal(str(spec.get("relative", 0))) * abs(target))
    return float(found[-1] == target or abs(found[-1] - target) <= allowed)


def _regex(spec: Spec, text: str, answer: Any) -> float:
    found = match(spec["pattern"], text)
    if found is None:
        return 0.0
    if "group" not in spec:
        return 1.0
    try:
        captured = found.group(spec["group"])
    except IndexError as e:
        raise GraderError("the pattern has no such group", value=spec["group"], todo="correct the scorer") from e
    return float(captured is not None and normalise(captured) == normalise(str(answer)))


def first_json(text: str) -> Any:
    """The first JSON value in a text (an object or array anywhere, or the whole text); ``None`` if there is none."""
    decoder, stripped = json.JSONDecoder(), text.strip()[:MAX_TEXT]
    try:
        return json.loads(stripped)
    except (ValueError, RecursionError):
        pass
    for m in list(re.finditer(r"[\[{]", stripped))[:200]:
        try:
            return decoder.raw_decode(stripped, m.start())[0]
        except (ValueError, RecursionError):
            continue
    return None


def same_json(a: Any, b: Any) -> bool:
    """Equal by value: 1 equals 1.0, but true does not equal 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same_json(x, y) for x, y in zip(a, b))
    return bool(a == b)


def _json(text: str, answer: Any, partial: bool) -> float:
    gold = first_json(answer) if isinstance(answer, str) else answer
    value = first_json(text)
    if partial and isinstance(gold, dict) and gold:
        if not isinstance(value, dict):
            return 0.0
        right = sum(k in value and same_json(value[k], gold[k]) for k in gold)
        return right / len(gold.keys() | value.keys())
    return float(value is not None and same_json(value, gold))


LETTERS = [chr(c) for c in range(ord("A"), ord("Z") + 1)]


def _pick(text: str, options: list[str]) -> int | None:
    plain = normalise(text)
    for i, option in enumerate(options):
        if plain in (normalise(option), LETTERS[i % 26].casefold()):
            return i
    head = text.strip()[:MAX_TEXT]
    patterns = (
        r"(?i:answer(?: is)?|choice|option)\s*[:=]?\s*[*_]*\(?([A-Z])\b",
        r"\(([A-Z])\)",
        r"\A[*_]*([A-Z])[).:]",
    )
    for pattern in patterns:
        letters = {m.group(1) for m in re.finditer(pattern, head)}
        if letters:
            i = ord(letters.pop()) - ord("A")
            return i if not letters and i < len(options) else None  # several letters are no answer
    return None


def _choice(spec: Spec, text: str, gold: Any) -> float:
    options = list(spec.get("options", LETTERS))
    wanted = _pick(str(gold), options)
    if wanted is None:
        raise GraderError("the answer of a choice task is not one of its options", value=gold, todo="correct the task")
    return float(_pick(text, options) == wanted)


def _python(scorer: Scorer | None, text: str, task: Mapping[str, Any]) -> float:
    if scorer is None:
        raise GraderError("the scorer is python, but the suite's file has no score(text, task)", todo="define it")
    try:
        with deadline(SCORER_SECONDS, "score(text, task)"):
            value = scorer(text, task)
    except GraderError:
        raise
    except Exception as e:
        raise GraderError(f"score(text, task) raised {type(e).__name__}: {e}", todo="correct the generator file") from e
    if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
        raise GraderError("score(text, task) must return a plain number in [0, 1]", value=value, todo="correct it")
    return float(value)


def _program(scorer: Scorer | None, text: str, task: Mapping[str, Any]) -> float:
    if scorer is None:
        raise GraderError("only a suite with an evaluator can grade a program", todo='source = "evaluator:tasks/NAME"')
    return float(scorer(text, task))
