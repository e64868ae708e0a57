"""Every error that Upwright raises on purpose.

::

    UpwrightError                  what happened, the value, what to do next; exit code
    ├── ProjectError         (2)   a project directory, or a file in it, is missing, malformed or locked
    │   ├── CharterError           charter.toml, or a change that the charter does not allow
    │   ├── TaskError              a task file: names the file, the line and the field
    │   └── BodyError              a body directory or one of its parts
    ├── ModelError           (3)   a model cannot be found, fetched, checked or loaded
    │   └── MissingExtra           an optional package is not installed; gives the command
    ├── RuntimeFailure       (4)   the model ran and failed: crash, time-out, unreachable endpoint
    ├── BuildError           (5)   a lever could not build a child; the candidate is lost, the run goes on
    ├── StorageError         (6)   disk full, read-only, or a stored blob that no longer matches its digest
    ├── WardenError          (7)   the warden refused, or cannot be reached
    │   └── LedgerError            the ledger does not verify; names the first broken entry
    └── Stopped              (130) a person or a limit asked the run to stop; resumable

A failure of a *task* is never an exception: it is an :class:`upwright.records.Failure`.
A traceback reaches a user only for a bug.
"""

from __future__ import annotations

from collections.abc import Callable


class UpwrightError(Exception):
    """Base of all deliberate errors.

    Args:
        what: what happened, one sentence.
        value: the offending value, shown with ``repr``; ``None`` when there is none.
        todo: what to do next, one sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, value: object = None, todo: str = "") -> None:
        self.what = what
        self.value = value
        self.todo = todo
        text = what
        if value is not None:
            text += f" (got {value!r})"
        if todo:
            text += f"\n  → {todo}"
        super().__init__(text)

    def __reduce__(self) -> tuple[Callable[..., UpwrightError], tuple[type[UpwrightError], str, dict[str, object]]]:
        """Pickle whatever arguments a subclass takes, so that errors cross processes intact."""
        return _rebuild, (type(self), str(self), vars(self))


def _rebuild(cls: type[UpwrightError], text: str, state: dict[str, object]) -> UpwrightError:
    error = cls.__new__(cls)
    Exception.__init__(error, text)
    vars(error).update(state)
    return error


class ProjectError(UpwrightError):
    """A project directory, or a file in it, is missing, malformed or locked."""

    exit_code = 2


class CharterError(ProjectError):
    """The charter is malformed, or something was asked that it does not allow."""


class TaskError(ProjectError):
    """A task file is malformed, or two distances overlap; names file, line and field."""


class BodyError(ProjectError):
    """A body directory or one of its parts is missing or malformed."""


class ModelError(UpwrightError):
    """A model cannot be found, fetched, checked or loaded."""

    exit_code = 3


class MissingExtra(ModelError):
    """An optional package is not installed.

    Args:
        package: the import name that failed.
        extra: the extra of ``upwright`` that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the optional package {package} is not installed",
            todo=f"pip install 'upwright[{extra}]'",
        )


class RuntimeFailure(UpwrightError):
    """A whole batch could not be run: the worker crashed, timed out or the endpoint is unreachable."""

    exit_code = 4


class BuildError(UpwrightError):
    """A lever could not build a child from its proposal; the candidate is lost, the run goes on."""

    exit_code = 5


class StorageError(UpwrightError):
    """The disk is full or read-only, or a stored blob no longer matches its digest."""

    exit_code = 6


class WardenError(UpwrightError):
    """The warden refused a call, or cannot be reached."""

    exit_code = 7


class LedgerError(WardenError):
    """The ledger does not verify; names the first broken entry."""


class Stopped(UpwrightError):
    """A person or a limit asked the run to stop; running again goes on from here."""

    exit_code = 130
