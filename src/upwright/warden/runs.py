"""The warden's own judges: one for each evaluator that a home holds, its folder unpacked where only the warden's user may enter."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from upwright.warden.errors import GraderError, VaultError
from upwright.warden.evaluator import Judge, grade
from upwright.warden.grader import Grade
from upwright.warden.parcel import unpack

PLACE = "unpacked"
SIZE = 2
"""Programs that are run at once."""


class Runs:
    """Judges of the evaluator suites of a home; suites that share an evaluator share its judge.

    Args:
        suites: name → what the founding entry pins; those of other kinds are never asked for.
        read: name → the suite's packed folder, its SHA-256 checked.
    """

    def __init__(self, home: Path, suites: Mapping[str, Mapping[str, Any]], read: Callable[[str], bytes]) -> None:
        self._place, self._suites, self._read = home / PLACE, suites, read
        self._judges: dict[str, Judge] = {}
        self._lock = threading.Lock()
        shutil.rmtree(self._place, ignore_errors=True)  # of a warden that was killed

    def judge(self, suite: str) -> Judge:
        """The judge of a suite's evaluator.

        Raises:
            VaultError: its file was changed, or cannot be unpacked.
            GraderError: no isolation holds here, and the founding has no waiver.
        """
        pinned = self._suites[suite]
        with self._lock:
            if pinned["sha256"] not in self._judges:
                folder = self._place / str(pinned["sha256"])[:16]
                try:
                    self._place.mkdir(mode=0o700, exist_ok=True)
                    shutil.rmtree(folder, ignore_errors=True)
                    unpack(self._read(suite), folder)
                except OSError as e:
                    raise VaultError(f"suite {suite}: its evaluator cannot be unpacked", value=e.strerror) from e
                waiver = bool(pinned.get("waiver"))
                self._judges[pinned["sha256"]] = Judge(folder, waiver=waiver, size=SIZE, whole=True)
            return self._judges[pinned["sha256"]]

    def grade(self, suite: str, text: str, seed: object) -> Grade:
        """What the program of an answer gets in a sealed run.

        Raises:
            GraderError, VaultError: trouble of ours.
        """
        if type(seed) is not int:
            raise GraderError(f"suite {suite}: the task of a program has no seed")
        return grade(self.judge(suite), text, seed, self._suites[suite]["metric"])

    def close(self) -> None:
        """End every process and remove what was unpacked."""
        with self._lock:
            for judge in self._judges.values():
                with contextlib.suppress(Exception):
                    judge.close()
            self._judges.clear()
            shutil.rmtree(self._place, ignore_errors=True)
