"""Reinforcement learning from verifiable rewards: sample in groups, reward what the task's own scorer confirms, push.

The champion's adapter goes on from where it is (a later round never refits from base). Questions are asked just as the
body asks them, with its instructions, examples and memory, so that the policy which is trained is the one that will
answer. Loss and steps are in :mod:`upwright.levers._grpo`, the loop and what ends it in
:mod:`upwright.levers._reinforce`, tasks and rewards in :mod:`upwright.levers._rollouts`.

The known failure is that it sharpens what the model could do anyway, or learns to please the reward. Against that: pass@1 and
pass@k (unbiased, Chen et al. 2021) before and after, on practice tasks that neither a step nor a look used, are in the
note with their standard errors and a reading; a fall of distinct answers and of pass@k together is refused as collapse; and
the reward is a setting, so that ``Grpo("format")`` and ``Grpo("random")`` are control arms: the same lever, looks and choice
of the best adapter, with a reward that knows nothing of the answer. What the task reward gains over those is what it taught
(Shao et al. 2025, *Spurious rewards*).

Answers with full marks that were trained on join ``model/adapter/data.jsonl``, once a question; every answer that
was trained on, also the wrong ones, is a line of ``model/adapter/rollouts.jsonl`` (this round's; earlier rounds' are in
the generations before). A control arm confirms nothing, so it adds nothing to the data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from upwright.bodies.body import Body, Training
from upwright.errors import BuildError
from upwright.levers._grpo import How, Tell, Writer
from upwright.levers._reinforce import Reinforced, reinforce
from upwright.levers._rollouts import (
    Exam,
    Item,
    Plan,
    Practising,
    Reward,
    ask,
    difference,
    examine,
    reading,
    render_rollouts,
)
from upwright.levers._search import fruitless, read_settings, worst
from upwright.levers.base import Built, Situation, Workshop
from upwright.levers.rejection import COLLAPSE, DATA, Datum, merge, read_data, render_data
from upwright.records import Cost, Proposal, Rung, derive_seed

ROLLOUTS = "model/adapter/rollouts.jsonl"
ATTEMPTS = 2
"""Attempts on one parent before the lever gives up on it."""
HEAT = 0.7
"""Temperature of the policy. At 1 a small model samples far below what it answers without sampling, and the first steps do no more than bring it up to there."""


@dataclass(frozen=True, slots=True)
class GrpoSettings:
    """Settings of a ``grpo`` proposal.

    Attributes:
        reward: ``task``, or the control arms ``format`` and ``random``.
        tasks: training tasks at hand; ``held``: for the looks; ``exam``: for before and after; none is in two of them.
        k: answers to each exam task, and the k of pass@k; ``tries``: answers to each held-out task at a look.
        plan: groups, answers and rehearsal of a rollout.
        weights: skill → emphasis: what its own samples could reach, pass@k − pass@1, else 1 − pass rate.
        how: how the policy is updated, and what ends the training.
        recipe: rank, layers and weight decay of a new adapter, and the share of rehearsal.
    """

    reward: Reward
    tasks: int
    held: int
    exam: int
    k: int
    plan: Plan
    weights: Mapping[str, float]
    how: How
    recipe: Training


class Grpo:
    """The ``grpo`` lever.

    Args:
        reward: ``format`` and ``random`` make a control arm, named ``grpo-format`` and ``grpo-random``.
    """

    parts: tuple[str, ...] = ("model/adapter/",)
    needs_weights = True
    seconds = 1200.0

    def __init__(self, reward: Reward = "task") -> None:
        self.reward: Reward = reward
        self.name = "grpo" if reward == "task" else f"grpo-{reward}"
        self.rung = _rung(reward)

    def propose(self, situation: Situation) -> Proposal | None:
        """The body's own LoRA recipe; after an attempt that failed, smaller and more steps."""
        weakness = worst(situation)
        attempt = len(fruitless(situation, self.name))
        if weakness is None or not situation.trainable or attempt >= ATTEMPTS:
            return None
        recipe, effort = situation.body.training, situation.effort
        steps = max(2, round(28 * effort * (1 + 0.5 * attempt)))
        plan = Plan(groups=5, answers=12, tries=4, share=recipe.rehearsal)
        settings = GrpoSettings(
            reward=self.reward, tasks=max(24, 2 * steps * plan.groups), held=max(8, round(48 * effort)),
            exam=max(8, round(48 * effort)), k=answers_per_task(effort), plan=plan, weights=reach(situation),
            how=How(
                steps=steps, learning_rate=0.7 * recipe.learning_rate / 2**attempt, tokens=round(500_000 * effort),
                temperature=HEAT,
            ),
            recipe=recipe,
        )  # fmt: skip
        kind = {
            "task": "what the checker confirms",
            "format": "the asked-for form (a control arm)",
            "random": "a coin (a control arm)",
        }
        return Proposal(
            lever=self.name,
            settings=msgspec.to_builtins(settings),
            reason=(
                f"{weakness.skill} passes {weakness.rate:.0%}: sample {plan.answers} answers a task, reward "
                f"{kind[self.reward]}, and make the better ones of each group likelier, {steps} times"
            ),
            author="upwright.levers.grpo",
            parent=situation.parent,
            seed=situation.rng.getrandbits(62),
            weakness=weakness.skill,
        )

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """Examine, train, examine again.

        Raises:
            BuildError: there are no weights, no task is within reach, no look was as good as the start, the training
                diverged, or the child collapsed.
        """
        settings = read_settings(proposal, GrpoSettings)
        if not parent.has("model/config.json"):
            raise BuildError("this body has no weights to train", todo="use the prompt, inference and memory levers")
        exam, source = _tasks(parent, settings, proposal.seed, workshop)
        total = 100 * (settings.how.steps + 2)

        def tell(done: float, note: str) -> None:
            workshop.progress(min(total, int(100 * done)), total, note)

        draw = (settings.k, proposal.seed, settings.how.temperature)
        before = _exam("before", parent, parent, exam, draw, workshop.scratch, tell)
        trained = reinforce(
            parent.root / "model", settings.recipe, settings.how, source, workshop.scratch,
            derive_seed(proposal.seed, "train"), lambda f, note: tell(1 + f, note),
        )  # fmt: skip
        if not trained.best:
            why = trained.stopped or "no look at the held-out tasks was as good as the start"
            raise BuildError(
                f"nothing was learned: {why}", value=list(trained.looks), todo="train less, or on other tasks"
            )
        lines = trained.source["lines"]
        changes: dict[str, bytes | Path | None] = {
            "model/adapter/adapter_config.json": (trained.adapter / "adapter_config.json").read_bytes(),
            "model/adapter/adapter_model.safetensors": trained.adapter / "adapter_model.safetensors",
            ROLLOUTS: render_rollouts(
                [{**line, "by": proposal.parent, "rung": _rung(settings.reward).value} for line in lines]
            ),
        }
        known = read_data(parent)
        fresh = confirmed(lines, workshop.practice.name, proposal.parent) if settings.reward == "task" else []
        if data := merge(known, fresh):
            changes[DATA] = render_data(data)
        child = workshop.variant(changes)
        after = _exam("after", child, parent, exam, draw, workshop.scratch,
                      lambda f, note: tell(1 + settings.how.steps + f, note))  # fmt: skip
        _refuse_collapse(before, after, settings.k)
        seed = derive_seed(proposal.seed, "as it answers")
        tasks = [item.task for item in exam]
        answered = [workshop.evaluate(body, tasks, seed).mean for body in (parent, child)]
        note = _note(settings, trained, (before, after), answered) | {
            "confirmed answers, new": len(data) - len(known), "start": "champion",
        }  # fmt: skip
        return Built(changes, _rung(settings.reward), note, Cost(tokens=trained.tokens))


def random_reward() -> Grpo:
    """The control arm whose reward is a coin."""
    return Grpo("random")


def format_reward() -> Grpo:
    """The control arm whose reward is the public format rule alone."""
    return Grpo("format")


def answers_per_task(effort: float) -> int:
    """The k of pass@k: a power of two from 8 to 64; 16 at effort 0.35, 32 at 1, 64 at 2."""
    return int(min(64, max(8, 2 ** round(math.log2(40 * effort)))))


def reach(situation: Situation) -> dict[str, float]:
    """Skill → how much its own samples could reach, greatest first; where that was not measured, what it fails."""
    found: dict[str, float] = {}
    for weakness in situation.weaknesses:
        room = 1.0 - weakness.rate if weakness.headroom is None else weakness.headroom
        found[weakness.skill] = max(found.get(weakness.skill, 0.0), round(room, 3))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def confirmed(lines: Sequence[Mapping[str, Any]], suite: str, by: str) -> list[Datum]:
    """Of each question of the suite, the full-marks answer that most samples agree on."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["suite"] == suite:
            groups.setdefault(line["input"], []).append(line)
    found = []
    for question, said in groups.items():
        right = Counter(line["answer"] for line in said if line["score"] >= 1.0)
        if right:
            text, votes = min(right.items(), key=lambda pair: (-pair[1], len(pair[0]), pair[0]))
            one, share = said[0], round(votes / len(said), 3)
            found.append(Datum(question, text, one["skill"], by, one["check"], Rung.EXECUTION.value, share))
    return found


def _rung(reward: Reward) -> Rung:
    """A control arm's answers were confirmed by nothing: the last rung there is."""
    return Rung.EXECUTION if reward == "task" else Rung.SELF


def _tasks(parent: Body, settings: GrpoSettings, seed: int, workshop: Workshop) -> tuple[list[Item], Practising]:
    """Exam tasks, and the source of the others; what the body was trained on before comes to neither exam nor looks."""
    known = {datum.input for datum in read_data(parent)}
    wanted = settings.exam + settings.held + settings.tasks
    pool = workshop.practice.draw(wanted + len(known), derive_seed(seed, "tasks"))
    items = [Item(task, workshop.practice) for task in sorted(pool, key=lambda t: t.input in known)[:wanted]]
    if len(items) < settings.exam + settings.held + settings.plan.groups:
        raise BuildError(
            "too few practice tasks to train on and to look at", value=len(items), todo="add practice tasks"
        )
    exam, rest = items[: settings.exam], items[settings.exam :]
    n = max(1, math.ceil(settings.tasks * settings.plan.share))
    rehearsal = [
        Item(task, suite)
        for suite in workshop.rehearsal
        for task in suite.draw(n, derive_seed(seed, "rehearsal", suite.name))
    ]
    held, learn = rest[: settings.held], rest[settings.held :]
    source = Practising(parent, (learn, rehearsal, held), settings.plan, settings.weights, settings.reward, seed)
    return exam, source


def _exam(
    name: str, body: Body, parent: Body, items: Sequence[Item], how: tuple[int, int, float], scratch: Path, tell: Tell
) -> Exam:
    """Sampled once, kept in scratch; the same seeds before and after."""
    kept = scratch / f"exam-{name}.json"
    if not kept.exists():
        k, seed, temperature = how
        found = ask(Writer(body.root, temperature), parent, items, k, derive_seed(seed, "exam"), tell)
        partial = kept.with_suffix(".tmp")
        partial.write_bytes(msgspec.json.encode(examine(items, found, k)))
        partial.replace(kept)
    return msgspec.json.decode(kept.read_bytes(), type=Exam)


def _refuse_collapse(before: Exam, after: Exam, k: int) -> None:
    was, now = _mean(before.distinct.values()), _mean(after.distinct.values())
    lost = difference(before.many, after.many)[0]
    if now < COLLAPSE * was and lost < 0:
        raise BuildError(
            f"stopped before collapse: fewer distinct answers and a lower pass@{k}",
            value={"distinct answers": [round(was, 2), round(now, 2)], f"pass@{k}": round(lost, 3)},
        )


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return sum(found) / max(1, len(found))


def _note(
    settings: GrpoSettings, trained: Reinforced, exams: tuple[Exam, Exam], answered: Sequence[float | None]
) -> dict[str, Any]:
    k = settings.k
    rows: dict[str, list[Mapping[str, float]]] = {
        "pass@1": [exam.one for exam in exams], f"pass@{k}": [exam.many for exam in exams],
        f"distinct answers of {k}": [exam.distinct for exam in exams],
    }  # fmt: skip
    held: dict[str, Any] = {
        name: {"before": round(_mean(a.values()), 4), "after": round(_mean(b.values()), 4)}
        for name, (a, b) in rows.items()
    }
    held["as it answers"] = dict(zip(("before", "after"), answered, strict=True))
    return {
        "reward": settings.reward,
        "exam": {"tasks": settings.exam, "k": k, "temperature": settings.how.temperature, **held},
        "reading": reading(*exams, k),
        "steps": trained.steps,
        "kept": f"the adapter after step {trained.best}",
        "ended early": trained.stopped,
        "looks, held-out pass@1": [list(look) for look in trained.looks],
        "watch": [dict(facts) for facts in trained.history],
        "answers trained on": len(trained.source["lines"]),
    }
