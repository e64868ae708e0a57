from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from upwright.bodies._compute import BRANCH, DEPTH, END, PROBE, REFINE, STEP, WIDTH
from upwright.bodies._think import CUE
from upwright.bodies.answer import answer, conversations, sample
from upwright.bodies.body import Body, Inference, Prompt, render_prompt, render_toml
from upwright.bodies.runtimes.base import Completion, Request
from upwright.records import Answer, Failure, FailureKind, Finish, Question

EASY, HARD = Question("e", "easy"), Question("h", "hard", {"kind": "regex", "pattern": r"\d+"})
Say = Callable[[Request, int], Any]


class Script:
    """Says what it is told; five tokens a completion."""

    name, trainable = "script", False

    def __init__(self, say: Say) -> None:
        self.say, self.requests = say, []

    def generate(self, requests: Any, progress: Any = None) -> list[list[Completion]]:
        self.requests += requests
        return [[self.one(r, j) for j in range(r.n)] for r in requests]

    def one(self, request: Request, sample: int) -> Completion:
        said = self.say(request, sample)
        if isinstance(said, FailureKind):
            return Completion("", None, failure=Failure(said, "told to"))
        text, logprob = said if isinstance(said, tuple) else (said, -0.5)
        return Completion(text, Finish.STOP, 10 if sample == 0 else 0, 5, logprob, 0.25, 0.01)

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def ask(
    root: Path, how: Inference, say: Say, *questions: Question, seen: list[Any] | None = None
) -> tuple[list[Answer], Script]:
    (root / "inference.toml").write_bytes(render_toml(how))
    (root / "prompt.md").write_bytes(render_prompt(Prompt("Be brief.")))
    script = Script(say)
    told = None if seen is None else lambda done, total: seen.append((done, total))
    return answer(Body(root), questions or (EASY, HARD), 1, script, told), script


def adaptive(hard: Any, samples: int = 6, **more: Any) -> Inference:
    return Inference(temperature=0.7, samples=samples, choose="check", sure=0.66, hard=hard, **more)


def disagree(request: Request, j: int) -> str:
    """Everybody agrees on the easy question; on the hard one three differ, and later samples say 7."""
    if request.messages[1].content.startswith("easy"):
        return "yes"
    return ["1", "2", "3"][j] if request.n == PROBE else "7"


# ---- thoughts -----------------------------------------------------------------------------------


def test_a_body_that_thinks_is_asked_to_and_its_answer_alone_counts(tmp_path: Path) -> None:
    how = Inference(think=30, max_tokens=10, samples=3, temperature=1.0, choose="vote")
    says = ["I add.\nAnswer: 7", "I count.\nAnswer: 7.", "8"]
    (said,), script = ask(tmp_path, how, lambda r, j: says[j], EASY)
    assert (said.text, said.vote_share, said.completion_tokens) == ("7", pytest.approx(2 / 3), 15)
    (request,) = script.requests
    assert request.max_tokens == 40
    assert request.messages[0].content == f"Be brief.\n{CUE}"
    assert [m.content for m in conversations(Body(tmp_path), [EASY])[0]] == [f"Be brief.\n{CUE}", "easy"]
    ((raw, *_),) = sample(Body(tmp_path), [EASY], 3, 1, 1.0, Script(lambda r, j: says[j]))
    assert raw.text == "I add.\nAnswer: 7", "what trainers see is whole"


def test_a_refined_thought_is_taken_off_too(tmp_path: Path) -> None:
    says = iter(["I add.\nAnswer: 6", "Wrong.\nAnswer: 7"])
    (said,), script = ask(tmp_path, Inference(think=30, refine=1), lambda r, j: next(says), EASY)
    assert said.text == "7"
    assert [m.content for m in script.requests[1].messages[-2:]] == ["6", REFINE]


# ---- by difficulty ------------------------------------------------------------------------------


def test_only_disagreement_gets_more_samples(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (easy, hard), script = ask(tmp_path, adaptive("samples", samples=7), disagree, seen=seen)
    assert [(r.messages[1].content, r.n) for r in script.requests] == [("easy", 3), ("hard", 3), ("hard", 4)]
    assert (easy.text, easy.samples, easy.completion_tokens) == ("yes", 3, 15)
    assert (hard.text, hard.samples, hard.vote_share) == ("7", 7, 4 / 7)
    assert script.requests[1].seed != script.requests[2].seed
    assert seen == sorted(seen)
    assert seen[-1] == (2, 2)


def test_agreement_on_a_form_that_was_not_asked_for_settles_nothing(tmp_path: Path) -> None:
    (hard,), _ = ask(tmp_path, adaptive("samples"), lambda r, j: "seven" if r.n == 3 and j < 4 else "7", HARD)
    assert hard.samples == 6


def test_without_a_threshold_everybody_gets_all(tmp_path: Path) -> None:
    _, script = ask(tmp_path, Inference(samples=6, temperature=1.0, hard="beam"), disagree)
    assert [r.n for r in script.requests] == [6, 6]


def test_a_failed_probe_is_hard_and_a_failed_question_stays_one(tmp_path: Path) -> None:
    how = adaptive("samples", samples=7)
    (said,), _ = ask(tmp_path, how, lambda r, j: FailureKind.CRASH if r.n == PROBE else "7", EASY)
    assert (said.text, said.vote_share) == ("7", 1.0)
    for hard in ("samples", "refine", "beam"):
        (lost,), _ = ask(tmp_path, adaptive(hard), lambda r, j: FailureKind.TIMEOUT, EASY)
        assert lost.failure is not None
        assert lost.failure.kind is FailureKind.TIMEOUT


def test_only_disagreement_is_refined(tmp_path: Path) -> None:
    def say(request: Request, j: int) -> str:
        return "9" if request.messages[-1].content == REFINE else disagree(request, j)

    (easy, hard), script = ask(tmp_path, adaptive("refine", samples=3), say)
    assert (easy.text, hard.text) == ("yes", "9")
    assert sum(r.messages[-1].content == REFINE for r in script.requests) == 1


def test_the_budget_ends_it(tmp_path: Path) -> None:
    """15 tokens are written by the first three samples: 25 leave room for two more, 16 for none."""
    (two,), _ = ask(tmp_path, adaptive("samples", budget=25), disagree, HARD)
    assert two.samples == 5
    for hard in ("samples", "refine", "beam"):
        (none,), script = ask(tmp_path, adaptive(hard, budget=16), disagree, HARD)
        assert (none.samples, len(script.requests)) == (3, 1)


# ---- search -------------------------------------------------------------------------------------


def steps(request: Request) -> list[str]:
    return [m.content for m in request.messages if m.role == "assistant"]


def test_the_search_follows_the_surer_thought(tmp_path: Path) -> None:
    """First steps of four qualities; only what follows the surest two is asked for, and their answer wins by check."""

    def say(request: Request, j: int) -> Any:
        if request.n == PROBE and STEP not in request.messages[-1].content:
            return ["a", "b", "c"][j]
        if not steps(request):
            return (f"step {j}", [-2.0, -0.1, -1.0, -0.2][j])
        return f"Answer: {'37' if steps(request)[0] == 'step 1' else 'none'}"

    (said,), script = ask(tmp_path, adaptive("beam"), say, HARD)
    first = [r for r in script.requests if STEP in r.messages[-1].content and not steps(r)]
    assert [r.n for r in first] == [WIDTH * BRANCH]
    assert {steps(r)[0] for r in script.requests if steps(r)} == {"step 1", "step 3"}
    assert said.text == "37"


def test_the_search_ends_by_asking_for_the_answer(tmp_path: Path) -> None:
    def say(request: Request, j: int) -> Any:
        if request.messages[-1].content == END:
            return "Answer: 37" if len(steps(request)) == DEPTH else "early"
        return f"{len(steps(request))} {j} more"

    (said,), script = ask(tmp_path, adaptive("beam"), say, HARD)
    assert said.text == "37"
    ends = [r for r in script.requests if r.messages[-1].content == END]
    assert 0 < len(ends) <= WIDTH
    assert all(len(steps(r)) == DEPTH for r in ends)
    assert said.samples == PROBE + len(ends), "partial thoughts are no candidates"
    assert said.completion_tokens == 5 * sum(r.n for r in script.requests), "and are paid for"


def test_a_thought_that_repeats_itself_is_left(tmp_path: Path) -> None:
    def say(request: Request, j: int) -> Any:
        if request.n == PROBE and STEP not in request.messages[-1].content:
            return ["a", "b", "c"][j]
        if not steps(request):
            return ("so it is " * 9, -0.05) if j < 2 else (f"step {j}", -0.9)
        return "Answer: 1"

    _, script = ask(tmp_path, adaptive("beam"), say, HARD)
    assert {steps(r)[0] for r in script.requests if steps(r)} == {"step 2", "step 3"}


def test_the_same_seed_the_same_requests(tmp_path: Path) -> None:
    for hard in ("samples", "refine", "beam"):
        (_, one), (_, two) = (ask(tmp_path, adaptive(hard), disagree) for _ in range(2))
        assert one.requests == two.requests
