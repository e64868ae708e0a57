"""What kind of wrong a wrong answer is.

The rules are plain and are tried in this order:

1. *truncated*: the body was cut off by its token limit, and was not rambling: it wrote a sentence at most, or no more
   than :data:`RAMBLING` times what was wanted (a longer limit does not mend rambling; the other rules tell why);
2. *off task*: the text has no token of the kind that the answer consists of (no digit where a number
   is wanted, no brace where a record is, no shared word and no like shape where a text is), or is empty;
3. *wrong format*: the text fails the task's public check, or is not of the gold answer's shape;
4. *wrong value*: the form is right, the content is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from upwright.records import Answer, ErrorKind, Finish, Outcome, Task
from upwright.tasks.scorers import gold, passes
from upwright.warden.errors import GraderError

RAMBLING, SENTENCE = 3.0, 80
"""A text this many times as long as the gold answer, and longer than so many characters, was not going to be it."""
_NUMBER = re.compile(r"[-+]?\$?\s*\d[\d,]*(\.\d+)?%?")
_TOKEN = re.compile(r"[^\W_]+")


def classify(task: Task, said: Answer) -> ErrorKind:
    """The kind of an answer that did not get the full score."""
    text, wanted = said.text.strip(), gold(task).strip()
    if said.finish is Finish.LENGTH and len(text) <= max(SENTENCE, RAMBLING * len(wanted)):
        return ErrorKind.TRUNCATED
    if not text or off_task(text, wanted):
        return ErrorKind.OFF_TASK
    if not _keeps(task, text):
        return ErrorKind.WRONG_FORMAT
    if task.check is None and shape(text) != shape(wanted):
        return ErrorKind.WRONG_FORMAT
    return ErrorKind.WRONG_VALUE


def shares(tasks: Mapping[str, Task], outcomes: list[Outcome]) -> dict[str, float]:
    """Share of each kind among the wrong answers; sums to 1, empty when none is wrong.

    Args:
        tasks: by id; an outcome whose task is not there is left out.
    """
    kinds = [
        classify(tasks[o.task_id], o.answer)
        for o in outcomes
        if o.score is not None and o.score < 1.0 and o.task_id in tasks
    ]
    return {kind.value: kinds.count(kind) / len(kinds) for kind in ErrorKind if kind in kinds}


def cut_off(outcomes: list[Outcome]) -> dict[str, float]:
    """As :func:`shares`, when the tasks are not at hand: only cut-off answers can be told from the rest.

    The shares do not sum to 1; empty when no wrong answer was cut off.
    """
    wrong = [o.answer.finish for o in outcomes if o.score is not None and o.score < 1.0]
    n = wrong.count(Finish.LENGTH)
    return {ErrorKind.TRUNCATED.value: n / len(wrong)} if n else {}


def shape(text: str) -> str:
    """A coarse form: ``number``, ``json object``, ``json list``, ``code`` (digits and letters), ``word``, ``phrase``, ``prose``."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return "number"
    if text[:1] in "{[" and text:
        try:
            return "json object" if isinstance(json.loads(text), dict) else "json list"
        except (json.JSONDecodeError, RecursionError):
            return "prose"
    words = _TOKEN.findall(text)
    if " " not in text and any(c.isdigit() for c in text):
        return "code"
    if len(words) <= 1:
        return "word"
    return "phrase" if len(words) <= 6 and "\n" not in text else "prose"


def off_task(text: str, gold: str) -> bool:
    """Whether ``text`` has nothing of the kind of thing that ``gold`` is."""
    wanted = shape(gold)
    if wanted in ("number", "code"):
        return not any(c.isdigit() for c in text)
    if wanted.startswith("json"):
        return not any(c in text for c in "{[") and not _shared(text, gold)
    return not _shared(text, gold) and shape(text) != wanted


def _shared(text: str, gold: str) -> bool:
    mine, theirs = ({word.casefold() for word in _TOKEN.findall(t)} for t in (text, gold))
    return bool(mine & theirs)


def _keeps(task: Task, text: str) -> bool:
    try:
        return passes(task.check, text)
    except GraderError:
        return True
