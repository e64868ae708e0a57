"""Sealed and vault tasks: drawn after the commit, from seeds that only the warden can know.

Three kinds of suite. A *generator* is a Python file, copied into the warden's home at founding, its SHA-256
pinned and checked at each load; every draw is a fresh task. A *pool* is finite, encrypted at rest (AES-GCM, key in
the home), and drawn from with replacement, so the claim covers that pool; looks are metered. An *evaluator* is a folder, packed and pinned likewise:
a task is a run of it, its answer the run's seed, and the warden itself runs the program that a body answers (:mod:`upwright.warden.evaluator`).

What this does not stop: a process of the same user that reads the home directory. Run the loop as another user
than the warden, or in a container without the home, to close that.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import os
import sys
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256 as _sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from upwright.warden import grader
from upwright.warden.buckets import Bucket, bucket, run_input
from upwright.warden.canon import canonical_json, sha256
from upwright.warden.deadline import deadline
from upwright.warden.errors import GraderError, VaultError
from upwright.warden.grader import Grade

if TYPE_CHECKING:  # a warden without evaluators does not load what runs them
    from upwright.warden.runs import Runs

__all__ = ["LOOKS", "SealedTask", "Vault", "bucket", "encrypt_pool", "load_module", "task_from"]

TRIES = 10_000
LOOKS = 20
"""Looks that a pool allows, as a multiple of its size."""
GENERATE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SealedTask:
    """A task that the improver may see the ``input`` and ``check`` of, and nothing else."""

    suite: str
    input: str
    answer: Any
    skill: str
    difficulty: int
    scorer: Mapping[str, Any]
    check: Mapping[str, Any] | None

    def plain(self) -> dict[str, Any]:
        """What a ``python`` scorer is given."""
        names = ("input", "answer", "skill", "difficulty", "scorer", "check")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which draw this is: the committed child, the test's number, and the phase."""

    child: str
    test: int
    phase: str


def task_from(suite: str, raw: object, where: str) -> SealedTask:
    """A checked task from JSON types.

    Raises:
        VaultError: names the field and its value.
    """
    if not isinstance(raw, Mapping) or not isinstance(raw.get("input"), str) or "answer" not in raw:
        raise VaultError(
            f"suite {suite}: {where} is not a task", value=raw, todo="a task needs input (text) and answer"
        )
    scorer, check = raw.get("scorer") or {"kind": "exact"}, raw.get("check")
    try:
        grader.validate(scorer)
        if check is not None:
            grader.validate(check, check_only=True)
    except GraderError as e:
        raise VaultError(f"suite {suite}: {where}: {e.what}", value=e.value, todo=e.todo) from e
    if scorer["kind"] == "program":
        raise VaultError(f"suite {suite}: {where}: only a suite with an evaluator runs programs", value=scorer)
    skill, difficulty = raw.get("skill", "general"), raw.get("difficulty", 1)
    if not isinstance(skill, str) or not isinstance(difficulty, int) or isinstance(difficulty, bool):
        raise VaultError(f"suite {suite}: {where}: skill must be text, difficulty whole", value=(skill, difficulty))
    return SealedTask(suite, raw["input"], raw["answer"], skill, difficulty, scorer, check)


def load_module(source: bytes, suite: str) -> types.ModuleType:
    """Run a generator file, silenced.

    Raises:
        VaultError: it raised, or has no ``generate``.
    """
    name = f"upwright_suite_{sha256(suite.encode())[:12]}"
    module = types.ModuleType(name)
    module.__file__ = f"<suite {suite}>"
    sys.modules[name] = module
    try:
        with silenced():
            exec(compile(source, module.__file__, "exec"), module.__dict__)
    except Exception as e:
        raise VaultError(f"suite {suite}: the generator file raised {type(e).__name__}: {e}", todo="correct it") from e
    if not callable(getattr(module, "generate", None)):
        raise VaultError(f"suite {suite}: the generator file has no generate(seed)", todo="define it")
    return module


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Whatever foreign code prints goes nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def encrypt_pool(key: bytes, suite: str, pools: Mapping[str, list[Any]]) -> bytes:
    """A pool at rest: nonce ‖ AES-GCM(JSON), bound to the suite's name."""
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, canonical_json(pools), suite.encode())


class Vault:
    """Draws and grades. Lives in the warden's process only.

    Args:
        home: the warden's home.
        suites: name → ``{"kind", "file", "sha256"}`` as pinned in the founding entry.
        salt: the project's salt for :func:`bucket`.
    """

    def __init__(self, home: Path, suites: Mapping[str, Mapping[str, Any]], salt: str) -> None:
        self._home, self._suites, self._salt = home, suites, salt
        self._secret = (home / "keys" / "secret").read_bytes()
        self._modules: dict[str, types.ModuleType] = {}
        self._pools: dict[str, dict[str, list[SealedTask]]] = {}
        self._running: Runs | None = None

    def close(self) -> None:
        """End the processes that evaluators run in."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def derive(self, *parts: object) -> int:
        """A 63-bit number that only the holder of the secret can foresee."""
        text = "\x1f".join(str(p) for p in parts).encode()
        return int.from_bytes(hmac.new(self._secret, text, _sha256).digest()[:8], "big") >> 1

    def answer_seed(self, stamp: Stamp, batch: int) -> int:
        """The public seed that all bodies answer a batch with; unrelated to the tasks' seeds."""
        return self.derive("answer seed", stamp.child, stamp.test, stamp.phase, batch)

    def draw(self, suite: str, stamp: Stamp, i: int) -> SealedTask:
        """The ``i``-th task of a draw; the same arguments give the same task.

        Raises:
            VaultError: the file changed, the generator failed or its problem space is too small.
        """
        where: Bucket = "vault" if stamp.phase == "vault" else "sealed"
        parts = ("task", stamp.child, stamp.test, stamp.phase, suite, i)
        if self._suites[suite]["kind"] == "pool":
            pool = self._pool(suite)[where]
            if not pool:
                raise VaultError(f"suite {suite} has no {where} tasks", todo="found the project with a larger pool")
            return pool[self._index(len(pool), parts)]
        for attempt in range(TRIES):
            task = self._fresh(suite, self.derive(*parts, attempt))
            if bucket(self._salt, task.input) == where:
                return task
        raise VaultError(
            f"suite {suite}: {TRIES} draws of the generator gave no {where} task",
            todo="its problem space is too small; let it make more different problems",
        )

    def pool_size(self, suite: str, where: Bucket = "sealed") -> int | None:
        """Tasks in a pool, or ``None`` where every draw is fresh."""
        return len(self._pool(suite)[where]) if self._suites[suite]["kind"] == "pool" else None

    def most_looked_at(self, suite: str, draws: Iterable[tuple[Stamp, int]]) -> int:
        """Looks at the item of a pool that was looked at most; ``draws`` are (stamp, number of tasks)."""
        counts: Counter[int] = Counter()
        size = len(self._pool(suite)["sealed"])
        for stamp, n in draws:
            counts.update(self._index(size, ("task", stamp.child, stamp.test, stamp.phase, suite, i)) for i in range(n))
        return max(counts.values(), default=0)

    def grade(self, task: SealedTask, text: str) -> Grade:
        """What an answer gets.

        Raises:
            GraderError: never a score.
            VaultError: the suite's file changed.
        """
        if self._suites[task.suite]["kind"] == "evaluator":
            return self.runs.grade(task.suite, text, task.answer)
        scorer = None
        if task.scorer["kind"] == "python" and self._suites[task.suite]["kind"] == "generator":
            scorer = getattr(self._module(task.suite), "score", None)
        with silenced():
            return Grade(grader.grade(task.scorer, text, task.answer, task.plain(), scorer))

    def grades(self, asked: Sequence[tuple[SealedTask, str]]) -> list[Grade]:
        """:meth:`grade` of each; programs run several at a time.

        Raises:
            GraderError, VaultError: there is no grade for one of them.
        """
        found: dict[int, Grade] = {}
        programs = [i for i, (task, _) in enumerate(asked) if self._suites[task.suite]["kind"] == "evaluator"]
        if programs:
            most = max(self.runs.judge(asked[i][0].suite).size for i in programs)
            with ThreadPoolExecutor(most, "sealed run") as threads:
                try:
                    found = dict(zip(programs, threads.map(lambda i: self.grade(*asked[i]), programs), strict=True))
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        return [found[i] if i in found else self.grade(*one) for i, one in enumerate(asked)]

    @property
    def runs(self) -> Runs:
        """What runs the programs."""
        if self._running is None:
            from upwright.warden.runs import Runs

            self._running = Runs(self._home, self._suites, self._bytes)
        return self._running

    def _index(self, size: int, parts: tuple[object, ...]) -> int:
        return self.derive(*parts) % size  # bias below size / 2^63

    def _fresh(self, suite: str, seed: int) -> SealedTask:
        if self._suites[suite]["kind"] == "evaluator":
            return SealedTask(suite, run_input(seed), seed, self._suites[suite]["metric"], 1, {"kind": "program"}, None)
        module = self._module(suite)
        try:
            with silenced(), deadline(GENERATE_SECONDS, f"generate() of suite {suite}"):
                raw = module.generate(seed)
        except Exception as e:
            raise VaultError(f"suite {suite}: generate(seed) raised {type(e).__name__}: {e}", todo="correct it") from e
        return task_from(suite, raw, "what generate(seed) returned")

    def _bytes(self, suite: str) -> bytes:
        pinned = self._suites[suite]
        try:
            data: bytes = (self._home / "suites" / pinned["file"]).read_bytes()
        except OSError as e:
            raise VaultError(f"suite {suite}: its file in the warden's home cannot be read", value=str(e)) from e
        if sha256(data) != pinned["sha256"]:
            raise VaultError(f"suite {suite}: its file in the warden's home was changed", value=sha256(data))
        return data

    def _module(self, suite: str) -> types.ModuleType:
        if suite not in self._modules:
            self._modules[suite] = load_module(self._bytes(suite), suite)
        return self._modules[suite]

    def _pool(self, suite: str) -> dict[str, list[SealedTask]]:
        if suite not in self._pools:
            data = self._bytes(suite)
            try:
                key = (self._home / "keys" / "pool").read_bytes()
                pools = json.loads(AESGCM(key).decrypt(data[:12], data[12:], suite.encode()))
            except (OSError, ValueError, InvalidTag) as e:
                raise VaultError(f"suite {suite}: its pool cannot be decrypted", value=type(e).__name__) from e
            self._pools[suite] = {
                k: [task_from(suite, t, f"task {i}") for i, t in enumerate(v)] for k, v in pools.items()
            }
        return self._pools[suite]
