"""Messages between a pool and its zygotes: JSON with file descriptors beside it, over a Unix socket."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

_SIZE = struct.Struct(">I")
MAX_FDS = 8


def send(link: socket.socket, message: Any, fds: Sequence[int] = ()) -> None:
    """Write one message."""
    data = json.dumps(message).encode()
    frame = memoryview(_SIZE.pack(len(data)) + data)
    if fds:
        frame = frame[socket.send_fds(link, [frame], list(fds)) :]
    link.sendall(frame)


def receive(link: socket.socket) -> tuple[Any, list[int]]:
    """Read one message and the descriptors that came with it.

    Raises:
        EOFError: the other side is gone.
    """
    head, fds, _, _ = socket.recv_fds(link, _SIZE.size, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    try:
        head += _rest(link, _SIZE.size - len(head)) if head else b""
        if not head:
            raise EOFError("the other side is gone")
        return json.loads(_rest(link, _SIZE.unpack(head)[0])), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _rest(link: socket.socket, n: int) -> bytes:
    data = bytearray()
    while len(data) < n:
        piece = link.recv(n - len(data))
        if not piece:
            raise EOFError("the other side is gone")
        data += piece
    return bytes(data)
