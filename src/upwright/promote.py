"""Step six: obey the verdict, confirm on fresh tasks, watch, roll back.

Nothing here decides. ``settle`` moves the champion only when the warden said PROMOTE, and the
warden itself makes the move: this module asks for it and shows the result.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from upwright.bodies.store import Store
from upwright.errors import StorageError, WardenError
from upwright.prove import Answerer, drive
from upwright.prove import Door as ProofDoor
from upwright.records import Decision, Verdict
from upwright.warden.ledger import FILE


class Door(ProofDoor, Protocol):
    """The calls of :class:`upwright.warden.door.Door` that a promotion needs."""

    def promote(self, test: int) -> dict[str, Any]: ...
    def status(self) -> dict[str, Any]: ...
    def open_vault(self) -> int: ...
    def rollback(self, digest: str, by: str, why: str) -> None: ...
    def approve(self, test: int, by: str) -> None: ...
    def refuse(self, test: int, by: str, why: str) -> None: ...
    def note(self, kind: str, data: Mapping[str, Any]) -> None: ...


class Pointers:
    """What the warden says of the champion, asked again only when its ledger has changed, whoever changed it.

    Args:
        home: the warden's; an append to the ledger there makes its file longer.
    """

    def __init__(self, door: Door, home: Path) -> None:
        self._door, self._ledger = door, f"{home}/{FILE}"
        self._seen: tuple[int, ...] = ()
        self._status: dict[str, Any] = {}

    def status(self) -> dict[str, Any]:
        """As the door's."""
        try:
            facts = os.stat(self._ledger)
            now = facts.st_ino, facts.st_size, facts.st_mtime_ns
        except OSError:
            return self._door.status()
        if now != self._seen:  # taken before asking: what is appended meanwhile is seen next time
            self._seen, self._status = now, self._door.status()
        return self._status


def settle(door: Door, verdict: Verdict, child: str, answerer: Answerer) -> bool:
    """Promote when the verdict says so, then confirm the gain on a fresh draw. True when the champion moved.

    Safe to call again after a kill: a promotion that was made is not made twice, and a confirmation
    goes on where it stopped.
    """
    if verdict.decision is not Decision.PROMOTE:
        return False
    if door.status()["champion"] != child:
        door.promote(verdict.test)
    drive(door, verdict.test, answerer)
    return True


def total_gain(door: Door, answerer: Answerer) -> int:
    """Open the vault: the champion against the first generation on tasks that no decision used.

    Every opening is on the ledger. Returns the handle of the opening.
    """
    handle = door.open_vault()
    drive(door, handle, answerer)
    return handle


def show_champion(store: Store, digest: str, target: Path) -> None:
    """Make ``target`` a directory that holds exactly the generation's files (links to the store)."""
    staged = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    try:
        for leftover in (staged, old):
            shutil.rmtree(leftover, ignore_errors=True)
        store.export(digest, staged)
        if target.exists():
            target.rename(old)
        staged.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"cannot show the champion: {error.strerror}",
            value=str(target),
            todo="free space; the champion itself is safe",
        ) from None


def rollback(door: Door, store: Store, digest: str, why: str) -> str:
    """Make an earlier generation the champion again; the generation is checked byte for byte first.

    Raises:
        StorageError: a stored file no longer matches its digest.
        WardenError: the warden refused (it was never a champion).
    """
    generation = store.get(digest)
    store.verify(generation.digest)
    if door.status()["champion"] == generation.digest:
        raise WardenError("this generation is the champion already", value=generation.digest[:12])
    door.rollback(generation.digest, "human", why)
    return generation.digest


def record_calibration(home: Path, facts: Mapping[str, Any]) -> None:
    """Put what a calibration measured on the ledger of the warden in ``home``: a note for people, which costs no error."""
    from upwright.warden.door import Door as WardenDoor

    with WardenDoor.open(home) as door:
        door.note("calibration", facts)
