"""The warden's process: one thread, many clients, ends when nobody has been there for a while."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from upwright.warden.canon import canonical_json, write_atomic
from upwright.warden.door import CALLS, DISK, MOST_BYTES, peer_uid, socket_path
from upwright.warden.errors import GraderError, Refusal, VaultError, WardenFault
from upwright.warden.kernel import Warden

IDLE_SECONDS = 10.0
BUSY = 3
"""Exit code when another warden holds the home."""


@dataclass(slots=True)
class Client:
    """A connection and the bytes of its unfinished request."""

    socket: socket.socket
    buffer: bytearray


def serve(home: Path, idle_seconds: float = IDLE_SECONDS) -> int:
    """Serve until idle or told to end; the exit code."""
    error_file = home / "people" / "start_error.json"
    try:
        warden = Warden(home)
    except WardenFault as e:
        if isinstance(e, Refusal) and e.code == "busy":
            return BUSY
        if error_file.parent.is_dir():
            with contextlib.suppress(OSError):
                write_atomic(error_file, canonical_json(_error(e)), durable=False)
        _log(e)
        return 1
    except OSError as e:
        _log(e)
        return DISK
    error_file.unlink(missing_ok=True)
    path = socket_path(home)
    try:
        listener = _listen(path)
    except OSError as e:
        warden.close()
        _log(e)
        return DISK
    try:
        Server(warden, listener, idle_seconds).run()
    finally:
        path.unlink(missing_ok=True)
        listener.close()
        warden.close()
    return 0


def _log(text: object) -> None:
    """Write to the log, where the disk takes it."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{text}\n".encode())


def _listen(path: Path) -> socket.socket:
    """A listening socket in a folder that is ours alone; a stale socket is replaced (we hold the lock)."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    facts = path.parent.lstat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise Refusal("the door's folder is open to others", value=str(path.parent), todo="chmod 700, or remove it")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(old)
    listener.listen(16)
    listener.setblocking(False)
    return listener


class Server:
    """Reads requests, asks the warden, writes replies."""

    def __init__(self, warden: Warden, listener: socket.socket, idle_seconds: float = IDLE_SECONDS) -> None:
        self._warden, self._listener, self._idle = warden, listener, idle_seconds
        self._selector = selectors.DefaultSelector()
        self._clients = 0
        self._ending = False

    def run(self) -> None:
        """Serve until idle, or until SIGTERM."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._selector.register(self._listener, selectors.EVENT_READ)
        last = time.monotonic()
        while not (self._ending or self._warden.broken) and (self._clients or time.monotonic() - last < self._idle):
            for key, _ in self._selector.select(timeout=0.5):
                if key.data is None:
                    self._accept()
                else:
                    self._read(key.data)
            if self._clients:
                last = time.monotonic()

    def _end(self, signum: int, frame: FrameType | None) -> None:
        self._ending = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if not allowed(connection):
            connection.close()
            return
        connection.settimeout(60.0)
        self._clients += 1
        self._selector.register(connection, selectors.EVENT_READ, Client(connection, bytearray()))

    def _drop(self, client: Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        self._clients -= 1

    def _read(self, client: Client) -> None:
        try:
            data = client.socket.recv(1 << 20)
            if not data:
                self._drop(client)
                return
            client.buffer += data
            while (end := client.buffer.find(b"\n")) >= 0:
                line = bytes(client.buffer[:end])
                del client.buffer[: end + 1]
                client.socket.sendall(reply_to(self._warden, line))
            if len(client.buffer) > MOST_BYTES:
                error = Refusal(f"a request is longer than {MOST_BYTES} bytes", value=len(client.buffer))
                client.socket.sendall(canonical_json({"error": _error(error)}) + b"\n")
                self._drop(client)
        except OSError:
            self._drop(client)


def allowed(connection: socket.socket) -> bool:
    """Only processes of the warden's own user may speak to it."""
    return peer_uid(connection) == os.getuid()


def reply_to(warden: Warden, line: bytes) -> bytes:
    """The reply line to a request line; never raises, so that no request can end the warden.

    A bug is answered without details (they go to the log): a traceback could carry an answer.
    """
    try:
        name, args = _parse(line)
        result: Any = {"ok": getattr(warden, name)(**args)}
    except WardenFault as e:
        result = {"error": _error(e)}
    except OSError as e:
        _log(traceback.format_exc())
        result = {
            "error": _error(
                Refusal("the warden cannot write", code="disk", value=e.strerror, todo="free space, then again")
            )
        }
    except Exception as e:
        _log(traceback.format_exc())
        what = f"the warden could not do this ({type(e).__name__})"
        result = {"error": _error(Refusal(what, todo="see warden.log"))}
    return canonical_json(result) + b"\n"


def _parse(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or set(request) - {"call", "args"}:
        raise Refusal("a request is one line of JSON: {call, args}", value=line[:80].decode(errors="replace"))
    name, args = request.get("call"), request.get("args", {})
    if name not in CALLS:
        raise Refusal("unknown call", value=name, todo="known calls: " + ", ".join(CALLS))
    if not isinstance(args, dict):
        raise Refusal("args must be an object", value=type(args).__name__)
    try:
        inspect.signature(getattr(Warden, name)).bind(None, **args)
    except TypeError as e:
        raise Refusal(f"wrong arguments for {name}", value=str(e), todo="see the door's documentation") from e
    return name, args


def _error(e: WardenFault) -> dict[str, Any]:
    if isinstance(e, VaultError | GraderError):
        value = None  # it may hold an answer
    else:
        value = e.value
    value = value if value is None or isinstance(value, str | int | float | bool) else repr(value)
    return {
        "type": type(e).__name__,
        "code": getattr(e, "code", ""),
        "what": e.what,
        "value": value[:500] if isinstance(value, str) else value,
        "todo": e.todo,
        "index": getattr(e, "index", None),
    }
