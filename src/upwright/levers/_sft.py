"""Supervised fine-tuning of a LoRA adapter with TRL and PEFT: the one trainer that the weight levers share.

The examples are conversations with one answer; only the answer's tokens carry loss. Three departures from
``SFTTrainer`` as it comes, each for speed on a CPU and none for the result: logits are computed at the answer's tokens
alone (a vocabulary of 49,152 otherwise costs a quarter of the forward pass), attention is ``eager`` (the fused CPU
kernel's backward pass takes half of the step for such short rows), and rows are grouped by length before the order is
shuffled. On bf16 hardware the adapter is bf16 too (a float32 one costs a cast for each of its layers).

LoRA: Hu et al. 2021. Interrupted training goes on from its last checkpoint to the same weights.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upwright.bodies.body import Training
from upwright.bodies.runtimes.base import Message
from upwright.errors import BuildError, MissingExtra

Step = Callable[[int, int, str], None]
Prune = Callable[[int, float], str]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CHECKPOINT_EVERY = 20
"""Steps between checkpoints of an unfinished training."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training example: a conversation whose last turn is the user's, and the answer to learn."""

    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Trial:
    """How a short trial is judged.

    Attributes:
        judge: examples to measure held-out loss on.
        prune: told (steps done, held-out loss in nats) at each third; a reason ends the training.
    """

    judge: Sequence[Lesson]
    prune: Prune


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training did.

    Attributes:
        adapter: directory with ``adapter_config.json`` and ``adapter_model.safetensors``.
        losses: mean loss per answer token, in nats, at each logged step.
        held_out: the same on examples that were not trained on, before each third and at the end.
        stopped: why it ended before its last step, or an empty string.
    """

    adapter: Path
    steps: int
    tokens: int
    losses: tuple[float, ...]
    held_out: tuple[float, ...]
    stopped: str


def fine_tune(
    model_dir: Path,
    lessons: Sequence[Lesson],
    recipe: Training,
    scratch: Path,
    seed: int,
    step: Step,
    trial: Trial | None = None,
) -> Trained:
    """Train an adapter of the weights in ``model_dir`` on ``lessons``.

    Args:
        model_dir: a body's ``model/``; its ``adapter/`` is the start when ``recipe.start`` is ``champion``.
        scratch: a directory of this training's own; checkpoints go there.
        step: told (steps done, steps in all, note) after every step; may raise to stop.
        trial: what a short trial is judged by; by default a twelfth of ``lessons`` is held out.

    Raises:
        BuildError: there is too little to train on, or the loss is not a number.
        MissingExtra: torch, transformers, trl or peft is not installed.
    """
    if len(lessons) < 2:
        raise BuildError("too few examples to train on", value=len(lessons), todo="add practice tasks")
    try:
        import torch
        from transformers import AutoTokenizer
        from trl import SFTConfig
    except ImportError as error:
        raise MissingExtra(error.name or "trl", "models") from None
    from upwright.bodies.runtimes import _weights

    device = _weights.device()
    dtype = _weights.fast_dtype(device)
    torch.manual_seed(seed % 2**31)
    tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    rows = [_tokens(tokenizer, lesson) for lesson in lessons]
    rng = random.Random(seed)
    rng.shuffle(rows)
    held = [_tokens(tokenizer, one) for one in (trial.judge if trial else ())]
    if not held:
        held = rows[: max(1, min(24, len(rows) // 12))]
        rows = rows[len(held) :]
    steps = max(1, round(len(rows) * recipe.epochs / recipe.batch))
    ordered = _order(rows, recipe.batch, steps, rng)
    model = _adapted(model_dir, recipe, dtype, device)
    watch = _Watch(held, tokenizer.pad_token_id, steps, step, trial.prune if trial else _rising)
    config = SFTConfig(
        output_dir=str(scratch / "checkpoints"), per_device_train_batch_size=recipe.batch, max_steps=steps,
        learning_rate=recipe.learning_rate, lr_scheduler_type=recipe.schedule, weight_decay=recipe.weight_decay,
        warmup_steps=max(1, round(recipe.warmup * steps)), logging_steps=max(1, steps // 12),
        save_strategy="steps", save_steps=CHECKPOINT_EVERY, save_total_limit=1, report_to=[], seed=seed % 2**31,
        bf16=False, fp16=False, gradient_checkpointing=False, disable_tqdm=True, use_cpu=device.type == "cpu",
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, max_length=None,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = _trainer(model, config, ordered, tokenizer, watch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train(resume_from_checkpoint=_last_checkpoint(scratch / "checkpoints"))
    losses = tuple(round(float(h["loss"]), 4) for h in trainer.state.log_history if "loss" in h)
    if any(not math.isfinite(x) for x in losses):
        raise BuildError(
            "the training diverged: its loss is not a number", value=losses[-3:], todo="lower learning_rate"
        )
    out = scratch / "adapter"
    shutil.rmtree(out, ignore_errors=True)
    _save(trainer.model, out)
    done = int(trainer.state.global_step)
    read = sum(len(ids) for ids, _ in ordered[: done * recipe.batch])
    return Trained(out, done, read, losses, tuple(watch.held_losses), watch.stopped)


def _tokens(tokenizer: Any, lesson: Lesson) -> tuple[list[int], int]:
    """Token ids of prompt + answer + end of turn, and how many of them are prompt."""
    from upwright.bodies.runtimes.transformers import render

    prompt = tokenizer(render(tokenizer, lesson.messages), add_special_tokens=False).input_ids
    answer = tokenizer(lesson.answer, add_special_tokens=False).input_ids
    return [*prompt, *answer, tokenizer.eos_token_id], len(prompt)


def _order(
    rows: list[tuple[list[int], int]], batch: int, steps: int, rng: random.Random
) -> list[tuple[list[int], int]]:
    """``steps × batch`` rows: epoch after epoch, alike lengths together, batches shuffled."""
    ordered: list[tuple[list[int], int]] = []
    while len(ordered) < steps * batch:
        epoch = rows[:]
        rng.shuffle(epoch)
        window = batch * 8
        for start in range(0, len(epoch), window):
            epoch[start : start + window] = sorted(epoch[start : start + window], key=lambda row: len(row[0]))
        batches = [epoch[s : s + batch] for s in range(0, len(epoch), batch)]
        rng.shuffle(batches)
        ordered += [row for group in batches for row in group]
    return ordered[: steps * batch]


def _adapted(model_dir: Path, recipe: Training, dtype: Any, device: Any) -> Any:
    """The base weights with a LoRA adapter on top: a new one, or the body's own to go on with."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=dtype, local_files_only=True, attn_implementation="eager"
    ).to(device)
    base.config.use_cache = False
    own = model_dir / "adapter"
    if recipe.start == "champion" and (own / "adapter_config.json").exists():
        return PeftModel.from_pretrained(base, str(own), is_trainable=True, autocast_adapter_dtype=False)
    depth = int(base.config.num_hidden_layers)
    first = depth - max(1, round(recipe.layers * depth))
    config = LoraConfig(
        r=recipe.rank, lora_alpha=round(recipe.alpha_ratio * recipe.rank), lora_dropout=recipe.dropout,
        target_modules=list(TARGETS), layers_to_transform=list(range(first, depth)), task_type="CAUSAL_LM",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(base, config, autocast_adapter_dtype=False)


def _collate(rows: Sequence[tuple[list[int], int]], pad: int) -> dict[str, Any]:
    """Right-padded ``input_ids``, ``attention_mask`` and ``labels``, each [rows, longest]."""
    import torch

    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), -100)
    for i, (row, prompt) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        labels[i, prompt : len(row)] = torch.tensor(row[prompt:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _answer_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Mean cross-entropy, in nats, over the answer tokens of a batch (a scalar)."""
    import torch

    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = next(causal.parameters()).device
    ids, mask, labels = (batch[k].to(device) for k in ("input_ids", "attention_mask", "labels"))
    hidden = causal.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state  # [B, L, d]
    wanted = labels[:, 1:] != -100  # [B, L − 1]
    logits = causal.lm_head(hidden[:, :-1][wanted]).float()  # [answer tokens, vocabulary]
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:][wanted])


def _rising(done: int, loss: float, best: float = math.inf) -> str:
    """Why to stop when the held-out loss has clearly risen above its best, or an empty string."""
    return f"held-out loss rose from {best:.3f} to {loss:.3f} at step {done}" if loss > 1.15 * best + 0.02 else ""


class _Watch:
    """Held-out loss at each third; stops the training when it rises (Prechelt 1998, early stopping)."""

    def __init__(self, held: Sequence[tuple[list[int], int]], pad: int, steps: int, step: Step, prune: Prune) -> None:
        self.held, self.pad, self.steps, self.step, self.prune = held, pad, steps, step, prune
        self.held_losses: list[float] = []
        self.stopped = ""

    def look(self, model: Any, done: int) -> bool:
        """Measure when it is time; True when the training should stop."""
        import torch

        if done % max(1, self.steps // 3) and done < self.steps:
            return False
        model.eval()
        with torch.inference_mode():
            loss = float(_answer_loss(model, _collate(self.held, self.pad)))
        model.train()
        best = min(self.held_losses, default=loss)
        self.held_losses.append(round(loss, 4))
        if done < self.steps:
            self.stopped = self.prune(done, loss) or _rising(done, loss, best)
        return bool(self.stopped)


def _trainer(model: Any, config: Any, rows: list[tuple[list[int], int]], tokenizer: Any, watch: _Watch) -> Any:
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTTrainer

    class Rows:
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, i: int) -> tuple[list[int], int]:
            return rows[i]

    class Report(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            watch.step(state.global_step, watch.steps, "training")
            if watch.look(kwargs["model"], state.global_step):
                control.should_training_stop = True
            return control

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            return _answer_loss(self.accelerator.unwrap_model(model), inputs)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            self.state.log_history.append({**logs, "step": self.state.global_step})

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(rows)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AnswerTrainer(
            model=model, args=config, train_dataset=_dataset(rows), processing_class=tokenizer,
            data_collator=lambda found: _collate([(f["ids"], f["prompt"]) for f in found], tokenizer.pad_token_id),
            callbacks=[Report()],
        )  # fmt: skip


def _dataset(rows: list[tuple[list[int], int]]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"ids": [ids for ids, _ in rows], "prompt": [prompt for _, prompt in rows]})


def _last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of an interrupted training."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    whole = [p for p in found if (p / "trainer_state.json").exists() and (p / "optimizer.pt").exists()]
    return str(whole[-1]) if whole else None


def _save(model: Any, out: Path) -> None:
    """The adapter's two files, without paths of this machine in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(str(out))
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            config[key] = sorted(value)
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for extra in out.glob("*"):
        if extra.name not in ("adapter_config.json", "adapter_model.safetensors"):
            extra.unlink() if extra.is_file() else shutil.rmtree(extra)
