"""Whether a program says anything new, found before the evaluation that would cost something.

Of each file there are two digests. ``same``: of what Python makes of it (its compiled code, which has no comments, white space
or line numbers), and for other languages of its text without the white space at ends of lines. ``near``: the same with local
names, documentation and the tenth digit of numbers left out. Two programs whose files agree in the first are the same, in the second nearly so.

Nothing is run: compiling only reads. Where an evaluator looks at the text itself (its length, say), ``syntax=False`` compares texts.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from types import CodeType

from upwright.evolution.records import Program

GRAM = 4
"""Tokens in a row that count as one piece of structure."""
DIGITS = 9
"""Digits of a number that count, where nearly the same is the same."""
_KEPT = 128
_WITHIN = "code"
_TOKEN = re.compile(r"[A-Za-z_]\w*|\d[\w.]*|[^\w\s]")
_NUMBER = re.compile(r"\d+\.\d+(?:[eE][+-]?\d+)?")
_WORDS = frozenset({
    "and", "as", "assert", "async", "await", "break", "case", "catch", "class", "const", "continue", "def", "del",
    "do", "elif", "else", "enum", "except", "finally", "fn", "for", "foreach", "from", "func", "function", "global",
    "goto", "if", "impl", "import", "in", "is", "lambda", "let", "match", "mod", "module", "new", "nonlocal", "not",
    "or", "pass", "pub", "raise", "return", "self", "struct", "switch", "throw", "trait", "try", "type", "use", "var",
    "while", "with", "yield",
})  # fmt: skip
"""Words that are structure, in the languages that most programs are written in; other words are names."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a program is recognised and placed by.

    Attributes:
        same, near: hex digests; see the module.
        length: characters of all files; ``change``: how far the structure is from the origin's, in [0, 1].
    """

    same: str
    near: str
    length: int
    change: float


@dataclass(frozen=True, slots=True)
class _File:
    same: bytes
    near: bytes
    grams: frozenset[object]


class Novelty:
    """Marks of programs, compared with the one that a search starts from.

    Args:
        syntax: whether two texts that mean the same are the same.
    """

    def __init__(self, origin: Program, syntax: bool = True) -> None:
        self._syntax = syntax
        self._origin = {path: _read(path, text, syntax) for path, text in origin.items()}
        self._texts = dict(origin)
        self._files = functools.lru_cache(maxsize=_KEPT)(lambda path, text: _read(path, text, syntax))

    def marks(self, program: Program) -> Marks:
        """Digests and place of a program; files that are the origin's own cost nothing."""
        files = {path: self._file(path, text) for path, text in sorted(program.items())}
        same, near = hashlib.sha256(), hashlib.sha256()
        for path, file in files.items():
            for digest, part in ((same, file.same), (near, file.near)):
                digest.update(path.encode("utf-8", "surrogateescape") + b"\0" + part)
        return Marks(same.hexdigest(), near.hexdigest(), sum(map(len, program.values())), self._change(files))

    def _file(self, path: str, text: str) -> _File:
        if self._texts.get(path) == text:
            return self._origin[path]
        found: _File = self._files(path, text)
        return found

    def _change(self, files: Mapping[str, _File]) -> float:
        """1 − the Jaccard index of pieces of structure, over all files."""
        both = either = 0
        for path in {*files, *self._origin}:
            own, first = files.get(path), self._origin.get(path)
            a, b = own.grams if own else frozenset(), first.grams if first else frozenset()
            shared = len(a) if a is b else len(a & b)
            both, either = both + shared, either + len(a) + len(b) - shared
        return 1.0 - both / either if either else 0.0


def _read(path: str, text: str, syntax: bool) -> _File:
    code = _compiled(text) if syntax and path.endswith(".py") else None
    if code is not None:
        same, near, grams = list[object](), list[object](), set[object]()
        _walk(code, same, near, grams)
        return _File(_digest(repr(same)), _digest(repr(near)), frozenset(grams))
    plain = "\n".join(line.rstrip() for line in text.split("\n"))
    words = " ".join(_NUMBER.sub(lambda m: repr(_rounded(float(m[0]))), text).split())
    return _File(_digest(plain if syntax else text), _digest(words if syntax else text), _grams(text))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _compiled(text: str) -> CodeType | None:
    """The compiled text, never run; ``None`` where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compile(text, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def _walk(code: CodeType, same: list[object], near: list[object], grams: set[object]) -> None:
    """What a code object says without where it stands, all of it and what matters; and the pieces of its structure."""
    steps, documented = code.co_code, code.co_flags & CO_OPTIMIZED
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, len(code.co_consts))
    shape = (steps, code.co_exceptiontable, code.co_flags, counts)
    same += (shape, code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars)
    near += (shape, code.co_names, len(code.co_varnames), len(code.co_cellvars), len(code.co_freevars))
    for index, value in enumerate(code.co_consts):
        kind = type(value)
        if kind is CodeType:
            same.append(_WITHIN)
            near.append(_WITHIN)
            _walk(value, same, near, grams)
            continue
        if kind is frozenset:  # a set has no order, and a text of it another one in every process
            value = ("set", sorted(map(repr, value)))
        same.append(value)
        if kind is float or kind is tuple:
            value = _about(value)
        elif kind is str and index == 0 and documented:
            value = None  # a function's documentation, if it has any, is its first constant
        near.append(value)
    kinds = steps[::2].replace(b"\0", b"")  # without what the interpreter keeps between its steps
    grams.update([kinds[i : i + GRAM] for i in range(len(kinds) - GRAM + 1)])


def _about(value: object) -> object:
    """A constant without the digits that hardly matter."""
    if isinstance(value, tuple):
        return tuple(map(_about, value))
    return _rounded(value) if isinstance(value, float) else value


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value


def _grams(text: str) -> frozenset[object]:
    """Pieces of structure: runs of tokens in which a name is a name and a number a number. Hashes that are the same in every process."""
    kinds = [_kind(token) for token in _TOKEN.findall(text)]
    if len(kinds) < GRAM:
        return frozenset(kinds)
    a, b, c, d = kinds, kinds[1:], kinds[2:], kinds[3:]
    return frozenset(w * 1_000_003 + x * 10_007 + y * 101 + z for w, x, y, z in zip(a, b, c, d))


def _kind(token: str) -> int:
    first = token[0]
    if first.isdigit():
        return 1
    return 2 if (first.isalpha() or first == "_") and token not in _WORDS else _mark(token)


@functools.lru_cache(maxsize=1024)
def _mark(token: str) -> int:
    """The number of a word or sign, the same in every process."""
    return 3 + int.from_bytes(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()[:4], "big")
