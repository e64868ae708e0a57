"""The only language that a candidate's cell and an evaluator's cell share: plain data, bounded, nothing pickled.

A frame is its length (4 bytes, big-endian) and one value. A value is a tag of one byte and what belongs to it:
``None``, ``bool``, ``int``, ``float``, ``complex``, ``str``, ``bytes``, ``list``, ``tuple``, ``dict``, ``set``, ``frozenset``, numpy
arrays and scalars of numbers, text or dates. Whoever reads builds nothing but these types. A subclass arrives as the plain type: the numbers,
characters and items that it holds in C, whatever its own methods say. Anything else is refused with :class:`NotData`.
NaN and the infinities pass: what they are worth is judged elsewhere.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

MAX_BYTES = 64 << 20
MAX_DEPTH = 64
MAX_ITEMS = 4_000_000
_DTYPE = re.compile(r"[<>|=]?[biufcSUMm]\d+(\[\w+\])?")
_U32 = struct.Struct(">I")
_I64 = struct.Struct(">q")
_F64 = struct.Struct(">d")
_C128 = struct.Struct(">dd")


class NotData(TypeError):
    """A value that is not data, or too much of it."""


class Malformed(ValueError):
    """Bytes that no honest sender writes."""


def encode(value: Any) -> bytes:
    """A value as bytes.

    Raises:
        NotData: names the type that cannot pass.
    """
    out: list[bytes] = []
    _encode(value, out, 0)
    return b"".join(out)


def _encode(value: Any, out: list[bytes], depth: int) -> None:
    if value is None or value is True or value is False:
        out.append(b"N" if value is None else b"T" if value else b"F")
        return
    write = _WRITERS.get(type(value))
    if write is None:
        write = _writer_of(value)
    if depth > MAX_DEPTH:
        raise NotData(f"data nested deeper than {MAX_DEPTH}")
    write(value, out, depth)


def _writer_of(value: Any) -> Callable[[Any, list[bytes], int], None]:
    for base, write in _WRITERS.items():
        if isinstance(type(value), type) and issubclass(type(value), base):
            return write
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(type(value), numpy.ndarray | numpy.generic):
        return _write_array
    raise NotData(f"a value of type {type(value).__module__}.{type(value).__qualname__} is not data")


def _write_int(value: int, out: list[bytes], depth: int) -> None:
    value = int.__index__(value)
    if -(1 << 63) <= value < 1 << 63:
        out.append(b"i" + _I64.pack(value))
    else:
        data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        out.append(b"I" + _U32.pack(len(data)) + data)


def _write_float(value: float, out: list[bytes], depth: int) -> None:
    out.append(b"f" + _F64.pack(value))


def _write_complex(value: complex, out: list[bytes], depth: int) -> None:
    out.append(b"c" + _C128.pack(complex.real.__get__(value), complex.imag.__get__(value)))


def _write_str(value: str, out: list[bytes], depth: int) -> None:
    data = str.encode(value, "utf-8", "surrogatepass")
    out.append(b"s" + _U32.pack(len(data)) + data)


def _write_bytes(value: bytes, out: list[bytes], depth: int) -> None:
    data = bytes(value[:]) if type(value) in (bytes, bytearray) else bytes(memoryview(value))
    out.append(b"b" + _U32.pack(len(data)) + data)


def _write_items(tag: bytes, base: type) -> Callable[[Any, list[bytes], int], None]:
    iterate: Callable[[Any], Iterable[Any]] = base.__iter__  # type: ignore[attr-defined]
    count: Callable[[Any], int] = base.__len__  # type: ignore[attr-defined]

    def write(value: Any, out: list[bytes], depth: int) -> None:
        n = count(value)
        if n >= 8 and tag in _PACKED and set(map(type, iterate(value))) == {float}:
            out.append(_PACKED[tag] + _U32.pack(n) + struct.pack(f">{n}d", *iterate(value)))
            return
        out.append(tag + _U32.pack(n))
        for item in iterate(value):
            _encode(item, out, depth + 1)

    return write


def _write_dict(value: dict[Any, Any], out: list[bytes], depth: int) -> None:
    out.append(b"d" + _U32.pack(dict.__len__(value)))
    for key, item in dict.items(value):
        _encode(key, out, depth + 1)
        _encode(item, out, depth + 1)


def _write_array(value: Any, out: list[bytes], depth: int) -> None:
    import numpy as np

    scalar = isinstance(value, np.generic)
    plain = np.asarray(np.ndarray.view(value, np.ndarray) if not scalar else value)
    dtype = plain.dtype.str
    if not _DTYPE.fullmatch(dtype):
        raise NotData(f"a numpy array of dtype {plain.dtype} is not data")
    kind, shape, data = dtype.encode(), plain.shape, plain.tobytes()
    out.append(b"x" if scalar else b"a")
    out.append(bytes([len(kind)]) + kind + bytes([len(shape)]) + b"".join(_I64.pack(n) for n in shape))
    out.append(_U32.pack(len(data)) + data)


_PACKED = {b"l": b"v", b"t": b"w"}
"""Tags of a list and a tuple of floats alone, eight bytes each."""
_WRITERS: dict[type, Callable[[Any, list[bytes], int], None]] = {
    float: _write_float,
    int: _write_int,
    str: _write_str,
    list: _write_items(b"l", list),
    tuple: _write_items(b"t", tuple),
    dict: _write_dict,
    bytes: _write_bytes,
    bytearray: _write_bytes,
    complex: _write_complex,
    set: _write_items(b"e", set),
    frozenset: _write_items(b"z", frozenset),
}


class _Reader:
    """Builds plain values from bytes; every length is checked against what is there."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.items = data, 0, 0

    def take(self, n: int) -> bytes:
        end = self.at + n
        if n < 0 or end > len(self.data):
            raise Malformed("a value is cut off")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def count(self, least: int = 1) -> int:
        n: int = _U32.unpack(self.take(4))[0]
        self.items += n
        if self.items > MAX_ITEMS or n * least > len(self.data) - self.at:
            raise Malformed("more items than there are bytes, or than are allowed")
        return n

    def value(self, depth: int = 0) -> Any:
        if depth > MAX_DEPTH + 1:
            raise Malformed(f"data nested deeper than {MAX_DEPTH}")
        tag = self.take(1)
        if tag in _CONTAINERS:
            return self._items(_CONTAINERS[tag], depth)
        if tag == b"d":
            return self._dict(depth)
        if tag not in _READERS:
            raise Malformed(f"unknown tag {tag!r}")
        return _READERS[tag](self)

    def _items(self, kind: type, depth: int) -> Any:
        found = [self.value(depth + 1) for _ in range(self.count())]
        try:
            return kind(found)
        except TypeError as error:
            raise Malformed("an item of a set cannot be hashed") from error

    def _dict(self, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(self.count(2)):
            key = self.value(depth + 1)
            try:
                found[key] = self.value(depth + 1)
            except TypeError as error:
                raise Malformed("a key cannot be hashed") from error
        return found

    def floats(self) -> list[float]:
        n = self.count(8)
        return list(struct.unpack(f">{n}d", self.take(8 * n)))

    def big(self) -> int:
        return int.from_bytes(self.take(self.count()), "big", signed=True)

    def text(self) -> str:
        try:
            return self.take(_U32.unpack(self.take(4))[0]).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise Malformed("text that is not UTF-8") from error

    def array(self) -> Any:
        import numpy as np

        dtype = self.take(self.take(1)[0]).decode("ascii", "replace")
        shape = tuple(_I64.unpack(self.take(8))[0] for _ in range(self.take(1)[0]))
        data = self.take(_U32.unpack(self.take(4))[0])
        if not _DTYPE.fullmatch(dtype) or any(n < 0 for n in shape) or len(shape) > 32:
            raise Malformed(f"an array of dtype {dtype!r} and shape {shape!r}")
        try:
            return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(shape).copy()
        except (ValueError, TypeError) as error:
            raise Malformed(f"an array that does not hold together: {error}") from error

    def scalar(self) -> Any:
        found = self.array()
        if found.shape != ():
            raise Malformed("a scalar with a shape")
        return found[()]


_CONTAINERS: dict[bytes, type] = {b"l": list, b"t": tuple, b"e": set, b"z": frozenset}
_READERS: dict[bytes, Callable[[_Reader], Any]] = {
    b"N": lambda r: None,
    b"T": lambda r: True,
    b"F": lambda r: False,
    b"i": lambda r: _I64.unpack(r.take(8))[0],
    b"I": _Reader.big,
    b"f": lambda r: _F64.unpack(r.take(8))[0],
    b"c": lambda r: complex(*_C128.unpack(r.take(16))),
    b"s": _Reader.text,
    b"b": lambda r: r.take(_U32.unpack(r.take(4))[0]),
    b"v": _Reader.floats,
    b"w": lambda r: tuple(r.floats()),
    b"a": _Reader.array,
    b"x": _Reader.scalar,
}


def decode(data: bytes) -> Any:
    """The value that bytes stand for.

    Raises:
        Malformed: they stand for none.
    """
    reader = _Reader(data)
    try:
        found = reader.value()
    except RecursionError as error:
        raise Malformed("data nested too deep") from error
    if reader.at != len(data):
        raise Malformed("bytes after the end")
    return found


def send(link: socket.socket, value: Any) -> None:
    """Write one frame.

    Raises:
        NotData: the value cannot pass, or is too large.
        OSError: the other side is gone.
    """
    send_bytes(link, encode(value))


def send_bytes(link: socket.socket, data: bytes) -> None:
    """Write one frame that is encoded already.

    Raises:
        NotData: it is too large.
        OSError: the other side is gone.
    """
    if len(data) > MAX_BYTES:
        raise NotData(f"{len(data)} bytes of data are more than the {MAX_BYTES} that may pass")
    link.sendall(_U32.pack(len(data)) + data)


def receive(link: socket.socket, watch: Callable[[bytes], None] | None = None) -> Any:
    """Read one frame; ``watch`` is shown its bytes.

    Raises:
        EOFError: the other side is gone.
        Malformed: the frame is none.
    """
    (size,) = _U32.unpack(_exactly(link, 4))
    if size > MAX_BYTES:
        raise Malformed(f"a frame of {size} bytes")
    data = _exactly(link, size)
    if watch is not None:
        watch(data)
    return decode(data)


def _exactly(link: socket.socket, n: int) -> bytes:
    pieces: list[bytes] = []
    while n:
        piece = link.recv(min(n, 1 << 20))
        if not piece:
            raise EOFError("the other side is gone")
        pieces.append(piece)
        n -= len(piece)
    return b"".join(pieces)
