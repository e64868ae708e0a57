"""The candidate's cell: answers an evaluator's calls with data.

The first process of the cell runs no line of the candidate's. For each connection it forks a process that imports the program afresh and
serves it, as if the evaluator had imported it in a process of its own; when the evaluator hangs up, that process is killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import select
import signal
import socket
import sys
import traceback
import types
from typing import Any, NoReturn

from . import seeding, system, tripwire, wire

MAX_CONSTANT = 8 << 20
TEXT = 20_000
"""Characters of an error's text that are passed on."""


def serve(listener: socket.socket, main: str, seed: int, alarms: int) -> NoReturn:
    """Accept until killed. One process is forked ahead of the first connection, while the evaluator gets ready."""
    system.hide_memory()

    def fork() -> tuple[int, socket.socket]:
        here, there = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            listener.close()
            here.close()
            _handle(there, main, seed, alarms)
        there.close()
        return pid, here

    spare: tuple[int, socket.socket] | None = fork()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    live: dict[int, tuple[socket.socket, int, int]] = {}
    while True:
        for fd, _ in sorted(poll.poll(), key=lambda event: event[0] == listener.fileno()):  # endings first
            if fd == listener.fileno():
                link, _address = listener.accept()
                pid, way = spare or fork()
                spare = None
                with way, contextlib.suppress(OSError):
                    socket.send_fds(way, [b"L"], [link.fileno()])
                ended = os.pidfd_open(pid)
                poll.register(link, select.POLLHUP)
                poll.register(ended, select.POLLIN)
                live[link.fileno()] = live[ended] = (link, pid, ended)
            elif fd in live:
                link, pid, ended = live[fd]
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what it started too, where groups can be had
                os.kill(pid, signal.SIGKILL)
                _tell(os.waitpid(pid, 0)[1])
                poll.unregister(link)
                poll.unregister(ended)
                del live[link.fileno()], live[ended]
                link.close()
                os.close(ended)


def _tell(status: int) -> None:
    """Print what ended the candidate's process, if it was not the evaluator's hanging up."""
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        why = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        print(f"[the candidate's process ended: {why}]", file=sys.stderr)


def _handle(way: socket.socket, main: str, seed: int, alarms: int) -> NoReturn:
    """One connection: import the program, then answer what is asked."""
    try:
        os.setpgid(0, 0)
        system.hide_memory(False)
        seeding.plant(seed)
        tripwire.stretch(alarms)
        program: types.ModuleType | None = None
        failed = b""
        try:
            program = load(main)
        except BaseException as error:
            failed = wire.encode(_told(error))
        _, fds, _, _ = socket.recv_fds(way, 1, 1, socket.MSG_CMSG_CLOEXEC)
        way.close()
        link = socket.socket(fileno=fds[0])
        while True:
            asked = wire.receive(link)
            data = failed if program is None else _reply(program, asked)
            _flush()
            wire.send_bytes(link, data)
    except EOFError:
        pass
    finally:
        _flush()
        os._exit(0)


def _reply(program: types.ModuleType, asked: Any) -> bytes:
    """The answer to one request, as bytes that may pass."""
    try:
        data = wire.encode(_answer(program, asked))
        if len(data) > wire.MAX_BYTES:
            raise wire.NotData(f"{len(data)} bytes, more than the {wire.MAX_BYTES} that may pass")
        return data
    except wire.NotData as error:
        return wire.encode(("refused", str(error)))
    except BaseException as error:
        return wire.encode(_told(error))


def load(main: str) -> types.ModuleType:
    """Import the program's main file under its own name."""
    name = os.path.splitext(os.path.basename(main))[0]
    sys.path.insert(0, os.path.dirname(main))
    spec = importlib.util.spec_from_file_location(name, main)
    if spec is None or spec.loader is None:
        raise ImportError(f"{os.path.basename(main)} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _answer(program: types.ModuleType, asked: Any) -> tuple[Any, ...]:
    what, name, args, kwargs = asked
    if what == "describe":
        return ("ok", describe(program))
    found = getattr(program, name)
    if what == "call":
        return ("ok", found(*args, **kwargs))
    if isinstance(found, types.ModuleType | type) or not callable(found):
        return ("ok", ("data", found))
    return ("ok", ("function", _signature(found)))


def describe(program: types.ModuleType) -> dict[str, Any]:
    """Public names of a program: functions with their signatures, constants with their values, and what is neither."""
    functions, data, others = [], {}, []
    for name, value in list(vars(program).items()):
        if name.startswith("_") or not isinstance(name, str) or isinstance(value, types.ModuleType):
            continue
        if callable(value) and not isinstance(value, type):
            functions.append((str(name), *_signature(value)))
            continue
        try:
            if len(wire.encode(value)) > MAX_CONSTANT:
                raise wire.NotData("too large")
            data[str(name)] = value
        except wire.NotData:
            others.append((str(name), type(value).__name__ if not isinstance(value, type) else "class"))
    return {"functions": functions, "data": data, "others": others}


def _signature(function: Any) -> tuple[str, list[tuple[str, int, bool]] | None]:
    """Documentation and parameters (name, kind, whether there is a default) of a function."""
    try:
        parameters = inspect.signature(function).parameters.values()
        told = [(str(p.name), int(p.kind), p.default is not p.empty) for p in parameters]
    except (TypeError, ValueError):
        told = None
    return str(getattr(function, "__doc__", "") or "")[:TEXT], told


def _told(error: BaseException) -> tuple[str, str, str, str]:
    """An exception as data: its built-in type's name, its text, its traceback."""
    kind = next(t for t in type(error).__mro__ if t.__module__ == "builtins")
    try:
        text, trace = str(error), "".join(traceback.format_exception(error)[-12:])
    except BaseException:
        text, trace = "an error whose text could not be made", ""
    return ("error", kind.__name__, str.__str__(text)[:TEXT], trace[-TEXT:])


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue
