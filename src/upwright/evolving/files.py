"""Which files are the program, and which the evaluator needs: copied into the project, whole and unchanged.

What may change lies in ``body/program/``; what scores it, and every file of a repository that may not change, in ``tasks/NAME/``,
which the warden freezes when the project is founded.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from upwright.errors import ProjectError, TaskError
from upwright.evolving.recognise import Format, imported, recognise

JUNK = frozenset(
    {"__pycache__", "node_modules", "venv", "env", "site-packages", "results", "outputs", "logs", "target", "build"}
)
"""Folders that hold what tools made; hidden ones are left out too."""
JUNK_FILES = ("*.pyc", "*.ipynb", "*.sqlite", "*.db", "*.log")
MOST_FILES, MOST_BYTES = 2000, 64 * 1024 * 1024
"""Beside an evaluator; of a folder with more, only what the evaluator's source names is copied."""
MOST_PROGRAM = 1024 * 1024
"""Characters of a program, all its files together."""
INITIAL = ("initial_program", "initial", "program", "main", "solution")
"""Names of a first program, the likeliest first; a project that begins with one is named after its folder."""
EVALUATORS = ("evaluator.py", "evaluate.py")
BLOCK = "EVOLVE-BLOCK-START"


@dataclass(frozen=True, slots=True)
class Sources:
    """What a person pointed at, sorted into what may change and what may not.

    Attributes:
        name: of the suite and the project.
        main: path of the program's main file inside ``program/``.
        program: path inside ``program/`` → text.
        fixed: of those, the ones that the program only needs, which no proposer may change.
        beside: path inside ``tasks/NAME/`` → the file to copy there.
        notes: what was left out or guessed, in sentences.
    """

    name: str
    format: Format
    main: str
    program: Mapping[str, str]
    fixed: tuple[str, ...]
    beside: Mapping[str, Path]
    evaluator: Path | None
    notes: tuple[str, ...] = ()

    @property
    def scored_by(self) -> str:
        """The evaluator's source; empty for a command."""
        return self.evaluator.read_text("utf-8") if self.evaluator and self.evaluator.suffix == ".py" else ""


def gather(program: Path, evaluator: str | None, allow: Sequence[str] = ()) -> Sources:
    """Sort the files of PROGRAM and EVALUATOR.

    Args:
        evaluator: a file or a command; ``None`` for a folder that holds one of :data:`EVALUATORS`.
        allow: paths inside a folder PROGRAM, or patterns, that may change; empty means all that the evaluator is not.

    Raises:
        ProjectError: PROGRAM is not there, is not text, or no file of it may change.
        TaskError: EVALUATOR is not there, or nothing in it evaluates.
    """
    if not program.exists():
        raise ProjectError("there is no such program", value=str(program), todo="name a file or a folder")
    folder = program if program.is_dir() else program.parent
    if evaluator is None:
        found = [folder / name for name in EVALUATORS if (folder / name).is_file()]
        if len(found) != 1:
            raise TaskError(
                "no evaluator is named, and the folder does not tell which it is",
                value=str(folder),
                todo="name it: `upwright evolve PROGRAM EVALUATOR`",
            )
        evaluator = str(found[0])
    found_format = recognise(evaluator, (folder,))
    file = Path(evaluator) if Path(evaluator).is_file() else None
    if program.is_dir() and (found_format.kind == "command" or allow):
        return _repository(program, file, found_format, allow)
    if found_format.kind == "command" and not allow:
        whole = _repository(folder, file, found_format, [program.name])
        return replace(whole, name=_named(program), main=program.name)
    if allow:
        raise ProjectError("--allow is for a folder", value=str(program), todo="mark what may change with EVOLVE-BLOCK")
    if program.is_dir():
        program = _first_program(program, file)
    return _one_file(program, file, found_format)


def _one_file(program: Path, evaluator: Path | None, found: Format) -> Sources:
    """A program of one file, with the modules that it imports from beside it, which stay as they are."""
    texts = {program.name: _text(program)}
    notes = []
    if program.suffix == ".py":
        for path in local_modules(program):
            if evaluator is None or path.resolve() != evaluator.resolve():
                texts[path.relative_to(program.parent).as_posix()] = _text(path)
    fixed = tuple(sorted(set(texts) - {program.name}))
    if fixed:
        notes.append(f"the program imports {', '.join(fixed)} from beside it: copied, and not to be changed")
    beside, more = _beside(evaluator, found) if evaluator else ({}, [])
    return Sources(_named(program), found, program.name, texts, fixed, beside, evaluator, (*notes, *more))


def _first_program(folder: Path, evaluator: Path | None) -> Path:
    """The program in an example's folder: the one with a conventional name, or the only one with marks.

    Raises:
        ProjectError: it cannot be told.
    """
    files = [
        f for f in sorted(folder.iterdir()) if f.is_file() and (evaluator is None or f.resolve() != evaluator.resolve())
    ]
    for name in INITIAL:
        named = [
            f for f in files if f.stem == name and f.suffix not in (".md", ".txt", ".yaml", ".yml", ".toml", ".json")
        ]
        if len(named) == 1:
            return named[0]
    marked = [f for f in files if f.stat().st_size <= MOST_PROGRAM and BLOCK in f.read_text("utf-8", "ignore")]
    if len(marked) == 1:
        return marked[0]
    told = [f.name for f in marked or files]
    raise ProjectError(
        "the folder does not tell which file is the program",
        value=told[:12],
        todo="name the file as PROGRAM, or the paths that may change with --allow",
    )


def _repository(folder: Path, evaluator: Path | None, found: Format, allow: Sequence[str]) -> Sources:
    """A folder of which some paths may change; the others are the evaluator's."""
    files = {f.relative_to(folder).as_posix(): f for f in walk(folder)}
    if len(files) > MOST_FILES or sum(f.stat().st_size for f in files.values()) > MOST_BYTES:
        raise ProjectError(
            f"the folder has more than {MOST_FILES} files or {MOST_BYTES // 2**20} MB",
            value=str(folder),
            todo="move data and results out of it, or into a hidden folder",
        )
    named = {evaluator.relative_to(folder).as_posix()} if evaluator and evaluator.is_relative_to(folder) else set()
    if isinstance(found.entry, tuple):
        named |= {str(PurePosixPath(word)) for word in found.entry if str(PurePosixPath(word)) in files}
    chosen = sorted(p for p in files if p not in named and (not allow or _allowed(p, allow)))
    texts, notes = {}, []
    for path in chosen:
        try:
            texts[path] = _text(files[path])
        except ProjectError:
            if allow and path in allow:
                raise
            notes.append(f"{path} is not text: it stays as it is")
    if not texts:
        raise ProjectError("no file may change", value=list(allow), todo="name paths inside the folder with --allow")
    if not allow:
        kept = f" but {', '.join(sorted(named))}" if named else ""
        notes.append(f"every text file{kept} may change; --allow PATH names those that may")
    fixed = _imported(folder, texts, files) if found.kind != "command" else {}
    texts |= fixed
    beside = {p: f for p, f in files.items() if p not in texts or p in fixed}
    if evaluator is not None and not named:
        more, told = _beside(evaluator, found)
        notes += told
        beside = {**more, **beside, evaluator.name: evaluator}
    elif evaluator is not None:
        found = Format(found.kind, named.copy().pop(), found.stages, found.reads_text)
    marked = [p for p, text in texts.items() if BLOCK in text]
    main = next(iter(marked), None) or _likely({p: t for p, t in texts.items() if p not in fixed})
    return Sources(
        _slug(folder.resolve().name), found, main, texts, tuple(sorted(fixed)), beside, evaluator, tuple(notes)
    )


def _imported(folder: Path, texts: Mapping[str, str], files: Mapping[str, Path]) -> dict[str, str]:
    """Modules of a folder that its changeable Python files import, and that may not change."""
    found: dict[str, str] = {}
    for path in texts:
        for module in local_modules(folder / path, folder) if path.endswith(".py") else ():
            name = module.relative_to(folder).as_posix()
            if name in files and name not in texts:
                found[name] = _text(module)
    return found


def _likely(texts: Mapping[str, str]) -> str:
    """The main file among several: a conventional name, else the first."""
    order = {name: number for number, name in enumerate(INITIAL)}
    return min(texts, key=lambda p: (order.get(PurePosixPath(p).stem, len(order)), p.count("/"), p))


def _allowed(path: str, allow: Sequence[str]) -> bool:
    clean = [a.removeprefix("./") for a in allow]
    return any(path == a or path.startswith(a.rstrip("/") + "/") or fnmatch(path, a) for a in clean)


def _beside(evaluator: Path, found: Format) -> tuple[dict[str, Path], list[str]]:
    """The evaluator and the files around it."""
    folder = evaluator.parent
    files = list(walk(folder, MOST_FILES + 1))
    small = len(files) <= MOST_FILES and sum(f.stat().st_size for f in files) <= MOST_BYTES
    notes = []
    if not small:
        files = (
            [evaluator, *local_modules(evaluator), *_mentioned(evaluator)] if evaluator.suffix == ".py" else [evaluator]
        )
        notes.append(f"the folder of {evaluator.name} is large: only what it imports and names was copied")
    return {f.relative_to(folder).as_posix(): f for f in dict.fromkeys(files)}, notes


def walk(folder: Path, most: int = 10 * MOST_FILES) -> Iterator[Path]:
    """Regular files under a folder, sorted by path; none that tools made, none that are hidden, no links, no project of ours."""
    count = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(
            f
            for f in folders
            if f not in JUNK and not f.startswith(".") and not (Path(root, f) / "upwright.toml").exists()
        )
        for name in sorted(names):
            path = Path(root, name)
            if (
                name.startswith(".")
                or any(fnmatch(name, j) for j in JUNK_FILES)
                or path.is_symlink()
                or not path.is_file()
            ):
                continue
            yield path
            count += 1
            if count >= most:
                return


def local_modules(file: Path, root: Path | None = None) -> list[Path]:
    """Python files beside a file that it imports, and what those import in turn; whole packages with all their modules.

    Args:
        root: another folder to look in.
    """
    folders, found, todo = dict.fromkeys((file.parent, root or file.parent)), dict[Path, None](), [file]
    while todo:
        for name in imported(todo.pop().read_text("utf-8", "ignore")):
            for path in (p for folder in folders for p in _module(folder, name.partition(".")[0])):
                if path not in found and path != file:
                    found[path] = None
                    todo.append(path)
    return list(found)


def _module(folder: Path, name: str) -> list[Path]:
    """The files of a module or a package in a folder; none where there is none."""
    module, package = folder / f"{name}.py", folder / name
    if package.is_dir() and any(package.glob("*.py")):
        return [f for f in walk(package) if f.suffix == ".py"]
    return [module] if module.is_file() else []


def _mentioned(file: Path) -> list[Path]:
    """Files and folders beside a Python file that a text in its source names."""
    folder, found = file.parent, list[Path]()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 200:
            text = node.value.strip()
            if not text or text.startswith(("/", ".")) or "\0" in text or ".." in text:
                continue
            path = folder / text
            if path.is_file():
                found.append(path)
            elif path.is_dir():
                found += list(walk(path, MOST_FILES))
    return found


def _text(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(
            f"{path.name} cannot be read as text: {error}", value=str(path), todo="a program is text"
        ) from None
    if len(text) > MOST_PROGRAM or "\0" in text:
        raise ProjectError(f"{path.name} is no program, or a very long one", value=len(text), todo="name another file")
    return text


def _named(program: Path) -> str:
    """What a project is called: the program's name, or its folder's where that says nothing."""
    generic = program.stem.lower() in INITIAL
    return _slug(program.resolve().parent.name if generic else program.stem)


def _slug(text: str) -> str:
    slug = "".join(c if c.isalnum() or c in "_-" else "-" for c in text).strip("-_")
    return slug or "program"
