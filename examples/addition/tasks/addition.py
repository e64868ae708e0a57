"""Sums of two numbers of any length, digits in reverse: ``54+12=`` asks for 45 + 21, and the answer is ``660``.

The lowest digit comes first, so that each digit of the sum needs only what has been written already and one carry. A sum has one
digit more than the longer number, 0 where nothing is carried into it, so its length says nothing about the carry. This is the form of
Lee et al. 2025 (arXiv 2502.01612). The difficulty is the number of digits of the longer number. Up to LABELLED digits the other number is
as long in one half of the sums and has any length up to that in the others; beyond it both are equally long, as in the paper's self-labelled
and test data.
"""

import random

LABELLED = 6  # answers beyond six digits are for measuring: no lever sees one
MOST = 40  # the longest numbers of the exam and of the sealed tasks; the frontier goes on beyond them


def _number(rng, digits):
    return rng.randrange(10 ** (digits - 1), 10**digits) if digits > 1 else rng.randrange(1, 10)


def _numbers(rng, digits):
    other = digits if digits > LABELLED or rng.random() < 0.5 else rng.randint(1, digits)
    pair = [_number(rng, digits), _number(rng, other)]
    rng.shuffle(pair)
    return pair


def _question(a, b):
    return f"{str(a)[::-1]}+{str(b)[::-1]}="


def generate(seed, difficulty=None):
    """A sum with its answer."""
    rng = random.Random(seed)
    digits = rng.randint(1, MOST) if difficulty is None else difficulty
    a, b = _numbers(rng, digits)
    answer = str(a + b)[::-1].ljust(digits + 1, "0")
    return {"input": _question(a, b), "answer": answer, "skill": "addition", "difficulty": digits}


def problem(seed, difficulty):
    """A sum without one."""
    return {"input": _question(*_numbers(random.Random(f"problem {seed}"), difficulty))}
