"""Test-time compute: how many completions a question gets, of which kind, and which of them is its answer.

Without a threshold (``sure = 0``) every question gets the same: ``samples`` completions, a choice, ``refine`` rounds
(self-consistency, Wang et al. 2023; best-of-n; self-refinement, Madaan et al. 2023). With one, difficulty is told from how far
the first few samples agree (adaptive self-consistency, Aggarwal et al. 2023): a question whose answers agree is
settled, and only the others get what ``hard`` names: more samples, refinement, or a search over partial thoughts (Snell et al.
2024 choose among these by difficulty). The verifier is the task's public format check, then the vote, then the body's own
mean log-probability; no gold answer is ever at hand.

Departures: agreement is a plain share and not the posterior of Aggarwal et al.; the search scores a partial thought by
its log-probability and repetition, where Snell et al. train a process reward model; its steps are chat turns, so that it
runs on any endpoint.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from upwright.bodies._think import MARK, final, repetition, split
from upwright.bodies.body import Inference
from upwright.bodies.runtimes.base import Completion, Message, Progress, Request
from upwright.records import Question, derive_seed

Check = Callable[[Mapping[str, Any], str], bool]
"""``check(spec, text)``: whether a text satisfies a public format rule."""
Generate = Callable[[Sequence[Request], Progress | None], list[list[Completion]]]
"""Completes requests, as :meth:`~upwright.bodies.runtimes.base.Runtime.generate`."""

PROBE = 3
"""Samples from which difficulty is told."""
WIDTH, BRANCH, DEPTH = 2, 2, 3
"""Of the search: partial thoughts kept, ways in which each goes on, steps before the answer is asked for."""
REFINE = (
    "Look at your answer again. If it is wrong, or not in the form that was asked for, correct it. "
    "Reply with the final answer only."
)
"""What the body is told in a refinement round, after its own answer."""
STEP = f"Write only the next step, in one short line. Once you know the answer, write it on a line that begins with {MARK!r}"
END = f"Now write only the last line: {MARK!r} and the answer."
"""What the body is told between and after the steps of a search."""


@dataclass(slots=True)
class Case:
    """One question on its way to an answer.

    Attributes:
        drawn: candidates, thoughts taken off; ``spent``: everything that was generated for it.
        settled: whether the first samples agree enough for it to get no more.
    """

    question: Question
    chat: tuple[Message, ...]
    drawn: list[Completion] = field(default_factory=list)
    spent: list[Completion] = field(default_factory=list)
    pick: Completion | None = None
    share: float | None = None
    settled: bool = False

    def affords(self, how: Inference, wanted: int) -> int:
        """Completions of the usual length that the question may still have, at most ``wanted``."""
        if how.budget <= 0:
            return wanted
        written = [c.completion_tokens for c in self.spent]
        usual = max(1.0, sum(written) / max(1, len(written)))
        return max(0, min(wanted, int((how.budget - sum(written)) / usual)))


def solve(
    cases: Sequence[Case], how: Inference, seed: int, generate: Generate, check: Check, progress: Progress | None
) -> None:
    """Fill in every case's pick, its share of the vote, and what was spent on it."""
    adaptive = how.sure > 0 and how.samples > 1
    rounds = 1 + adaptive + (max(1, how.refine) if adaptive and how.hard == "refine" else how.refine)
    stage = _Stages(progress, len(cases), rounds)
    for case, found in zip(cases, generate(openings(cases, how, seed), stage.next())):
        _keep(case, found, how)
        case.settled = adaptive and _agree(case, check) >= how.sure
    hard = [case for case in cases if not case.settled]
    if adaptive:
        told = stage.next()
        if how.hard == "samples":
            _more(hard, how, seed, generate, told)
        elif how.hard == "beam":
            _beam(hard, how, seed, generate, (check, told))
    rule = "vote" if adaptive and how.choose == "first" else how.choose
    for case in cases:
        case.pick = choose(case.drawn, rule, case.question.check, check)
        case.share = share(case.pick, case.drawn)
    for number in range(1, stage.left + 1):
        _refine(hard, how, (seed, number), generate, (check, stage.next()))
    if progress is not None:
        progress(len(cases), len(cases))


def openings(cases: Sequence[Case], how: Inference, seed: int) -> list[Request]:
    """What is generated first, whatever comes of it: one request for each case."""
    first = min(PROBE, how.samples) if how.sure > 0 else how.samples
    return [_request(case.chat, derive_seed(seed, case.question.id), first, how) for case in cases]


class _Stages:
    """Progress in questions, over rounds of which each counts alike."""

    def __init__(self, progress: Progress | None, questions: int, rounds: int) -> None:
        self.progress, self.questions, self.rounds, self.at = progress, questions, rounds, 0

    @property
    def left(self) -> int:
        """Rounds that have not begun."""
        return self.rounds - self.at

    def next(self) -> Progress | None:
        """Progress of the next round."""
        number, self.at = self.at, self.at + 1
        if (told := self.progress) is None:
            return None
        return lambda done, total: told(
            int(self.questions * (number + done / max(total, 1)) / self.rounds), self.questions
        )


def _request(chat: tuple[Message, ...], seed: int, n: int, how: Inference) -> Request:
    return Request(chat, seed, n, how.temperature, how.top_p, how.max_tokens + how.think)


def _keep(case: Case, found: Sequence[Completion], how: Inference) -> None:
    case.spent += found
    case.drawn += [replace(c, text=final(c.text, how.think)) if how.think else c for c in found]


def _agree(case: Case, check: Check) -> float:
    """Share of the first samples that give the commonest answer; 0 where that is not in the form asked for."""
    if all(c.failure is not None for c in case.drawn):
        return 0.0
    pick = choose(case.drawn, "vote", None, check)
    wrong = case.question.check is not None and not check(case.question.check, pick.text)
    return 0.0 if wrong else share(pick, case.drawn) or 0.0


def _more(cases: Sequence[Case], how: Inference, seed: int, generate: Generate, progress: Progress | None) -> None:
    """The rest of the samples, as far as the budget goes."""
    wanted = [(case, case.affords(how, how.samples - PROBE)) for case in cases]
    able = [(case, n) for case, n in wanted if n > 0]
    requests = [_request(case.chat, derive_seed(seed, case.question.id, "more"), n, how) for case, n in able]
    for (case, _), found in zip(able, generate(requests, progress)):
        _keep(case, found, how)


def _refine(
    cases: Sequence[Case],
    how: Inference,
    which: tuple[int, int],
    generate: Generate,
    told: tuple[Check, Progress | None],
) -> None:
    """One round in which the body sees its own answer and may correct it."""
    (seed, number), (check, progress) = which, told
    again = [c for c in cases if c.pick is not None and c.pick.failure is None and c.affords(how, 1)]
    requests = []
    for case in again:
        assert case.pick is not None
        turns = (*case.chat, Message("assistant", case.pick.text), Message("user", REFINE))
        requests.append(_request(turns, derive_seed(seed, case.question.id, "refine", number), 1, how))
    for case, (new,) in zip(again, generate(requests, progress)):
        case.spent.append(new)
        said = replace(new, text=final(new.text, how.think))
        if case.pick is not None and improves(said, case.pick, case.question, check):
            case.pick = said


def _beam(
    cases: Sequence[Case], how: Inference, seed: int, generate: Generate, told: tuple[Check, Progress | None]
) -> None:
    """Search over partial thoughts: every answer that it reaches is one more candidate.

    In each step the kept thoughts go on in ``BRANCH`` ways; those that state an answer leave the search, and take a place of
    ``WIDTH`` with them when it is in the form asked for. After ``DEPTH`` steps the rest are asked for theirs.
    """
    check, progress = told
    frontier: list[list[tuple[str, ...]]] = [[()] for _ in cases]
    places = [WIDTH] * len(cases)
    for depth in range(DEPTH + 1):
        last = depth == DEPTH
        asked: list[tuple[int, tuple[str, ...]]] = []
        requests: list[Request] = []
        for i, case in enumerate(cases):
            for number, steps in enumerate(frontier[i]):
                ways = case.affords(how, 1 if last else BRANCH * (WIDTH if depth == 0 else 1))
                if ways:
                    asked.append((i, steps))
                    own = derive_seed(seed, case.question.id, "beam", depth, number)
                    most = (
                        how.max_tokens
                        if last
                        else max(12, (how.think or how.max_tokens) // DEPTH) + how.max_tokens // 2
                    )
                    requests.append(
                        Request(_turns(case.chat, steps, last), own, ways, how.temperature, how.top_p, most)
                    )
        if not requests:
            return
        grown: list[list[tuple[float, tuple[str, ...]]]] = [[] for _ in cases]
        for (i, steps), found in zip(asked, generate(requests, None)):
            case = cases[i]
            for said in found:
                case.spent.append(said)
                if said.failure is not None or not said.text.strip():
                    continue
                answer = split(said.text)[1]
                if answer is not None or last:
                    text = said.text.strip() if answer is None else answer
                    case.drawn.append(replace(said, text=text))
                    places[i] -= case.question.check is None or check(case.question.check, text)
                else:
                    grown[i].append((_promise(said), (*steps, said.text.strip())))
        for i, nodes in enumerate(grown):
            best = sorted(nodes, key=lambda node: -node[0])  # stable: equal ones in the order drawn
            frontier[i] = [steps for _, steps in best[: max(0, places[i])]]
        if progress is not None:
            progress(depth + 1, DEPTH + 1)


def _turns(chat: tuple[Message, ...], steps: Sequence[str], last: bool) -> tuple[Message, ...]:
    """The question, asked for a step or for the answer, with the steps so far as earlier turns."""
    asks = [STEP] * len(steps) + [END if last else STEP]
    turns = [*chat[:-1], Message("user", f"{chat[-1].content}\n\n{asks[0]}")]
    for step, ask in zip(steps, asks[1:]):
        turns += [Message("assistant", step), Message("user", ask)]
    return tuple(turns)


def _promise(step: Completion) -> float:
    """How far a step speaks for its thought, in (−1, 1]: the body's mean probability of its tokens, less what it repeats."""
    sure = 0.5 if step.logprob is None else math.exp(step.logprob)
    return sure - repetition(step.text)


def normalise(text: str) -> str:
    """What two answers must share to count as one vote: NFKC, case, spaces and a final full stop set aside."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(".").strip("\"'` ")


def choose(completions: Sequence[Completion], how: str, spec: Mapping[str, Any] | None, check: Check) -> Completion:
    """One of the completions; a failed one only when all failed."""
    usable = [c for c in completions if c.failure is None]
    if not usable:
        return completions[0]
    if how == "first" or len(usable) == 1:
        return usable[0]
    if how == "confidence":
        return max(usable, key=lambda c: float("-inf") if c.logprob is None else c.logprob)
    if how == "check" and spec is not None:
        usable = [c for c in usable if check(spec, c.text)] or usable
    votes = Counter(normalise(c.text) for c in usable)
    best = max(votes.values())
    return next(c for c in usable if votes[normalise(c.text)] == best)


def share(pick: Completion, completions: Sequence[Completion]) -> float | None:
    """Share of the completions that did not fail which agree with the one chosen."""
    if pick.failure is not None or len(completions) == 1:
        return None
    usable = [normalise(c.text) for c in completions if c.failure is None]
    return usable.count(normalise(pick.text)) / len(usable)


def improves(new: Completion, old: Completion, question: Question, check: Check) -> bool:
    """Whether a refined answer replaces the old one: it says something, and does not lose the asked-for form."""
    if new.failure is not None or not new.text.strip():
        return False
    return question.check is None or check(question.check, new.text) or not check(question.check, old.text)
