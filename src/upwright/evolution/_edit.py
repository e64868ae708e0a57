"""What an edit of a program is, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from upwright.errors import BuildError


class EditError(BuildError):
    """Edits that cannot be applied; ``why`` has a sentence for each that is wrong."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Edit:
    """One change.

    Attributes:
        kind: ``lines`` (``old`` becomes ``new``), ``file`` (all of the file is ``new``) or ``delete``.
        path: the file; empty where the reply does not say, which is then the only file that the edit fits.
        old, new: lines without their ends.
        at: index of the line where ``old`` was said to begin, of use where it is at several places; ``None`` where nothing was said.
        final: whether the file ends with a line end afterwards, for an edit that reaches its end; ``None``: as before.
        creates: the edit is for a file that is not there yet.
    """

    kind: Literal["lines", "file", "delete"]
    path: str = ""
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    at: int | None = None
    final: bool | None = None
    creates: bool = False
