"""What the warden raises.

::

    WardenFault              what happened, the value, what to do next
    ├── Refusal              the warden said no; ``code`` names the rule
    │   └── CharterFault     charter.toml is malformed, or it is not the one that was founded
    ├── GraderError          a grader could not grade; never a score
    ├── VaultError           sealed tasks cannot be drawn: generator, pool or key
    ├── LedgerFault          the ledger does not verify; names the first broken entry
    └── Unreachable          the warden's process cannot be started or does not answer
"""

from __future__ import annotations


class WardenFault(Exception):
    """Base of the warden's errors.

    Args:
        what: what happened, one sentence.
        value: the offending value, shown with ``repr``; ``None`` when there is none.
        todo: what to do next, one sentence.
    """

    def __init__(self, what: str, *, value: object = None, todo: str = "") -> None:
        self.what = what
        self.value = value
        self.todo = todo
        text = what if value is None else f"{what} (got {value!r})"
        super().__init__(f"{text}\n  → {todo}" if todo else text)


class Refusal(WardenFault):
    """The warden said no.

    ``code`` is one of: ``approval``, ``budget``, ``busy``, ``charter``, ``decided``,
    ``disk``, ``looks``, ``order``, ``protocol``, ``same``, ``scope``, ``speed``, ``stale``, ``stopped``, ``unknown``, ``vault``.
    """

    def __init__(self, what: str, *, code: str = "protocol", value: object = None, todo: str = "") -> None:
        super().__init__(what, value=value, todo=todo)
        self.code = code


class CharterFault(Refusal):
    """The charter is malformed, or it differs from the one on the ledger."""

    def __init__(self, what: str, *, value: object = None, todo: str = "") -> None:
        super().__init__(what, code="charter", value=value, todo=todo)


class GraderError(WardenFault):
    """A grader could not grade. Never a score."""


class VaultError(WardenFault):
    """Sealed tasks cannot be drawn."""


class LedgerFault(WardenFault):
    """The ledger does not verify.

    Args:
        index: index of the first broken entry, or ``None`` when no single entry is to blame.
    """

    def __init__(self, what: str, *, index: int | None = None, value: object = None, todo: str = "") -> None:
        super().__init__(what, value=value, todo=todo)
        self.index = index


class Unreachable(WardenFault):
    """The warden's process cannot be started or does not answer."""
