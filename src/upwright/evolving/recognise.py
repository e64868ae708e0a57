"""What a file that scores programs is: found by reading its source, never by running it.

Three formats are known. ``evaluate``: a function ``evaluate(program_path)`` that returns metrics, perhaps with quick stages
``evaluate_stage1`` to ``evaluate_stage3`` before it (OpenEvolve's). ``shinka``: a script whose ``main(program_path, results_dir)``
writes ``metrics.json`` and ``correct.json`` (ShinkaEvolve's). ``command``: words of a command line that prints or writes JSON.
"""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from upwright.errors import TaskError

Kind = Literal["evaluate", "shinka", "command"]

STAGES = ("evaluate_stage1", "evaluate_stage2", "evaluate_stage3")
SHIMMED = frozenset({"openevolve", "shinka"})
"""Packages whose few names that evaluators use are given to them by the isolation, whether or not they are installed."""
UNFORKABLE = frozenset({"torch", "jax", "tensorflow", "mlx", "cupy"})
"""Packages with threads or devices of their own: a process that has imported them is not forked."""
LANGUAGES = {
    ".py": "python", ".rs": "rust", ".go": "go", ".jl": "julia", ".r": "r", ".f90": "fortran", ".c": "c", ".cpp": "cpp",
    ".cc": "cpp", ".js": "javascript", ".ts": "typescript", ".java": "java", ".wl": "wolfram", ".sv": "verilog", ".v": "verilog",
    ".cu": "cuda", ".metal": "metal", ".sh": "shell", ".sql": "sql", ".lua": "lua", ".hs": "haskell", ".txt": "text", ".md": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """How programs are scored.

    Attributes:
        entry: the evaluator file's name, or the command's words.
        stages: the quick stages that it has, in order.
        reads_text: it opens ``program_path`` itself, instead of only importing it.
    """

    kind: Kind
    entry: str | tuple[str, ...]
    stages: tuple[str, ...] = ()
    reads_text: bool = False


def language_of(path: str, given: str = "") -> str:
    """The language that a person named, else the one that the file's name tells; ``text`` where nothing does."""
    return given.lower() or LANGUAGES.get(Path(path).suffix.lower(), "text")


def recognise(evaluator: str, beside: Sequence[Path] = ()) -> Format:
    """The format of what a person gave as EVALUATOR: a file, or a command.

    Args:
        beside: folders in which a command's first words may also be found.

    Raises:
        TaskError: there is no such file or command, or the file has nothing that evaluates.
    """
    path = Path(evaluator)
    if path.is_file():
        if path.suffix == ".py":
            return of_source(_read(path), path.name)
        return Format("command", (f"./{path.name}",) if os.access(path, os.X_OK) else ("sh", path.name))
    if path.is_dir():
        raise TaskError(
            "the evaluator is a folder", value=evaluator, todo="name the file in it, or a command in quotes"
        )
    try:
        words = tuple(shlex.split(evaluator))
    except ValueError as error:
        raise TaskError(
            f"the evaluator's command cannot be read: {error}", value=evaluator, todo="mend the quotes"
        ) from None
    if not words:
        raise TaskError("no evaluator is named", value=evaluator, todo="name a file, or a command in quotes")
    found = shutil.which(words[0]) or any((folder / words[0]).is_file() for folder in beside)
    if not found:
        what = "there is no such evaluator file" if len(words) == 1 else "the evaluator's command is not found"
        raise TaskError(what, value=words[0], todo="name a file that exists, or a command in quotes")
    return Format("command", words)


def of_source(source: str, name: str) -> Format:
    """The format of an evaluator's Python source.

    Raises:
        TaskError: it is not Python, or has nothing that evaluates.
    """
    tree = parse(source, name)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    reads = _reads_text(tree)
    main = functions.get("main")
    if main is not None and _arguments(main)[:2] == ["program_path", "results_dir"]:
        return Format("shinka", name, reads_text=reads)
    if "evaluate" in functions and _arguments(functions["evaluate"]):
        stages = tuple(s for s in STAGES if s in functions)
        return Format("evaluate", name, stages if stages[:1] == STAGES[:1] else (), reads)
    options = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    if {"--program_path", "--results_dir"} <= options:
        return Format("shinka", name, reads_text=reads)
    raise TaskError(
        f"{name} has nothing that evaluates a program",
        value=sorted(functions),
        todo="give it evaluate(program_path) or main(program_path, results_dir), or name a command in quotes",
    )


def parse(source: str, name: str) -> ast.Module:
    """The syntax tree of a Python file.

    Raises:
        TaskError: names the line.
    """
    try:
        return ast.parse(source, name)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise TaskError(f"{name}{where} is not Python: {getattr(error, 'msg', error)}", todo="mend the file") from None


def imported(source: str) -> tuple[str, ...]:
    """Dotted names of the modules that a Python source imports, in order; those of sources that do not parse are none."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    return tuple(dict.fromkeys(_imports(tree)))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")


@dataclass(frozen=True, slots=True)
class Needs:
    """Packages that an evaluator and a program import: those to import before forking, and those that are not installed."""

    warm: tuple[str, ...]
    missing: tuple[str, ...]


def needs(sources: Sequence[str], local: Sequence[str] = ()) -> Needs:
    """What is to be imported once, before processes are forked for the runs. Nothing is imported to find out.

    Args:
        local: names of modules that lie beside the files.
    """
    warm, missing = list[str](), list[str]()
    for name in dict.fromkeys(n for source in sources for n in imported(source)):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in SHIMMED or top in local or top == "__future__":
            continue
        spec = PathFinder.find_spec(top)
        if spec is None:
            missing.append(top)
        elif top not in UNFORKABLE and (name == top or _is_module(name, spec.submodule_search_locations or ())):
            warm.append(name)
    return Needs(tuple(dict.fromkeys(warm)), tuple(dict.fromkeys(missing)))


def _is_module(name: str, places: Sequence[str]) -> bool:
    """Whether a dotted name is a module on the disk, as far as its package's folder tells."""
    inside = Path(*name.split(".")[1:])
    return any((Path(p) / inside).is_dir() or (Path(p) / inside.with_suffix(".py")).is_file() for p in places)


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [a.arg for a in (*function.args.posonlyargs, *function.args.args)]


def _reads_text(tree: ast.Module) -> bool:
    """Whether the source opens its ``program_path``: ``open(program_path)`` or ``Path(program_path).read_…``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named = node.args and isinstance(node.args[0], ast.Name) and node.args[0].id == "program_path"
            if named and isinstance(node.func, ast.Name) and node.func.id == "open":
                return True
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "read_bytes"):
                inner = node.func.value
                if any(isinstance(n, ast.Name) and n.id == "program_path" for n in ast.walk(inner)):
                    return True
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path.name} cannot be read: {error}", value=str(path), todo="check the file") from None
