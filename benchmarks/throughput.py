"""How fast the transformers runtime writes, beside what its user would otherwise do.

Side by side in one process, interleaved, several repeats, medians:

* ``ours``: :class:`upwright.bodies.runtimes.transformers.TransformersRuntime`;
* ``bare``: a loop of batched ``model.generate`` over the same prompts, sorted by length, in batches of the same size,
  the same dtype and settings, left-padded;
* ``one``: ``transformers.pipeline`` given one prompt at a time (on a part of the prompts, for time).

Speed is completion tokens up to each end of turn, per second; padding after an end is not counted. Run::

    python benchmarks/throughput.py --prompts 256 --tokens 48 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from upwright.bodies.body import Body
from upwright.bodies.models import fetch
from upwright.bodies.runtimes.base import Message, Request
from upwright.bodies.runtimes.transformers import TransformersRuntime, render

MONTHS = ("January", "March", "May", "June", "August", "October", "December")
SYSTEM = "You rewrite dates, names and amounts in the form that is asked for. Reply with the result only."


def prompts(count: int, seed: int = 0) -> list[str]:
    """Short rewriting and arithmetic tasks of mixed length."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        day, year, amount = rng.randint(1, 28), rng.randint(1900, 2030), rng.randint(2, 99999)
        made.append(
            rng.choice(
                (
                    f"Write {rng.choice(MONTHS)} {day}, {year} as an ISO 8601 date.",
                    f"What is {day} + {amount}?",
                    f"Write the amount {amount} with a comma for the thousands and a dollar sign, then say in one "
                    f"short sentence whether it is more or less than {year}.",
                    f"Sort these numbers from low to high: {amount}, {year}, {day}, {amount // 3}, {year // 7}.",
                )
            )
        )
    return made


def chats(count: int, system: bool) -> list[tuple[Message, ...]]:
    """The prompts as chats; ``system`` puts the same instructions before each."""
    head = (Message("system", SYSTEM),) if system else ()
    return [(*head, Message("user", p)) for p in prompts(count)]


def bare_loop(runtime: TransformersRuntime, asked: list[tuple[Message, ...]], tokens: int, rows: int) -> int:
    """Completion tokens of a batched ``generate`` loop."""
    import torch

    tokenizer, model = runtime.tokenizer, runtime.model
    texts = sorted((render(tokenizer, c) for c in asked), key=lambda t: -len(tokenizer(t)["input_ids"]))
    tokenizer.padding_side, written = "left", 0
    for start in range(0, len(texts), rows):
        batch = tokenizer(texts[start : start + rows], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        for row in out[:, batch["input_ids"].shape[1] :].tolist():
            written += next((i + 1 for i, t in enumerate(row) if t in runtime.stops), len(row))
        tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return written


def one_at_a_time(runtime: TransformersRuntime, pipe: Any, asked: list[tuple[Message, ...]], tokens: int) -> int:
    """Completion tokens of a pipeline that is given one prompt at a time."""
    written = 0
    for chat in asked:
        (said,) = pipe(render(runtime.tokenizer, chat), max_new_tokens=tokens, do_sample=False, return_tensors=True)
        asked_ids = runtime.tokenizer(render(runtime.tokenizer, chat), add_special_tokens=False)["input_ids"]
        written += len(said["generated_token_ids"]) - len(asked_ids)
    return written


def timed(work: Callable[[], int]) -> float:
    """Completion tokens per second."""
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def measure(
    count: int = 256, tokens: int = 48, repeats: int = 3, system: bool = True, rows: int = 128
) -> dict[str, Any]:
    """Tokens per second of the three, and the median of the ratios within each repeat."""
    from transformers import pipeline
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(str(fetch("smollm2-135m-instruct").path), Path(folder) / "model")
        runtime = TransformersRuntime(Body(Path(folder)), rows=rows)
        pipe = pipeline("text-generation", model=runtime.model, tokenizer=runtime.tokenizer)
        asked = chats(count, system)
        requests = [Request(c, max_tokens=tokens) for c in asked]
        few = asked[:: max(1, count // 8)]
        arms: dict[str, Callable[[], int]] = {
            "ours": lambda: sum(c.completion_tokens for found in runtime.generate(requests) for c in found),
            "bare": lambda: bare_loop(runtime, asked, tokens, rows),
            "one": lambda: one_at_a_time(runtime, pipe, few, tokens),
        }
        runtime.generate(requests[:4])
        speeds: dict[str, list[float]] = {name: [] for name in arms}
        for repeat in range(repeats):
            order = list(arms) if repeat % 2 == 0 else list(arms)[::-1]
            for name in order:
                speeds[name].append(timed(arms[name]))
        ratios = {n: [a / b for a, b in zip(speeds["ours"], speeds[n])] for n in ("bare", "one")}
        return {
            "prompts": count,
            "max_tokens": tokens,
            "rows": rows,
            "system": system,
            "repeats": repeats,
            "tokens_per_second": {n: round(statistics.median(s), 1) for n, s in speeds.items()},
            "ours_over_bare": round(statistics.median(ratios["bare"]), 2),
            "ours_over_one": round(statistics.median(ratios["one"]), 2),
            "all": {n: [round(x, 1) for x in s] for n, s in speeds.items()},
            "runtime": runtime.describe(),
        }


def main() -> None:
    """Parse, measure, print JSON."""
    parser = argparse.ArgumentParser(description="Throughput of the transformers runtime")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--no-system", action="store_true", help="no shared instructions before each prompt")
    args = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(json.dumps(measure(args.prompts, args.tokens, args.repeats, not args.no_system, args.rows), indent=2))


if __name__ == "__main__":
    main()
