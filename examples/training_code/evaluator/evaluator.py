"""Measures a training: bits per symbol of held-out text that a model needs after a few seconds of training.

The program trains on text of a language that was drawn for this run, so nothing that was learned before is of use. Then it is shown pieces of
other text of the same language, each of them ending before the symbol that counts; the pieces do not overlap and come in no order, so none of them shows
what follows another. It answers with a number for every symbol, and *these* numbers become probabilities here, by softmax: no answer
can claim more than one in all. A symbol is a byte, so bits per symbol are bits per byte.

The time is processor time, all threads together, and it is not measured here: the program's cell is ended, and the run lost, at ``cpu_seconds`` of
evaluator.toml.
"""

import importlib.util

import numpy as np
from language import SYMBOLS, Language

SECONDS = 5.0
"""Processor time that the program is told it has, from the first call to the last answer."""
TEXT = 300_000
"""Symbols to train on."""
PIECES, CONTEXT = 1536, 64
"""Held-out pieces, and symbols in each."""
CALL = 256
"""Pieces to a call."""


def evaluate(program_path):
    """Train, ask, measure ``bits_per_byte``.

    Raises:
        ValueError: the program answered with something else than finite numbers.
    """
    rng = np.random.default_rng(np.random.randint(2**31, size=4))
    language = Language(rng)
    text, held = language.text(rng, TEXT), language.text(rng, PIECES * (CONTEXT + 1))
    pieces = rng.permutation(held.reshape(PIECES, CONTEXT + 1))
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    program.train(text, SYMBOLS, SECONDS)
    shown = [pieces[i : i + CALL, :-1].copy() for i in range(0, PIECES, CALL)]
    answers = [checked(program.predict(few), len(few)) for few in shown]
    return {"bits_per_byte": surprise(np.concatenate(answers), pieces[:, -1])}


def surprise(numbers, symbols):
    """Mean bits of the symbols, under the softmax of each row of numbers."""
    top = numbers.max(axis=1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(numbers - top).sum(axis=1))
    return float((total - numbers[np.arange(len(symbols)), symbols]).mean() / np.log(2))


def checked(given, pieces):
    """An answer as an array of floats, shape (pieces, SYMBOLS).

    Raises:
        ValueError: it is something else.
    """
    numbers = np.asarray(given)
    if numbers.dtype.kind not in "fiu" or numbers.shape != (pieces, SYMBOLS):
        raise ValueError(f"an answer is numbers of shape {(pieces, SYMBOLS)}, not {numbers.dtype} of shape {numbers.shape}")
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("an answer holds something that is not finite")
    return numbers
