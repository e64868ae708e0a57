"""Policy-gradient steps of a LoRA adapter on groups of rewarded answers: GRPO, on-policy; the loop is in _reinforce.py.

Variant: GRPO (Shao et al. 2024, DeepSeekMath) with the group-normalised advantage ``(r − mean) / std``, and of DAPO (Yu et
al. 2025) the loss as a mean over tokens, the higher upper clip and dynamic sampling (groups without variance are replaced,
see :mod:`upwright.levers._rollouts`). Unlike DAPO it keeps GRPO's penalty on the divergence from the champion: the k3
estimator (Schulman 2020), weighted by the ratio so that its gradient stays unbiased after the first update (DeepSeek-V3.2).

TRL's ``GRPOTrainer`` has the same loss (a test holds the two together, advantages, loss and gradients), and is not used here:
it asks for its rollouts one fixed batch at a time, so groups cannot be replaced before the loss; it forgets the rollout in
hand when it is interrupted, so training would not go on to the same weights; and its own generation is 2.5 times slower on
a CPU than the runtime's decoder, which samples here. Three more departures: logits at answer tokens alone (as in
:mod:`upwright.levers._sft`); optimiser and weights in float32 beside a bfloat16 adapter (:mod:`upwright.levers._steps`); no
dropout, so that the first ratio of every rollout is one.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upwright.bodies.body import Body, Training
from upwright.bodies.runtimes.base import Message, Request
from upwright.levers._branches import collate
from upwright.levers._parallel import MOST, shared
from upwright.levers._sft import _save
from upwright.levers._steps import MICRO, Adapter, logps, picked, said_logits
from upwright.records import derive_seed

Tell = Callable[[float, str], None]
"""Told what part of the work at hand is done, in [0, 1], and what is being done; may raise to stop."""


@dataclass(frozen=True, slots=True)
class How:
    """How the policy is updated, and when the training ends itself.

    Attributes:
        steps: rollouts; ``updates``: optimiser steps on each, every group in one of them.
        learning_rate: of AdamW, constant.
        clip_low, clip_high: the ratio is clipped to [1 − low, 1 + high].
        kl: weight of the divergence from the champion, in the unit of the advantage per nat.
        looks: how often the held-out pass rate is measured, beside the start.
        most_kl: nats per token from the champion at which it stops.
        least_entropy: share of the first rollout's entropy below which it stops.
        drop: fall of the held-out pass rate below its best at which it stops, when it is also beyond one standard error.
        tokens: rollout tokens (prompt and answer) after which no further step is begun.
        temperature: of the policy, in sampling and in the loss alike, as in TRL. Below 1 its samples are nearer to the answers that
            it gives without sampling, so what they teach reaches those.
    """

    steps: int = 8
    updates: int = 4
    learning_rate: float = 3e-4
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.02
    looks: int = 2
    most_kl: float = 0.5
    least_entropy: float = 0.2
    drop: float = 0.05
    tokens: int = 100_000
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Written:
    """One sampled answer.

    Attributes:
        prompt, tokens: ids; ``tokens`` ends with the token that ended the turn, unless it was cut off.
        logprob: sum over ``tokens`` in nats at temperature 1, as the decoder saw it.
    """

    prompt: Sequence[int]
    tokens: Sequence[int]
    text: str
    logprob: float
    stopped: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The answers to one question, all of one prompt, and what each is worth to the policy (same order, see :func:`advantages`)."""

    written: Sequence[Written]
    advantages: Sequence[float]


class Writer:
    """Answers sampled from the weights in ``root/model/``, by the runtime's batched decoder, at the policy's temperature, top-p 1.

    Any other temperature would make the samples another policy's than the one that is trained.
    """

    def __init__(self, root: Path, temperature: float = 1.0) -> None:
        from upwright.bodies.runtimes.transformers import TransformersRuntime

        self.runtime, self.temperature = TransformersRuntime(Body(root)), temperature

    def write(
        self, asks: Sequence[tuple[tuple[Message, ...], int]], n: int, max_tokens: int, tell: Tell
    ) -> list[list[Written]]:
        """``n`` answers to each (conversation, seed); one that failed is left out."""
        requests = [Request(chat, seed, n, self.temperature, 1.0, max_tokens) for chat, seed in asks]
        rows, _ = self.runtime.write(requests, lambda done, total: tell(done / max(1, total), "sampling"))
        found: list[list[Written]] = [[] for _ in asks]
        for row, text in zip(rows, self.runtime.texts(rows), strict=True):
            if row.error is None:
                found[row.request].append(Written(row.prompt, tuple(row.tokens), text, row.logprob, row.stopped))
        return found


def advantages(rewards: Sequence[float]) -> list[float]:
    """``(r − mean) / (std + 1e-4)`` within one group, std with n − 1 (Shao et al. 2024, section 4.1.2; TRL's constants)."""
    n = len(rewards)
    mean = math.fsum(rewards) / n
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / max(1, n - 1))
    return [(r - mean) / (std + 1e-4) for r in rewards]


def policy_loss(new: Any, old: Any, reference: Any, advantage: Any, how: How) -> tuple[Any, Any]:
    """The clipped objective with its penalty, to be minimised.

    Args:
        new, old, reference: log-probability of every answer token under the policy now (with gradient), the policy that
            wrote it, and the champion; nats, shape (answer tokens,).
        advantage: of the answer that each token is in, shape (answer tokens,).

    Returns:
        sum over tokens (a scalar; the caller divides by the tokens of the update); how many tokens were clipped.
    """
    import torch

    ratio = torch.exp(new - old)
    inside = ratio.clamp(1 - how.clip_low, 1 + how.clip_high)
    k3 = torch.exp(reference - new) - (reference - new) - 1
    loss = -torch.min(ratio * advantage, inside * advantage) + how.kl * ratio * k3
    clipped = ((ratio < 1 - how.clip_low) & (advantage < 0)) | ((ratio > 1 + how.clip_high) & (advantage > 0))
    return loss.sum(), clipped.sum()


@dataclass(frozen=True, slots=True)
class _Micro:
    """Rows of one forward pass, collated, with their advantages per token and what the decoder said of each row."""

    batch: dict[str, Any]
    advantage: Any
    lengths: list[int]
    decoded: list[float]


class Policy(Adapter):
    """An adapter in training, beside the champion that it may not stray from.

    Args:
        model_dir: the champion's ``model/``; training goes on from its ``adapter/`` if there is one.
        root: where the current policy is laid out as a body to sample from.
    """

    def __init__(self, model_dir: Path, recipe: Training, how: How, seed: int, root: Path) -> None:
        from upwright.bodies.runtimes import _weights

        super().__init__(model_dir, recipe, how.learning_rate, seed)
        self.how, self.seed, self.root = how, seed, root
        self.champion = _weights.load(model_dir, self.dtype, self.device)
        self._writer: Writer | None = None
        shutil.rmtree(root, ignore_errors=True)
        (root / "model").mkdir(parents=True)
        for file in model_dir.iterdir():
            if file.is_file():
                (root / "model" / file.name).symlink_to(file.resolve())

    def writer(self) -> Writer:
        """Samples of the policy as it is now: its adapter merged into the weights, as a child of it would be run."""
        if self._writer is None:
            _save(self.model, self.root / "model" / "adapter")
            self._writer = Writer(self.root, self.how.temperature)
        return self._writer

    def _to_model(self) -> None:
        super()._to_model()
        self._writer = None

    def update(self, groups: Sequence[Group], step: int, tell: Tell) -> dict[str, float]:
        """``how.updates`` optimiser steps on one rollout; returns what was watched, measured before the first of them.

        Raises:
            BuildError: the loss or its gradient is not a number.
        """
        plan = self._plan(groups, step)
        parts = [micro for batch in plan for micro in batch]
        norms: list[float] = []
        with shared(len(parts), self.device.type == "cpu") as shards:
            each = map if shards is None else shards.map
            old, entropy, reference, plain = [], [], [], []
            for i, (said, entropies, champion, at_one) in enumerate(each(self._weigh, parts)):
                tell(0.4 * i / len(parts), "weighing")
                old.append(said)
                entropy.append(entropies)
                reference.append(champion)
                plain.append(at_one)
            watched = _watched(old, reference, entropy) | {"decoder gap": _gap(parts, plain)}
            clipped, at = 0, 0
            for batch in plan:
                tokens = sum(sum(micro.lengths) for micro in batch)
                jobs = [(micro, old[at + i], reference[at + i], tokens) for i, micro in enumerate(batch)]
                for grads, out in each(self._gradients, jobs):
                    tell(0.4 + 0.6 * at / len(parts), "training")
                    self.gather(grads)
                    clipped += out
                    at += 1
                norms.append(self.descend())
        total = sum(sum(micro.lengths) for micro in parts)
        return watched | {"clipped": round(clipped / total, 4), "gradient": round(sum(norms) / len(norms), 4)}

    def _weigh(self, micro: _Micro) -> tuple[Any, Any, Any, Any]:
        """Log-probabilities and entropy of the policy, log-probabilities of the champion, and the policy's at temperature 1."""
        import torch

        heat = self.how.temperature
        with torch.no_grad():
            logits, tokens = said_logits(self.model, micro.batch)
            said, entropies = picked(logits, tokens, True, heat)
            at_one = said if heat == 1.0 else picked(logits, tokens)[0]
            return said, entropies, logps(self.champion, micro.batch, temperature=heat)[0], at_one

    def _gradients(self, job: tuple[_Micro, Any, Any, int]) -> tuple[Sequence[Any], int]:
        """Of one forward pass's share of the loss, and how many of its tokens were clipped."""
        import torch

        micro, old, reference, tokens = job
        new = logps(self.model, micro.batch, temperature=self.how.temperature)[0]
        loss, out = policy_loss(new, old, reference, micro.advantage, self.how)
        return torch.autograd.grad(loss / tokens, self.weights), int(out)

    def _plan(self, groups: Sequence[Group], step: int) -> list[list[_Micro]]:
        """Groups shuffled over the updates, whole; within one, alike lengths together."""
        order = list(groups)
        random.Random(derive_seed(self.seed, "groups", step)).shuffle(order)
        updates = min(self.how.updates, len(order))
        plan = []
        for part in (sorted(order[i::updates], key=_length) for i in range(updates)):
            most = max(1, min(MICRO // _length(part[-1]), math.ceil(len(part) / MOST)))  # alike work for every thread
            plan.append([self._micro(part[i : i + most]) for i in range(0, len(part), most)])
        return plan

    def _micro(self, groups: Sequence[Group]) -> _Micro:
        import torch

        batch = collate([(group.written[0].prompt, [w.tokens for w in group.written]) for group in groups])
        rows = [(w, a) for group in groups for w, a in zip(group.written, group.advantages, strict=True)]
        lengths = [len(w.tokens) for w, _ in rows]
        spread = [a for (_, a), n in zip(rows, lengths) for _ in range(n)]
        return _Micro(batch, torch.tensor(spread, device=self.device), lengths, [w.logprob for w, _ in rows])


def _length(group: Group) -> int:
    return len(group.written[0].prompt) + sum(len(w.tokens) for w in group.written)


def _watched(old: Sequence[Any], reference: Sequence[Any], entropy: Sequence[Any]) -> dict[str, float]:
    """Entropy and divergence from the champion, in nats per token, at the policy's temperature."""
    import torch

    logs, ref = torch.cat(list(old)), torch.cat(list(reference))
    k3 = torch.exp(ref - logs) - (ref - logs) - 1
    facts = {"entropy": torch.cat(list(entropy)).mean(), "kl": k3.mean()}
    return {name: round(float(value), 4) for name, value in facts.items()}


def _gap(parts: Sequence[_Micro], plain: Sequence[Any]) -> float:
    """How far decoder and trainer disagree, in nats per token at temperature 1."""
    sums = [float(one.sum()) for micro, part in zip(parts, plain) for one in part.split(micro.lengths)]
    decoded = [value for micro in parts for value in micro.decoded]
    tokens = sum(sum(micro.lengths) for micro in parts)
    return round(sum(abs(a - b) for a, b in zip(sums, decoded, strict=True)) / tokens, 4)
