"""Batched decoding with slots: prompts prefilled together, rows that finish make room for the next prompts.

The KV cache is one buffer per layer, ``(slots, columns, kv heads, head size)``. A row is left-aligned
in its slot and writes its next key and value at its own column, so rows of any age share a step and a
new prompt can join between two steps (continuous batching, Yu et al. 2022, "Orca"). The keys of a prefix that all prompts share
are computed once; the samples of one request copy their prompt's slot. Prefill covers all prompt
tokens but the last, which is the row's first decoding step: no logits are computed for a prompt.

Imports torch: only runtimes that hold weights import this module, and inside functions.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upwright.bodies.runtimes._sampling import choose, uniforms

PREFILL_TOKENS = 8192
"""Most prompt tokens (with padding) in one prefill."""
SHORTEST_PREFIX = 8
"""A shared prefix shorter than this is not worth its mask."""


@dataclass(slots=True)
class Row:
    """One completion being written."""

    request: int
    sample: int
    prompt: list[int]
    stream: int
    """Seed of this row's own random stream."""
    temperature: float
    top_p: float
    max_tokens: int
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    seconds: float = 0.0
    stopped: bool = False
    error: Exception | None = None

    @property
    def columns(self) -> int:
        """Most cache columns that this row can fill."""
        return len(self.prompt) + self.max_tokens


class SlotCache:
    """The cache that a Hugging Face decoder writes to; see the module's docstring for the layout."""

    is_compileable = False

    def __init__(self, layers: int, slots: int, columns: int) -> None:
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.shape = (slots, columns)
        self.rows = slice(0, 0)
        self.first = 0
        self.at: tuple[Tensor, Tensor] | None = None
        """When decoding: the rows' indices and their columns, each (rows,)."""
        self.width = 0

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store new keys and values (rows, kv heads, new, head size); return all of (rows, kv heads, width, ·)."""
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            # Zeros, not garbage: a masked column has weight 0, and 0 × NaN would spread.
            keys = self.keys[layer] = key.new_zeros(*self.shape, key.shape[1], key.shape[3])
            values = self.values[layer] = value.new_zeros(*self.shape, value.shape[1], value.shape[3])
        if self.at is not None:
            keys[self.at] = key[:, :, 0]
            values[self.at] = value[:, :, 0]
        else:
            keys[self.rows, self.first : self.width] = key.transpose(1, 2)
            values[self.rows, self.first : self.width] = value.transpose(1, 2)
        return keys[self.rows, : self.width].transpose(1, 2), values[self.rows, : self.width].transpose(1, 2)

    def get_seq_length(self, *_: Any) -> int:
        """Columns in use."""
        return self.width

    def copy(self, source: Tensor | int, target: Tensor | slice, columns: int) -> None:
        """Copy the first ``columns`` of slot(s) ``source`` to ``target``, in every layer."""
        for buffer in (*self.keys, *self.values):
            if buffer is not None:
                buffer[target, :columns] = buffer[source, :columns]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is decoded at once: ``rows`` at most, and ``tokens`` cache columns over all rows."""

    rows: int
    tokens: int


def decode(model: Any, rows: Sequence[Row], stops: frozenset[int], limits: Limits, done: Callable[[int], None]) -> None:
    """Complete every row in place; ``done(k)`` is told after each step how many rows are finished in all.

    An exception while rows are decoded is stored in those rows and decoding goes on with the others.
    """
    finished = 0
    for group in _similar(rows):
        for count in _Pool(model, group, stops, limits).run():
            finished += count
            done(finished)
        _give_back()


def _give_back() -> None:
    """Hand freed memory back to the system: glibc keeps the caches' pages, a gigabyte more with every few batches."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _similar(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows by falling length, in groups whose members' lengths are within a factor of two."""
    order = sorted(rows, key=lambda r: (-r.columns, -len(r.prompt)))
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or 2 * order[end].columns < order[start].columns:
            yield order[start:end]
            start = end


def _shared_prefix(rows: Sequence[Row]) -> int:
    """Length of the prefix that all prompts share, leaving at least one token of each."""
    first, last = min(r.prompt for r in rows), max(r.prompt for r in rows)
    if first == last:
        return 0
    most = min(len(r.prompt) for r in rows) - 1
    length = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), most)
    length = min(length, most)
    return length if length >= SHORTEST_PREFIX else 0


class _Pool:
    """The slots and the rows in them; ``run`` decodes one group of rows."""

    def __init__(self, model: Any, rows: Sequence[Row], stops: frozenset[int], limits: Limits) -> None:
        self.model = model
        self.device = model.device
        self.stops = stops
        self.waiting = list(rows)
        self.columns = max(r.columns for r in rows)
        self.slots = max(1, min(limits.rows, limits.tokens // self.columns, len(rows)))
        self.prefix = _shared_prefix(rows)
        self.active: list[Row] = []
        self._reset()

    def _reset(self) -> None:
        self.cache = SlotCache(self.model.config.get_text_config().num_hidden_layers, self.slots, self.columns)
        self.prefixed = False

    def run(self) -> Iterator[int]:
        """Decode; yields how many rows finished at each step."""
        while self.waiting or self.active:
            try:
                with torch.inference_mode():
                    if self.waiting and len(self.active) <= self.slots * 3 // 4:
                        self._refill()
                    self._step()
                    finished = self._retire()
            except Exception as error:
                failed, self.active = self.active, []
                for row in failed:
                    row.error = error
                self._reset()
                finished = len(failed)
            yield finished

    def _refill(self) -> None:
        """Prefill waiting prompts into the free slots; rows of the same prompt copy its slot."""
        began, start = time.perf_counter(), len(self.active)
        new: list[Row] = []
        leaders: list[int] = []
        while self.waiting and start + len(new) < self.slots:
            if not new or self.waiting[0].prompt is not new[-1].prompt:
                longest = len((new or self.waiting)[0].prompt) - self.prefix
                if (len(leaders) + 1) * longest > PREFILL_TOKENS and new:
                    break
                leaders.append(len(new))
            new.append(self.waiting.pop(0))
        self.active += new
        if self.prefix and not self.prefixed:
            self._forward([new[0].prompt[: self.prefix]], start, 0)
            self.kept = [
                b[start, : self.prefix].clone() for b in (*self.cache.keys, *self.cache.values) if b is not None
            ]
            self.prefixed = True
        suffixes = [new[i].prompt[self.prefix : -1] for i in leaders]
        if self.prefix:
            buffers = (b for b in (*self.cache.keys, *self.cache.values) if b is not None)
            for buffer, kept in zip(buffers, self.kept):
                buffer[start : start + len(leaders), : self.prefix] = kept
        if any(suffixes):
            self._forward(suffixes, start, self.prefix)
        if len(leaders) < len(new):  # spread the leaders' slots over their samples, last first
            of = np.searchsorted(leaders, np.arange(len(new)), side="right") - 1
            source = torch.as_tensor(of + start, device=self.device)
            self.cache.copy(source, slice(start, start + len(new)), len(new[0].prompt))
        share = (time.perf_counter() - began) / len(new)
        for row in new:
            row.seconds += share

    def _forward(self, prompts: Sequence[Sequence[int]], start: int, first: int) -> None:
        """Write the keys of ``prompts`` into slots from ``start``, columns from ``first``; padded on the right.

        Padding needs no mask: causality hides what comes later, and decoding masks it by column.
        """
        length = max(map(len, prompts))
        ids = np.zeros((len(prompts), length), dtype=np.int64)
        for i, prompt in enumerate(prompts):
            ids[i, : len(prompt)] = prompt
        cache = self.cache
        cache.rows, cache.at = slice(start, start + len(prompts)), None
        cache.first, cache.width = first, first + length
        mask = torch.ones(length, cache.width, dtype=torch.bool, device=self.device).tril_(first)
        position = torch.arange(first, cache.width, device=self.device)[None]  # (1, length)
        self.model.get_decoder()(
            input_ids=torch.as_tensor(ids, device=self.device),  # (prompts, length)
            attention_mask=mask[None, None],  # (1, 1, length, width)
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        )

    def _step(self) -> None:
        """Write one token in every active row."""
        began, rows = time.perf_counter(), self.active
        steps = np.array([len(r.tokens) for r in rows], dtype=np.int64)
        column = steps + np.array([len(r.prompt) - 1 for r in rows])
        last = [r.tokens[-1] if r.tokens else r.prompt[-1] for r in rows]
        cache, device = self.cache, self.device
        at = torch.as_tensor(column, device=device)  # (rows,)
        cache.rows, cache.at = slice(0, len(rows)), (torch.arange(len(rows), device=device), at)
        cache.width = int(column.max()) + 1
        seen = torch.arange(cache.width, device=device)[None, :] <= at[:, None]  # (rows, width)
        logits = self.model(
            input_ids=torch.as_tensor(last, device=device)[:, None],  # (rows, 1)
            attention_mask=seen[:, None, None],  # (rows, 1, 1, width)
            position_ids=at[:, None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]  # (rows, vocabulary)
        tokens, logprobs = choose(
            logits,
            np.array([r.temperature for r in rows], dtype=np.float32),
            np.array([r.top_p for r in rows], dtype=np.float32),
            uniforms(np.array([r.stream for r in rows], dtype=np.uint64), steps),
        )
        share = (time.perf_counter() - began) / len(rows)
        for row, token, logprob in zip(rows, tokens.tolist(), logprobs.tolist()):
            row.tokens.append(token)
            row.logprob += logprob
            row.seconds += share
            row.stopped = token in self.stops

    def _retire(self) -> int:
        """Drop finished rows; the last rows move into their slots. Returns how many were dropped."""
        rows = self.active
        alive = [i for i, r in enumerate(rows) if not r.stopped and len(r.tokens) < r.max_tokens]
        if len(alive) == len(rows):
            return 0
        holes = sorted(set(range(len(alive))) - set(alive))
        movers = [i for i in alive if i >= len(alive)]
        if holes:
            source, target = (torch.as_tensor(x, device=self.device) for x in (movers, holes))
            self.cache.copy(source, target, self.cache.width)
        kept = rows[: len(alive)]
        for hole, mover in zip(holes, movers):
            kept[hole] = rows[mover]
        self.active = kept
        return len(rows) - len(kept)
