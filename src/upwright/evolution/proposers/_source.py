"""A program's Python source as a tree with positions, and what of it may change.

Changes are made in the text, at positions that the tree gives, so that what is not changed stays as it was, byte for byte.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

from upwright.errors import BodyError
from upwright.evolution.blocks import Scope, lines_of
from upwright.evolution.records import Program

LONGEST = 200_000
"""A longer file, in bytes, is left alone."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``start`` to ``stop`` of a file's UTF-8 text."""

    start: int
    stop: int

    def __contains__(self, other: Span) -> bool:
        return self.start <= other.start and other.stop <= self.stop


@dataclass(frozen=True)
class Source:
    """One parsed file.

    Attributes:
        data: its text in UTF-8; ``starts``: the byte at which each line begins, and the end.
        spans: where each node of ``tree`` stands, without white space around it.
        free: what may change, whole lines, in order.
    """

    path: str
    data: bytes
    tree: cst.Module
    spans: Mapping[cst.CSTNode, Span]
    free: tuple[Span, ...]
    starts: tuple[int, ...] = field(repr=False, default=())

    def may_change(self, node: cst.CSTNode) -> bool:
        """Whether a node lies wholly in what may change."""
        span = self.spans.get(node)
        return span is not None and any(span in free for free in self.free)

    def text(self, node: cst.CSTNode) -> str:
        """A node as it is written, without the comments and the indentation before it."""
        span = self.spans[node]
        return self.data[span.start : span.stop].decode()

    def line(self, position: int) -> int:
        """Index of the line that holds a byte."""
        return max(0, bisect.bisect_right(self.starts, position) - 1)

    def lines(self, node: cst.CSTNode) -> Span:
        """The whole lines that a node stands on."""
        span = self.spans[node]
        decorators = node.decorators if isinstance(node, cst.FunctionDef | cst.ClassDef) else ()
        first = self.line(min([span.start, *(self.spans[d].start for d in decorators)]))
        last = self.line(max(span.start, span.stop - 1))
        return Span(self.starts[first], self.starts[last + 1] if last + 1 < len(self.starts) else len(self.data))

    def indent(self, node: cst.CSTNode) -> str:
        """The white space before a node on its first line."""
        start = self.starts[self.line(self.spans[node].start)]
        line = self.data[start : self.spans[node].start].decode()
        return line[: len(line) - len(line.lstrip())]


def sources(program: Program, scope: Scope) -> list[Source]:
    """The Python files of which something may change, in order of their paths; those that do not parse are left out."""
    found = (source_of(path, text, scope) for path, text in sorted(program.items()) if path.endswith(".py"))
    return [source for source in found if source is not None and source.free]


@lru_cache(maxsize=32)
def source_of(path: str, text: str, scope: Scope) -> Source | None:
    """A file, parsed; ``None`` where it is too long, does not parse, or its markers do not pair."""
    data = text.encode()
    if len(data) > LONGEST or "\r" in text:
        return None
    try:
        wrapper = MetadataWrapper(cst.parse_module(text))
        ranges = scope.spans(path, text)
    except (cst.ParserSyntaxError, BodyError, RecursionError):
        return None
    spans = {
        node: Span(span.start, span.start + span.length)
        for node, span in wrapper.resolve(ByteSpanPositionProvider).items()
    }
    starts = [0]
    for line in lines_of(text):
        starts.append(starts[-1] + len(line.encode()))
    free = tuple(Span(starts[r.start], starts[r.stop]) for r in ranges if len(r))
    return Source(path, data, wrapper.module, spans, free, tuple(starts))


def spliced(data: bytes, changes: Iterable[tuple[Span, str]]) -> str:
    """A text with some spans replaced; they must not overlap, and equal empty ones keep their order."""
    pieces, at = [], 0
    for span, text in sorted(changes, key=lambda change: (change[0].start, change[0].stop)):
        pieces += [data[at : span.start], text.encode()]
        at = span.stop
    return b"".join([*pieces, data[at:]]).decode()


def compiles(text: str) -> bool:
    """Whether a text is a Python module."""
    try:
        compile(text, "program", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def body_of(block: cst.BaseSuite | cst.Module) -> Sequence[cst.BaseStatement | cst.BaseSmallStatement]:
    """The statements of a block."""
    return tuple(block.body)


def functions(source: Source) -> list[cst.FunctionDef]:
    """The functions at the top of a module, in order."""
    return [node for node in source.tree.body if isinstance(node, cst.FunctionDef)]
