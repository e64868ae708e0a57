"""Founding: the warden's home comes into being whole, or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from upwright.warden import ledger
from upwright.warden.buckets import bucket
from upwright.warden.canon import canonical_json, sha256, sync_dir, tree_digest, write_atomic
from upwright.warden.charter import Charter
from upwright.warden.errors import CharterFault, GraderError, Refusal, VaultError
from upwright.warden.vault import Stamp, Vault, encrypt_pool, task_from

HEX = re.compile(r"[0-9a-f]{64}")
SUFFIXES = {"generator": ".py", "pool": ".pool", "evaluator": ".folder"}


@dataclass(frozen=True, slots=True)
class _Suite:
    """A suite as it goes into the home: its bytes or its tasks, and what the founding entry says of it."""

    kind: str
    data: bytes | dict[str, list[Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    program: Mapping[str, str] | None = None

    @property
    def content(self) -> str:
        """Digest of what was given; the same founding again has the same."""
        digest = sha256(self.data if isinstance(self.data, bytes) else canonical_json(self.data))
        return sha256(canonical_json([digest, self.facts["metric"]])) if self.kind == "evaluator" else digest


def found(
    home: Path, charter_text: str, suites: Mapping[str, Mapping[str, Any]], genesis: Mapping[str, Any], salt: str,
    constitution: str | None = None,
) -> None:  # fmt: skip
    """Create the warden's home: keys, sealed tasks, and a ledger with the ``founding`` entry.

    Atomic (built beside ``home`` and renamed) and idempotent (the same founding again does nothing).

    Args:
        suites: name → ``{"kind": "generator", "path", "sha256"?}``, or ``{"kind": "pool", "items", "vault"}`` with
            the sealed and the vault tasks, or ``{"kind": "pool", "tasks"}`` which are then split by :func:`bucket`, or
            ``{"kind": "evaluator", "path", "sha256"?, "metric"?, "program"?, "waiver"?}``: a folder with evaluator.toml; the first body's program (path inside
            ``program/`` → text), which is tried; and the name of the person who accepts that no isolation holds on this machine.
        genesis: ``{"digest", "files"}`` of the first body.
        constitution: text of the file that the charter names, if it names one.

    Raises:
        CharterFault: the charter is malformed, or names a suite or a constitution that is not given.
        VaultError: a suite cannot be drawn from.
        Refusal: another project was founded here.
    """
    charter = Charter.parse(charter_text)
    _check_names(charter, suites)
    check_body(genesis)
    read = {name: _read_suite(name, suite, salt) for name, suite in suites.items()}
    contents = {name: suite.content for name, suite in read.items()}
    facts = {"charter": charter.digest, "genesis": genesis["digest"], "salt": salt, "contents": contents}
    if any(suite.kind == "evaluator" for suite in read.values()):
        facts["genesis_files"] = dict(genesis["files"])
    facts |= charter.frozen(constitution)
    if (home / ledger.FILE).exists():
        before = ledger.read(home / ledger.FILE)[0].data
        if {k: before.get(k) for k in facts} != facts:
            raise Refusal(
                "another project was founded here",
                code="decided",
                value=str(home),
                todo="amend its charter, or use another folder",
            )
        return
    new = home.with_name(f".{home.name}.founding")
    shutil.rmtree(new, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    new.mkdir(mode=0o700)
    try:
        _build(new, charter, read, facts)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    os.rename(new, home)
    sync_dir(home.parent)


def check_body(body: Mapping[str, Any]) -> None:
    """Refuse a body whose digest is not that of its files, or whose paths leave it."""
    files, digest = body.get("files"), body.get("digest")
    if not isinstance(files, Mapping) or not isinstance(digest, str):
        raise Refusal("a body is {digest, files}", value=sorted(body), todo="pass both")
    for path, content in files.items():
        parts = path.split("/") if isinstance(path, str) else [""]
        if any(p in ("", ".", "..") for p in parts) or any(ord(c) < 32 for c in str(path)):
            raise Refusal(
                "a path leaves the body or is malformed", code="scope", value=path, todo="use plain relative paths"
            )
        if not isinstance(content, str) or not HEX.fullmatch(content):
            raise Refusal(f"the content of {path!r} is not a SHA-256", value=content, todo="pass lower-case hex")
    if tree_digest(files) != digest:
        raise Refusal("the digest is not that of the files", value=digest, todo=f"the files give {tree_digest(files)}")


def _check_names(charter: Charter, suites: Mapping[str, object]) -> None:
    for name in (charter.objective, *charter.protected):
        if name not in suites:
            raise CharterFault(
                "the charter names a suite that does not exist", value=name, todo=f"suites: {sorted(suites)}"
            )


def _read_suite(name: str, suite: Mapping[str, Any], salt: str) -> _Suite:
    """A generator's source, a pool's sealed and vault tasks, or an evaluator's folder; checked."""
    if suite.get("kind") == "evaluator":
        return _read_evaluator(name, suite)
    if suite.get("kind") == "generator":
        try:
            source = Path(suite["path"]).read_bytes()
        except (KeyError, OSError) as e:
            raise VaultError(f"suite {name}: the generator file cannot be read", value=str(e), todo="check path") from e
        if suite.get("sha256", sha256(source)) != sha256(source):
            raise VaultError(f"suite {name}: the generator file is not the one announced", value=sha256(source))
        return _Suite("generator", source)
    if suite.get("kind") != "pool":
        known = ", ".join(sorted(SUFFIXES))
        raise VaultError(f"suite {name}: unknown kind", value=suite.get("kind"), todo=f"known kinds: {known}")
    pools = {"sealed": list(suite.get("items", ())), "vault": list(suite.get("vault", ()))}
    for i, raw in enumerate(suite.get("tasks", ())):
        where = bucket(salt, task_from(name, raw, f"task {i}").input)
        if where != "practice":
            pools[where].append(raw)
    for which, tasks in pools.items():
        for i, raw in enumerate(tasks):
            task_from(name, raw, f"{which} task {i}")
    if not pools["sealed"]:
        raise VaultError(f"suite {name}: no task falls to the sealed side", todo="give the pool more tasks")
    return _Suite("pool", pools)


def _read_evaluator(name: str, suite: Mapping[str, Any]) -> _Suite:
    from upwright.warden.evaluator import EvaluatorSpec
    from upwright.warden.parcel import pack

    try:
        folder = Path(suite["path"])
        data, spec = pack(folder), EvaluatorSpec.read(folder)
    except (KeyError, GraderError, VaultError) as e:
        what = e.what if isinstance(e, GraderError | VaultError) else "it has no path"
        raise VaultError(f"suite {name}: {what}", value=getattr(e, "value", None), todo=getattr(e, "todo", "")) from e
    if suite.get("sha256", sha256(data)) != sha256(data):
        raise VaultError(f"suite {name}: the evaluator is not the one announced", value=sha256(data))
    metric = suite.get("metric") or spec.metric
    scale = spec.of(metric)
    facts = {"metric": metric, "sign": scale.sign, **({"exact": True} if scale.exact else {})}
    if suite.get("waiver"):
        facts["waiver"] = str(suite["waiver"])
    return _Suite("evaluator", data, facts, suite.get("program"))


def _try_programs(
    vault: Vault, read: Mapping[str, _Suite], pinned: Mapping[str, Any], files: Mapping[str, str]
) -> None:
    """Run the first body's program: once, or where a metric is said to repeat exactly as often as shows it.

    Raises:
        VaultError: an evaluator cannot be run here, lacks a metric, or does not repeat what it says it repeats.
    """
    from upwright.warden.evaluator import REPEATS, Judged, digests

    done: dict[str, list[Judged]] = {}
    for name, suite in read.items():
        if suite.kind != "evaluator":
            continue
        exact, sha = bool(suite.facts.get("exact")), pinned[name]["sha256"]
        own = {path: digest for path, digest in files.items() if path.startswith("program/")}
        if suite.program is None and exact:
            raise VaultError(
                f"suite {name}: whether it repeats exactly is tried with the first body's program", todo="pass it"
            )
        if suite.program is not None and {f"program/{p}": d for p, d in digests(suite.program).items()} != own:
            raise VaultError(f"suite {name}: the program to try is not the first body's", value=sorted(own)[:5])
        try:
            judge = vault.runs.judge(name)
            if suite.program is not None and len(done.get(sha, [])) < (REPEATS if exact else 1):
                done[sha] = judge.repeated(suite.program, REPEATS if exact else 1)
        except GraderError as e:
            raise VaultError(f"suite {name}: {e.what}", value=e.value, todo=e.todo) from e
        _check_tried(name, suite.facts["metric"], exact, done.get(sha, []))


def _check_tried(name: str, metric: str, exact: bool, runs: list[Any]) -> None:
    from upwright.warden.evaluator import all_same

    for judged in runs:
        if judged.failure and exact:
            raise VaultError(
                f"suite {name}: the first body's program gets no score, so nobody can see whether it repeats ({judged.why})",
                value=judged.failure, todo="mend the program, or say exact = false in evaluator.toml",
            )  # fmt: skip
        if not judged.failure and metric not in judged.metrics:
            raise VaultError(f"suite {name}: its evaluator gives no metric {metric}", value=sorted(judged.metrics)[:20])
    values = [judged.metrics[metric] for judged in runs] if exact else []
    if values and not all_same(values):
        two = (values[0], next(v for v in values if not all_same([v, values[0]])))
        raise VaultError(
            f"suite {name}: evaluator.toml says exact, but {metric} of the same program differs from run to run",
            value=two, todo=f"say exact = false (at the top, or in [metrics.{metric}]), or make the evaluator repeat",
        )  # fmt: skip


def _build(new: Path, charter: Charter, read: Mapping[str, _Suite], facts: dict[str, Any]) -> None:
    for folder in ("keys", "suites", "people"):
        (new / folder).mkdir(mode=0o700)
    key, pool_key = Ed25519PrivateKey.generate(), os.urandom(32)
    write_atomic(new / "keys" / "secret", os.urandom(32))
    write_atomic(new / "keys" / "pool", pool_key)
    write_atomic(new / "keys" / "signing", key.private_bytes_raw())
    public = key.public_key().public_bytes_raw().hex()
    write_atomic(new / ledger.PUBLIC, f"{public}\n".encode(), mode=0o644)
    pinned: dict[str, dict[str, Any]] = {}
    for name, suite in read.items():
        data = suite.data
        stored = data if isinstance(data, bytes) else encrypt_pool(pool_key, name, data)
        file = sha256(name.encode())[:16] + SUFFIXES[suite.kind]
        write_atomic(new / "suites" / file, stored)
        pinned[name] = {"kind": suite.kind, "file": file, "sha256": sha256(stored), **suite.facts}
        if not isinstance(data, bytes):
            pinned[name]["size"] = {k: len(v) for k, v in data.items()}
    vault = Vault(new, pinned, facts["salt"])
    try:
        for name in read:
            for phase in ("test", "vault"):
                if phase == "test" or vault.pool_size(name, "vault") != 0:
                    vault.draw(name, Stamp("founding", 0, phase), 0)
        if "genesis_files" in facts:
            _try_programs(vault, read, pinned, facts["genesis_files"])
    finally:
        vault.close()
    book = ledger.Ledger(new, key)
    book.append("founding", {**facts, "charter_text": charter.text, "suites": pinned, "public_key": public})
    book.close()
