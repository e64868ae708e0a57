from __future__ import annotations

import collections
import math
import socket
import struct
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.warden.isolation import wire

PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary(max_size=50)
)
KEYS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
DATA = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.sets(KEYS, max_size=5)
        | st.frozensets(KEYS, max_size=5)
    ),
    max_leaves=30,
)


@given(DATA)
def test_data_arrives_as_it_was(value: Any) -> None:
    found = wire.decode(wire.encode(value))
    assert type(found) is type(value)
    assert found == value or repr(found) == repr(value)


@given(st.lists(st.floats(), min_size=8, max_size=40))
def test_floats_arrive_bit_by_bit(values: list[float]) -> None:
    for kind in (list, tuple):
        found = wire.decode(wire.encode(kind(values)))
        assert type(found) is kind
        assert [struct.pack(">d", x) for x in found] == [struct.pack(">d", x) for x in values]


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_no_bytes_bring_anything_but_data_or_malformed(data: bytes) -> None:
    try:
        found = wire.decode(data)
    except wire.Malformed:
        return
    wire.encode(found)


@given(DATA, st.data())
def test_bytes_changed_on_the_way_are_data_or_malformed(value: Any, data: st.DataObject) -> None:
    sent = bytearray(wire.encode([value]))
    at = data.draw(st.integers(0, len(sent) - 1))
    sent[at] = data.draw(st.integers(0, 255))
    try:
        wire.decode(bytes(sent))
    except wire.Malformed:
        return


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3)[:, ::2], np.array(1.5), np.zeros((0, 3)), np.array(["a", "bc"]), np.array([True]),
        np.array([1 + 2j], dtype=np.complex64), np.array(["2020-01-01"], dtype="datetime64[D]"), np.float32(3), np.int8(4),
    ],
)  # fmt: skip
def test_arrays_and_numpys_numbers_arrive(array: Any) -> None:
    found = wire.decode(wire.encode(array))
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)


class Always(float):
    """A number that claims to equal everything and to be 9."""

    def __eq__(self, other: object) -> bool:
        return True

    def __float__(self) -> float:
        return 9.0

    def __reduce__(self) -> Any:
        return print, ("unpickled",)

    __hash__ = float.__hash__


class Endless(list):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        while True:
            yield 1

    def __len__(self) -> int:
        return 3


def test_a_subclass_arrives_as_the_plain_type() -> None:
    found = wire.decode(wire.encode(Always(2.0)))
    assert type(found) is float
    assert found == 2.0
    assert found != 3.0
    Pair = collections.namedtuple("Pair", "a b")
    for sub, plain in ((Endless([1, 2]), [1, 2]), (Pair(1, 2), (1, 2)), (collections.OrderedDict(a=1), {"a": 1})):
        found = wire.decode(wire.encode(sub))
        assert type(found) is type(plain)
        assert found == plain

    class Grid(np.ndarray):  # type: ignore[type-arg]
        def tobytes(self, *args: Any) -> bytes:
            return b"lies"

    grid = np.arange(4).view(Grid)
    found = wire.decode(wire.encode(grid))
    assert type(found) is np.ndarray
    assert found.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("value", [object(), Always, len, (x for x in ()), np.array([object()]), math])
def test_what_is_not_data_is_refused_and_named(value: Any) -> None:
    with pytest.raises(wire.NotData, match="is not data"):
        wire.encode([value])


def test_depth_is_bounded_both_ways() -> None:
    deep: list[Any] = []
    for _ in range(wire.MAX_DEPTH + 2):
        deep = [deep]
    with pytest.raises(wire.NotData, match="deeper"):
        wire.encode(deep)
    with pytest.raises(wire.Malformed):
        wire.decode((b"l" + struct.pack(">I", 1)) * 100_000 + b"N")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"?", b"l\xff\xff\xff\xff", b"s\x00\x00\x00\x05ab", b"NN", b"a\x02|O\x00\x00\x00\x00\x00",
        b"a\x03<f8\x01" + struct.pack(">q", -1) + b"\x00\x00\x00\x00", b"d\x00\x00\x00\x01l\x00\x00\x00\x00N",
        b"e\x00\x00\x00\x01l\x00\x00\x00\x00", b"x\x03<f8\x01" + struct.pack(">q", 0) + b"\x00\x00\x00\x00",
    ],
)  # fmt: skip
def test_malformed_bytes_are_named_so(data: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.decode(data)


def test_frames_cross_a_socket_and_end_with_it() -> None:
    one, other = socket.socketpair()
    big = np.arange(1_000_00.0)
    with one, other:
        sender = threading.Thread(target=wire.send, args=(one, {"big": big}))
        sender.start()
        seen: list[int] = []
        assert np.array_equal(wire.receive(other, lambda data: seen.append(len(data)))["big"], big)
        sender.join()
        assert seen[0] > big.nbytes
        one.sendall(struct.pack(">I", wire.MAX_BYTES + 1))
        with pytest.raises(wire.Malformed):
            wire.receive(other)
        one.close()
        with pytest.raises(EOFError):
            wire.receive(other)
