"""The three distances: a task's bucket is a salted hash of its input and of nothing else."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Literal

Bucket = Literal["practice", "sealed", "vault"]

PRACTICE, SEALED = 0.60, 0.30
"""Shares of the first two buckets; the vault has the rest (0.10)."""


def normalise_input(text: str) -> str:
    """NFKC, case-folded, runs of white space made one space: trivial variants are one problem."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def bucket(salt: str, text: str) -> Bucket:
    """Distance of the problem ``text`` under the project's ``salt``.

    The same problem always lands in the same bucket, whoever draws it, so the distances cannot overlap.
    """
    data = f"{salt}\x1f{normalise_input(text)}".encode("utf-8", "surrogatepass")
    point = int.from_bytes(hashlib.sha256(data).digest()[:8], "big") / 2.0**64
    if point < PRACTICE:
        return "practice"
    return "sealed" if point < PRACTICE + SEALED else "vault"


def run_input(seed: int) -> str:
    """What a body is asked where its program is run: a commitment to the run's seed, which itself does not leave the warden."""
    return "run " + hashlib.sha256(str(seed).encode()).hexdigest()[:16]
