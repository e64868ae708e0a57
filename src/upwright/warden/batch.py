"""One batch between its drawing and its last answer: questions out, answers in, retries, scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upwright.warden.errors import GraderError, Refusal
from upwright.warden.grader import Grade, match
from upwright.warden.trial import Item, Score, Trial
from upwright.warden.vault import SealedTask, Vault

KINDS = frozenset({"crash", "timeout", "refusal", "infrastructure"})
MOST_TEXT = 1_000_000
"""Longest answer, in characters, that the door takes."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one body said to one question: ``text``, or the ``failure`` kind."""

    text: str
    failure: str | None
    tokens: int


@dataclass(slots=True)
class Batch:
    """A drawn batch. The first text that arrives for a question stands; only failures may be answered again.

    Attributes:
        grades: (role, question id) → what an answer got, once :meth:`score` has run.
    """

    test: int
    phase: str
    number: int
    answer_seed: int
    tasks: dict[str, tuple[SealedTask, tuple[str, ...]]]
    given: dict[tuple[str, str], Given] = field(default_factory=dict)
    rounds: int = 0
    grades: dict[tuple[str, str], Grade] = field(default_factory=dict)

    @staticmethod
    def draw(trial: Trial, vault: Vault) -> Batch:
        """The next batch of a trial; the same one after a restart."""
        stamp, number = trial.stamp, trial.batches[trial.phase]
        tasks: dict[str, tuple[SealedTask, tuple[str, ...]]] = {}
        for suite, n in trial.wanted():
            first = trial.drawn[stamp.phase, suite]
            ask: tuple[str, ...] = ("child", "champion")
            if stamp.phase == "test" and suite != trial.objective and trial.anchor:
                ask = ("child", "champion", "anchor")
            for i in range(first, first + n):
                tasks[f"t{trial.number}-{stamp.phase}-{number}-{len(tasks)}"] = (vault.draw(suite, stamp, i), ask)
        return Batch(trial.number, stamp.phase, number, vault.answer_seed(stamp, number), tasks)

    def questions(self) -> list[dict[str, Any]]:
        """What leaves the warden: inputs and public checks."""
        return [
            {"id": qid, "suite": task.suite, "input": task.input, "check": task.check, "ask": list(ask)}
            for qid, (task, ask) in self.tasks.items()
        ]

    def take(self, answers: Mapping[str, Any]) -> None:
        """Merge answers ``{role: {question id: {"text", "failure", "tokens"}}}``.

        Raises:
            Refusal: an answer is malformed, unknown or missing; nothing is merged then.
        """
        merged = dict(self.given)
        wanted = {(role, qid) for qid, (_, ask) in self.tasks.items() for role in ask}
        if not isinstance(answers, Mapping):
            raise Refusal("answers must be {role: {question id: answer}}", value=type(answers).__name__)
        for role, by_question in answers.items():
            if not isinstance(by_question, Mapping):
                raise Refusal(
                    f"the answers of {role} must be {{question id: answer}}", value=type(by_question).__name__
                )
            for qid, raw in by_question.items():
                if (role, qid) not in wanted:
                    raise Refusal(
                        "an answer to a question that was not asked", value=(role, qid), todo="see next_inputs"
                    )
                new, old = _given(role, qid, raw), merged.get((role, qid))
                if old is None or old.failure is not None:
                    spent = new.tokens + (old.tokens if old else 0)
                    merged[role, qid] = Given(new.text, new.failure, spent)
        missing = sorted(wanted - merged.keys())
        if missing:
            raise Refusal(
                f"{len(missing)} answers are missing", value=missing[:3], todo="answer every question for every role"
            )
        self.given = merged
        self.rounds += 1

    def failures(self) -> list[list[str]]:
        """``[role, question id]`` of every answer that failed."""
        return [[role, qid] for (role, qid), g in sorted(self.given.items()) if g.failure is not None]

    def trouble(self) -> str:
        """Why the batch cannot be scored, or ``""``: infrastructure failed, or child and champion both did."""
        for qid, (_, ask) in self.tasks.items():
            failed = {role: self.given[role, qid].failure for role in ask}
            if "infrastructure" in failed.values():
                return "the infrastructure failed, so there is no score"
            if failed["child"] and failed["champion"]:
                return "child and champion both failed on the same task, so there is no score"
        return ""

    def veto(self, patterns: tuple[str, ...] | list[str]) -> str:
        """The first forbidden pattern in an answer of the child, or ``""``."""
        for (role, _), g in self.given.items():
            if role == "child":
                for pattern in patterns:
                    if match(pattern, g.text):
                        return pattern
        return ""

    def foreign(self, answers: object, bodies: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
        """The first answer that is not the program of the body that it speaks for: ``{"role", "paths"}``; ``None`` for none.

        Args:
            bodies: role → path → SHA-256 of the body's files, as committed.
        """
        asked = {(role, qid) for qid, (task, ask) in self.tasks.items() for role in ask if _runs(task)}
        checked: dict[tuple[str, str], list[str]] = {}
        for role, by_question in answers.items() if isinstance(answers, Mapping) else ():
            for qid, raw in by_question.items() if isinstance(by_question, Mapping) else ():
                text = raw.get("text") if isinstance(raw, Mapping) and raw.get("failure") is None else None
                if (role, qid) not in asked or not isinstance(text, str):
                    continue
                if (role, text) not in checked:
                    checked[role, text] = _strange(text, bodies.get(role, {}))
                if checked[role, text]:
                    return {"role": role, "paths": checked[role, text][:20]}
        return None

    def score(self, vault: Vault) -> list[Item]:
        """Scores in question order.

        Raises:
            GraderError, VaultError: there is no score.
        """
        asked = [(role, qid) for qid, (_, ask) in self.tasks.items() for role in ask]
        wanted = [key for key in asked if self.given[key].failure is None]
        grades = vault.grades([(self.tasks[qid][0], self.given[role, qid].text) for role, qid in wanted])
        self.grades = dict(zip(wanted, grades, strict=True))
        items = []
        for qid, (task, ask) in self.tasks.items():
            scores: dict[str, Score] = {
                role: self.grades[role, qid].score if (role, qid) in self.grades else None for role in ask
            }
            items.append(
                Item(
                    task.suite,
                    task.skill,
                    scores["child"],
                    scores["champion"],
                    scores.get("anchor"),
                    "anchor" in scores,
                )
            )
        return items

    def alarms(self) -> list[dict[str, str]]:
        """What looked like an attack in a run: ``{"role", "what"}``, each once."""
        found = {(role, what): None for (role, _), grade in self.grades.items() for what in grade.alarms}
        return [{"role": role, "what": what[:500]} for role, what in found]

    def entry(self, items: list[Item], objective: str, veto: str) -> dict[str, Any]:
        """Data of the ``batch`` entry."""
        drawn: dict[str, int] = {}
        tokens: dict[str, list[int]] = {}
        for qid, (task, ask) in self.tasks.items():
            drawn[task.suite] = drawn.get(task.suite, 0) + 1
            for role in ask if task.suite == objective else ():
                seen = tokens.setdefault(role, [0, 0])
                seen[0] += 1
                seen[1] += self.given[role, qid].tokens
        entry = {
            "test": self.test,
            "phase": self.phase,
            "batch": self.number,
            "items": [i.plain() for i in items],
            "drawn": drawn,
            "tokens": tokens,
            "spent": sum(g.tokens for g in self.given.values()),
            "veto": veto,
        }
        if any(_runs(task) for task, _ in self.tasks.values()):
            entry["runs"] = [self._facts(qid) for qid in self.tasks]
        if child := [alarm["what"] for alarm in self.alarms() if alarm["role"] == "child"]:
            entry["alarm"] = child[0]
        return entry

    def _facts(self, qid: str) -> dict[str, dict[str, Any]]:
        """Role → the metric of its run, and why one has none."""
        task, ask = self.tasks[qid]
        graded = {role: self.grades[role, qid] for role in ask if _runs(task) and (role, qid) in self.grades}
        return {role: {"metric": g.metric, **({"why": g.why[:200]} if g.why else {})} for role, g in graded.items()}


def _runs(task: SealedTask) -> bool:
    """Whether the answer to a task is a program that the warden runs."""
    return str(task.scorer["kind"]) == "program"


def _strange(text: str, files: Mapping[str, str]) -> list[str]:
    """Paths in which a program differs from the committed body's; empty when it is that one."""
    from upwright.warden.evaluator import digests, program_of

    try:
        found = {f"program/{path}": digest for path, digest in digests(program_of(text)).items()}
    except GraderError:
        return ["(the answer is no program)"]
    own = {path: digest for path, digest in files.items() if path.startswith("program/")}
    return sorted(path for path in found.keys() | own.keys() if found.get(path) != own.get(path))


def _given(role: str, qid: str, raw: object) -> Given:
    if not isinstance(raw, Mapping):
        raise Refusal("an answer must be {text, failure, tokens}", value=(role, qid))
    text, failure, tokens = raw.get("text"), raw.get("failure"), raw.get("tokens", 0)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 0 <= tokens < 2**53:
        raise Refusal("tokens must be a whole number, 0 or more", value=tokens)
    if failure is not None:
        kind = failure.get("kind") if isinstance(failure, Mapping) else failure
        if kind not in KINDS:
            raise Refusal("unknown kind of failure", value=kind, todo=f"known kinds: {sorted(KINDS)}")
        return Given("", str(kind), tokens)
    if not isinstance(text, str):
        raise Refusal("an answer without a failure needs a text", value=(role, qid))
    if len(text) > MOST_TEXT:
        raise Refusal(
            f"an answer is longer than {MOST_TEXT} characters", value=len(text), todo="report it as a failure"
        )
    return Given(text, None, tokens)
