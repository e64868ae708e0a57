"""Each arm as a body: a stored generation with changed texts, which is written nowhere but to a scratch directory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from upwright.agents.change import hold_to_form, texts_of
from upwright.bodies.body import TEXTS, Body, render_toml
from upwright.bodies.store import Store
from upwright.bodies.tree import check_path, files_after
from upwright.errors import BodyError, ProjectError, UpwrightError
from upwright.evolution.blocks import Scope
from upwright.evolution.edits import apply, parse_reply
from upwright.experiments.plan import ArmPlan
from upwright.lines import Lineage
from upwright.records import Generation, tree_digest

ANYTHING = Scope(("**",), blocks=False)
"""An experiment may change any text: nothing of it stays."""


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm, ready to answer.

    Attributes:
        parent: digest of the generation that it starts from; ``digest``: of the body that it is.
        changes: path → new text, ``None`` for a part that is gone.
    """

    name: str
    told: str
    parent: str
    digest: str
    changes: Mapping[str, str | None]


def arm_of(plan: ArmPlan, store: Store, line: Lineage) -> Arm:
    """The body that a plan's arm says.

    Raises:
        ProjectError: there is no such generation, or an edit does not apply; BodyError: a text is malformed.
    """
    generation = store.get(line.resolve(plan.body))
    root = store.checkout(generation.digest)
    before = texts_of(store, generation)
    try:
        after = _after(plan, before, root)
        changes = {p: after.get(p) for p in sorted({*before, *after}) if before.get(p) != after.get(p)}
        for path in changes:
            check_path(path)
        hold_to_form(changes, root)
    except UpwrightError as error:
        raise _named(error, plan.name) from None
    return Arm(plan.name, plan.told, generation.digest, _digest(generation, changes), changes)


def _named(error: UpwrightError, name: str) -> UpwrightError:
    kind = BodyError if isinstance(error, BodyError) else ProjectError
    return kind(f"arm {name!r}: {error.what}", value=error.value, todo=error.todo or "mend this arm")


def _after(plan: ArmPlan, before: Mapping[str, str], root: Path) -> dict[str, str]:
    texts = {**before, **plan.files}
    for path, more in plan.append.items():
        text = texts.get(path, "")
        texts[path] = text + ("" if text.endswith("\n") or not text else "\n") + more.rstrip("\n") + "\n"
    for path in plan.remove:
        if path not in texts:
            raise ProjectError(f"there is no {path} to remove", value=sorted(texts))
        del texts[path]
    if plan.edits:
        texts = apply(texts, parse_reply(plan.edits), ANYTHING)
    if plan.inference:
        texts["inference.toml"] = _inference(plan, texts, root)
    return texts


def _inference(plan: ArmPlan, texts: Mapping[str, str], root: Path) -> str:
    """inference.toml with the arm's settings."""
    settings = Body(root, None, {"inference.toml": texts.get("inference.toml")}).inference
    known = [f.name for f in fields(settings)]
    unknown = sorted(set(plan.inference) - set(known))
    if unknown:
        raise BodyError("inference.toml: unknown key", value=unknown[0], todo=f"known keys: {', '.join(known)}")
    return render_toml(replace(settings, **plan.inference)).decode()


def _digest(parent: Generation, changes: Mapping[str, str | None]) -> str:
    new = {path: None if text is None else text.encode() for path, text in changes.items()}
    return tree_digest(files_after(parent, new))


def body_of(arm: Arm, store: Store, scratch: Path) -> Body:
    """The arm as a body. What is not one of the body's own short texts is laid out in ``scratch``."""
    source = store.checkout(arm.parent)
    if all(path in TEXTS for path in arm.changes):
        return Body(source, arm.digest, arm.changes)
    root = scratch / arm.digest[:16]
    if not root.exists():
        staged = root.with_name(f".{root.name}")
        shutil.rmtree(staged, ignore_errors=True)
        for path in store.get(arm.parent).files:
            if path not in arm.changes:
                (staged / path).parent.mkdir(parents=True, exist_ok=True)
                (staged / path).symlink_to(source / path)
        for path, text in arm.changes.items():
            if text is not None:
                (staged / path).parent.mkdir(parents=True, exist_ok=True)
                (staged / path).write_bytes(text.encode())
        staged.rename(root)
    return Body(root, arm.digest)


def same(arms: tuple[Arm, ...]) -> tuple[str, str] | None:
    """Names of two arms that are the same body, or ``None``."""
    seen: dict[str, str] = {}
    for arm in arms:
        if arm.digest in seen:
            return seen[arm.digest], arm.name
        seen[arm.digest] = arm.name
    return None
