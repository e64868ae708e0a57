"""What an agent proposes: new texts for parts of the champion, checked against what is in scope, or refused with every reason."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from upwright.bodies.body import TEXTS, Body
from upwright.bodies.store import Store
from upwright.bodies.tree import check_path
from upwright.errors import BodyError, CharterError, ProjectError, StorageError, UpwrightError
from upwright.evolution.blocks import Scope, outside
from upwright.evolution.edits import Edit, apply, parse_reply
from upwright.evolution.settings import is_program, read_search
from upwright.records import Generation
from upwright.warden.charter import Charter

Form = Literal["files", "edits"]
"""Whole files; or SEARCH/REPLACE blocks or a unified diff, told apart by their marks."""

TELLABLE = (*TEXTS, "model.toml", "program/", "improver/")
"""Parts that a text can be told for, as far as the charter allows them: all but weights."""
MOST_TEXT = 512 * 1024
"""Bytes of a text part that is read or told, and of all parts that one change tells."""
_MARKS = ("<<<<<<< SEARCH", "\n@@ ", "\n+++ ")

Texts = Mapping[str, str]
"""Path inside the body → text."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What an agent said, before anything was made of it.

    Attributes:
        files: path inside the body → its whole new text, ``None`` to delete it.
        text: edits, instead of ``files``.
        reason: why, in words; goes on the ledger.
        author: the agent's name; goes on the ledger.
        parent: digest, or the beginning of it, of the champion that the agent read; empty for whichever it is.
        weakness: the skill that it is for, where it is for one.
    """

    files: Mapping[str, str | None] = field(default_factory=dict)
    text: str = ""
    reason: str = ""
    author: str = "agent"
    parent: str = ""
    weakness: str | None = None

    @property
    def form(self) -> Form:
        """In which form it is."""
        return "edits" if self.text else "files"


def texts_of(store: Store, generation: Generation) -> dict[str, str]:
    """Every part of a generation that is text and may be told, by path."""
    found = {}
    for path in sorted(generation.files):
        if tellable(path):
            text = _text(store, generation, path)
            if text is not None:
                found[path] = text
    return found


def tellable(path: str) -> bool:
    """Whether a text can be told for this path, whatever the charter says."""
    return any(path == part or (part.endswith("/") and path.startswith(part)) for part in TELLABLE)


def _text(store: Store, generation: Generation, path: str) -> str | None:
    try:
        if store.blobs.path(generation.files[path]).stat().st_size > MOST_TEXT:
            return None
        text = store.file(generation, path).decode()
    except (OSError, UnicodeDecodeError, StorageError):
        return None
    return None if "\0" in text else text


def changed(offer: Offer, before: Texts, charter: Charter, root: Path) -> dict[str, str | None]:
    """The texts that the offer changes: path → new text, ``None`` for one that is gone.

    Args:
        before: the parent's texts.
        root: the parent's checkout, for what is read together with a changed part.

    Raises:
        EditError: an edit does not apply; ProjectError: nothing changes; CharterError: a part is out of scope;
            BodyError: a new text is malformed. Each names every reason.
    """
    if bool(offer.text) == bool(offer.files):
        raise ProjectError("a change is either whole files or edits", todo="give one of them")
    scope = scope_of(charter, root)
    after = _edited(offer.text, before, scope) if offer.text else dict(offer.files)
    new = {path: text for path, text in after.items() if path not in before or before[path] != text}
    _hold_to_scope(new, before, charter, scope)
    if not new:
        raise ProjectError("this changes nothing: every text is the champion's already", value=sorted(after))
    size = sum(len((text or "").encode()) for text in new.values())
    if size > MOST_TEXT:
        raise ProjectError("this is too much text for one change", value=size, todo=f"at most {MOST_TEXT} bytes")
    hold_to_form(new, root)
    return new


def scope_of(charter: Charter, root: Path) -> Scope:
    """What may change of the body in ``root``: what the charter allows, and of a program what its own ``[search]`` does.

    Paths are inside the body; in files of a program with EVOLVE-BLOCK marks only what is between them may change.
    """
    allowed = tuple(path for path in charter.may_change if not path.startswith("model/"))
    body = Body(root)
    if not is_program(body):
        return Scope(allowed)
    search = read_search(body)
    own = [path for path in allowed if path != "program/"]
    within = [path for path in search.paths if not path.startswith("!")] if "program/" in allowed else []
    fixed = [path.removeprefix("!") for path in search.paths if path.startswith("!")]
    return Scope(
        (*own, *(f"program/{path}" for path in within), *(f"!program/{path}" for path in fixed)), search.blocks
    )


def _edited(text: str, before: Texts, scope: Scope) -> dict[str, str | None]:
    """The parent's texts after the edits."""
    edits = [_inside(edit, before) for edit in parse_reply(text)]
    after = apply(before, edits, scope)
    return {path: after.get(path) for path in {*before, *after}}


def _inside(edit: Edit, before: Texts) -> Edit:
    """The edit, its path said from the body: a program's own paths, which begin below ``program/``, are understood too."""
    within = f"program/{edit.path}"
    return replace(edit, path=within) if edit.path not in before and within in before else edit


def _hold_to_scope(new: Mapping[str, str | None], before: Texts, charter: Charter, scope: Scope) -> None:
    why = [reason for path in sorted(new) if (reason := _out_of_scope(path, new[path], before, charter))]
    if not why:
        why = outside(before, _after(before, new), scope)
    if why:
        allowed = ", ".join(charter.may_change) or "nothing"
        raise CharterError("; ".join(why), todo=f"the charter's may_change allows: {allowed}")


def _after(before: Texts, new: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**before, **new}
    return {path: text for path, text in merged.items() if text is not None}


def _out_of_scope(path: str, text: str | None, before: Texts, charter: Charter) -> str:
    """Why a path cannot be told; empty when it can."""
    try:
        check_path(path)
    except BodyError as error:
        return f"{path!r}: {error.what}"
    if not tellable(path):
        return f"{path}: weights are not told as text; parts that can be told: {', '.join(TELLABLE)}"
    if not charter.allows(path):
        return f"{path} is not among what may change"
    if text is None and path not in before:
        return f"{path} cannot be deleted: the champion has no such text"
    if text is not None and "\0" in text:
        return f"{path}: holds a NUL character, so it is not text"
    return ""


def hold_to_form(new: Mapping[str, str | None], root: Path) -> None:
    """Read every changed part as the loop will.

    Raises:
        BodyError: what is wrong, part by part.
    """
    why = []
    body = Body(root, None, {path: text for path, text in new.items() if path in TEXTS})
    for path in sorted(new):
        try:
            if path.endswith(".py"):
                ast.parse(new[path] or "", path)
            else:
                _read(body, path, new[path])
        except SyntaxError as error:
            why.append(f"{path}, line {error.lineno}: {error.msg}")
        except ValueError as error:
            why.append(f"{path}: {error}")
        except UpwrightError as error:
            why.append(error.what if error.value is None else f"{error.what} (got {error.value!r})")
    if why:
        raise BodyError("; ".join(why), todo="mend it and tell it again")


def _read(body: Body, path: str, text: str | None) -> object:
    """A text part, parsed; what nothing parses is left as it is."""
    if path == "improver.toml":
        from upwright.allocate import parse

        return parse(text or "", path)
    return getattr(body, path.partition(".")[0]) if path in TEXTS else None


def offered(text: str, name: str = "") -> Offer:
    """What a file, or standard input, holds: edits by their marks, a JSON object ``{path: text}``, or the text of one part.

    Args:
        name: the file's, where it has one; ``prompt.md`` is the whole text of that part.

    Raises:
        ProjectError: it is none of these.
    """
    if any(mark in f"\n{text}" for mark in _MARKS):
        return Offer(text=text)
    if name in (*TEXTS, "model.toml"):
        return Offer(files={name: text})
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if isinstance(data, dict) and data and all(isinstance(v, str | None) for v in data.values()):
        return Offer(files=data)
    raise ProjectError(
        "this is neither edits nor whole files", value=name or text[:60],
        todo="give SEARCH/REPLACE blocks, a unified diff, a JSON object {path: text}, or --part PATH=FILE",
    )  # fmt: skip


def folder(root: Path) -> Offer:
    """Whole files from a directory that is laid out as a body: those that can be told; what is not there stays as it is.

    Raises:
        ProjectError: it has none.
    """
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink()):
        inside = path.relative_to(root).as_posix()
        if tellable(inside) and "__pycache__" not in inside:
            found[inside] = read_text(path)
    if not found:
        raise ProjectError(
            "this directory has no part of a body", value=str(root), todo=f"parts: {', '.join(TELLABLE)}"
        )
    return Offer(files=dict(found))


def parts(given: Sequence[str]) -> Offer:
    """Whole files from ``PATH=FILE``; ``PATH=`` deletes the part.

    Raises:
        ProjectError: one is not of this form, or its file cannot be read.
    """
    found: dict[str, str | None] = {}
    for one in given:
        path, equals, file = one.partition("=")
        if not equals:
            raise ProjectError("a part is given as PATH=FILE", value=one, todo="for example --part prompt.md=new.md")
        found[path] = read_text(Path(file)) if file else None
    return Offer(files=found)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        ProjectError: it is not there, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > MOST_TEXT:
            raise ProjectError(
                "the file is too large to be a text part", value=str(path), todo=f"at most {MOST_TEXT} bytes"
            )
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(
            f"the file cannot be read as text: {error}", value=str(path), todo="name a UTF-8 file"
        ) from None
