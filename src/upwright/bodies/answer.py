"""How a body turns questions into answers: prompt, memory, sampling, choice, refinement.

The same code answers practice and sealed questions; it sees :class:`~upwright.records.Question`,
which holds no answer and no grader.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from upwright.bodies._recall import Recall
from upwright.bodies.body import Body, Inference
from upwright.bodies.runtimes.base import Completion, Message, Progress, Request, Runtime
from upwright.records import Answer, Question, derive_seed

Check = Callable[[Mapping[str, Any], str], bool]
"""``check(spec, text)``: whether a text satisfies a public format rule."""

REFINE = (
    "Look at your answer again. If it is wrong, or not in the form that was asked for, correct it. "
    "Reply with the final answer only."
)
"""What the body is told in a refinement round, after its own answer."""


def answer(
    body: Body,
    questions: Sequence[Question],
    seed: int,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    check: Check | None = None,
) -> list[Answer]:
    """Answer every question as the body's ``prompt.md``, ``memory.jsonl`` and ``inference.toml`` say.

    Args:
        seed: question q samples from ``derive_seed(seed, q.id)``, whatever else is asked.
        runtime: the body's loaded runtime; ``None`` loads it (and keeps it loaded).
        progress: told how many questions are done, of how many.
        check: judges a question's public format rule; ``None`` is the warden's own.

    Raises:
        BodyError: a part of the body is malformed.
        ModelError: the body's model cannot be loaded.
        RuntimeFailure: the whole batch could not be run. One question's failure is in its answer instead.
    """
    how, passes = body.inference, check or _warden_check
    chats = conversations(body, questions)
    rounds = 1 + how.refine
    requests = [_request(chat, derive_seed(seed, q.id), how.samples, how) for q, chat in zip(questions, chats)]
    drawn = _generate(body, runtime, requests, _scaled(progress, len(questions), 0, rounds))
    chosen = [_choose(completions, how.choose, q.check, passes) for q, completions in zip(questions, drawn)]
    shares = [_share(pick, completions) for pick, completions in zip(chosen, drawn)]
    spent = [list(completions) for completions in drawn]
    for number in range(1, rounds):
        again = [i for i, pick in enumerate(chosen) if pick.failure is None]
        seeds = [derive_seed(seed, questions[i].id, "refine", number) for i in again]
        turns = [(*chats[i], Message("assistant", chosen[i].text), Message("user", REFINE)) for i in again]
        requests = [_request(chat, s, 1, how) for chat, s in zip(turns, seeds)]
        refined = _generate(body, runtime, requests, _scaled(progress, len(questions), number, rounds))
        for i, (new,) in zip(again, refined):
            spent[i].append(new)
            if _improves(new, chosen[i], questions[i], passes):
                chosen[i] = new
    return [
        _answer(q, pick, share, costs, how.samples) for q, pick, share, costs in zip(questions, chosen, shares, spent)
    ]


def sample(
    body: Body,
    questions: Sequence[Question],
    k: int,
    seed: int,
    temperature: float,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
) -> list[list[Completion]]:
    """``k`` raw completions per question with the body's prompt and memory; no vote, no refinement.

    ``progress`` is told how many completions are done, of ``len(questions) * k``.

    Raises:
        As :func:`answer`.
    """
    how = body.inference
    requests = [
        Request(chat, derive_seed(seed, q.id), k, temperature, how.top_p, how.max_tokens)
        for q, chat in zip(questions, conversations(body, questions))
    ]
    return _generate(body, runtime, requests, progress)


def conversations(body: Body, questions: Sequence[Question]) -> list[tuple[Message, ...]]:
    """The chat that each question is asked in.

    System: the instructions, then recalled lessons, one a line (no system message when both are empty).
    Then the worked examples and the recalled cases as earlier turns, the most similar case last.
    """
    prompt, memory, shown = body.prompt, body.memory, body.inference.memory
    index = (
        Recall([m.input if m.kind == "case" else f"{m.input}\n{m.answer}" for m in memory])
        if shown and memory
        else None
    )
    worked = [turn for e in prompt.examples for turn in (Message("user", e.input), Message("assistant", e.answer))]
    if index is None:
        head = ([Message("system", prompt.instructions)] if prompt.instructions else []) + worked
        return [(*head, Message("user", question.input)) for question in questions]
    chats = []
    for question in questions:
        recalled = [memory[i] for i in index.nearest(question.input, shown)]
        lessons = [f"- {m.answer}" for m in recalled if m.kind == "lesson"]
        system = "\n".join(([prompt.instructions] if prompt.instructions else []) + lessons)
        turns = ([Message("system", system)] if system else []) + worked
        for case in recalled:
            if case.kind == "case":
                turns += [Message("user", case.input), Message("assistant", case.answer)]
        chats.append((*turns, Message("user", question.input)))
    return chats


def normalise(text: str) -> str:
    """What two answers must share to count as one vote: NFKC, case, spaces and a final full stop set aside."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(".").strip("\"'` ")


def _request(chat: tuple[Message, ...], seed: int, n: int, how: Inference) -> Request:
    return Request(chat, seed, n, how.temperature, how.top_p, how.max_tokens)


def _generate(
    body: Body, runtime: Runtime | None, requests: Sequence[Request], progress: Progress | None
) -> list[list[Completion]]:
    if not requests:
        return []
    if runtime is None:
        from upwright.bodies.runtimes import load

        runtime = load(body)
    return runtime.generate(requests, progress)


def _scaled(progress: Progress | None, questions: int, number: int, rounds: int) -> Progress | None:
    """Progress in questions, of one round among ``rounds``."""
    if progress is None:
        return None
    return lambda done, total: progress(int(questions * (number + done / max(total, 1)) / rounds), questions)


def _warden_check(spec: Mapping[str, Any], text: str) -> bool:
    from upwright.warden.errors import GraderError
    from upwright.warden.grader import check

    try:
        return check(spec, text)
    except GraderError:  # too long, or the pattern took too long: not in the form that was asked for
        return False


def _choose(completions: Sequence[Completion], how: str, spec: Mapping[str, Any] | None, check: Check) -> Completion:
    """One of the completions; a failed one only when all failed."""
    if len(completions) == 1:
        return completions[0]
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


def _share(pick: Completion, completions: Sequence[Completion]) -> float | None:
    """Share of the completions that did not fail which agree with the one chosen."""
    if pick.failure is not None or len(completions) == 1:
        return None
    usable = [normalise(c.text) for c in completions if c.failure is None]
    return usable.count(normalise(pick.text)) / len(usable)


def _improves(new: Completion, old: Completion, question: Question, check: Check) -> bool:
    """Whether a refined answer replaces the old one: it says something, and does not lose the asked-for form."""
    if new.failure is not None or not new.text.strip():
        return False
    return question.check is None or check(question.check, new.text) or not check(question.check, old.text)


def _answer(
    question: Question, pick: Completion, share: float | None, costs: Sequence[Completion], samples: int
) -> Answer:
    if len(costs) == 1:  # positional and without sums: most answers are one completion
        c = costs[0]
        return Answer(
            question.id, pick.text.strip(), pick.finish, c.prompt_tokens, c.completion_tokens, c.seconds, pick.logprob,
            share, samples, c.money, pick.failure,
        )  # fmt: skip
    return Answer(
        task_id=question.id,
        text=pick.text.strip(),
        finish=pick.finish,
        prompt_tokens=sum(c.prompt_tokens for c in costs),
        completion_tokens=sum(c.completion_tokens for c in costs),
        seconds=sum(c.seconds for c in costs),
        confidence=pick.logprob,
        vote_share=share,
        samples=samples,
        money=sum(c.money for c in costs),
        failure=pick.failure,
    )
