"""What a stub module does: asks the candidate's cell, gets data back.

The stub lies where the evaluator expects the program. It has the candidate's public functions (which send their arguments and return what comes
back), its public constants that are data, and, for what is neither, a placeholder that says why it cannot be used.
"""

from __future__ import annotations

import builtins
import inspect
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from . import wire

TOGETHER = "set together = true in evaluator.toml to run the program in the evaluator's own process"
STUB = '''"""Stands for the candidate, which runs in a cell of its own."""
import sys as _sys
if "upwright.warden.isolation.proxy" not in _sys.modules:
    with open({boot!r}) as _file:
        exec(compile(_file.read(), {boot!r}, "exec"), {{"__name__": "boot", "__file__": {boot!r}}})
from upwright.warden.isolation.proxy import attach as _attach
_attach(globals(), {link!r}, {alarms!r}, {marks!r})
'''


class CandidateError(RuntimeError):
    """The candidate raised an exception of its own kind, or its process ended."""


class CandidateBroken(CandidateError):
    """The candidate's cell sent what is no data."""


class NotAcross(TypeError):
    """Something that is not data would have to cross between the cells."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}, and only data crosses between evaluator and candidate; {TOGETHER}")


class Link:
    """A connection to the candidate's cell: one for each process of the evaluator, made when first used."""

    def __init__(self, path: str, alarms: str, marks: list[str]) -> None:
        self.path, self.alarms, self.marks = path, alarms, [m.encode() for m in marks]
        self.lock, self.owner, self.link = threading.RLock(), 0, None

    link: socket.socket | None

    def ask(self, what: str, name: str = "", args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Send a request, return the answer.

        Raises:
            NotAcross: an argument or the result is not data.
            CandidateError: the candidate's process ended; or whatever built-in exception the candidate raised.
        """
        try:
            data = wire.encode((what, name, args, kwargs or {}))
        except wire.NotData as error:
            raise NotAcross(f"{name}(...) was given {error}") from None
        with self.lock:
            reply = self._exchange(data)
        return self._read(name, reply)

    def _exchange(self, data: bytes) -> Any:
        if self.link is None or self.owner != os.getpid():
            self.link, self.owner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), os.getpid()
            self.link.connect(self.path)
        whole = False
        try:
            wire.send_bytes(self.link, data)
            reply = wire.receive(self.link, self._watch)
            whole = True
            return reply
        except (EOFError, ConnectionError) as error:
            raise CandidateError("the candidate's process ended") from error
        except wire.Malformed as error:
            self._alarm(f"the candidate's process sent what is no data: {error}")
            raise CandidateBroken(f"the candidate's process sent what is no data: {error}") from error
        finally:
            if not whole:  # an answer that is still to come belongs to nobody: the next call gets a new process
                self.link.close()
                self.link = None

    def _read(self, name: str, reply: Any) -> Any:
        match reply:
            case ("ok", value):
                return value
            case ("refused", str(why)):
                raise NotAcross(f"{name} gave back {why}")
            case ("error", str(kind), str(text), str(trace)):
                raise _error(kind, text, trace)
        self._alarm("the candidate's process sent an answer of no known form")
        raise CandidateBroken("the candidate's process sent an answer of no known form")

    def _watch(self, data: bytes) -> None:
        if any(mark in data for mark in self.marks):
            self._alarm("a planted credential was in what the program returned")

    def _alarm(self, text: str) -> None:
        with open(self.alarms, "a") as file:
            file.write(text.replace("\n", " ") + "\n")


def _error(kind: str, text: str, trace: str) -> BaseException:
    """The built-in exception of that name, or :class:`CandidateError`."""
    found = getattr(builtins, kind, None)
    error: BaseException
    if (
        isinstance(found, type)
        and issubclass(found, Exception)
        and not issubclass(found, UnicodeError | ExceptionGroup)
    ):
        error = found(text) if text else found()
    else:
        error = CandidateError(f"{kind}: {text}")
    error.add_note(f"In the candidate:\n{trace}")
    return error


class Placeholder:
    """A public name of the candidate that is neither a function nor data."""

    def __init__(self, name: str, kind: str) -> None:
        self.__dict__["_what"] = f"{name} is a {kind}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Cannot be called from here."""
        raise NotAcross(self.__dict__["_what"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotAcross(self.__dict__["_what"])


def attach(namespace: dict[str, Any], path: str, alarms: str, marks: list[str]) -> None:
    """Fill a stub's namespace with what the candidate offers."""
    link = Link(path, alarms, marks)
    told = link.ask("describe")
    try:
        module = namespace["__name__"]
        for name, doc, parameters in told["functions"]:
            namespace[_public(name)] = _function(link, (module, name), doc, parameters)
        for name, value in told["data"].items():
            namespace[_public(name)] = value
        for name, kind in told["others"]:
            namespace[_public(name)] = Placeholder(name, kind)
    except (TypeError, ValueError, KeyError) as error:
        raise CandidateBroken("the candidate's process described itself in no known form") from error

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kind, value = link.ask("get", name)
        return _function(link, (module, name), *value) if kind == "function" else value

    namespace["__getattr__"] = missing


def _public(name: Any) -> str:
    if type(name) is not str or not name.isidentifier() or name.startswith("_"):
        raise ValueError(name)
    return name


def _function(
    link: Link, where: tuple[str, str], doc: str, parameters: list[tuple[str, int, bool]] | None
) -> Callable[..., Any]:
    module, name = where

    def call(*args: Any, **kwargs: Any) -> Any:
        return link.ask("call", name, args, kwargs)

    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__module__ = doc, module
    if parameters is not None:
        kinds = inspect._ParameterKind
        given = [
            inspect.Parameter(n, kinds(k), default=... if d else inspect.Parameter.empty) for n, k, d in parameters
        ]
        call.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]
    return call
