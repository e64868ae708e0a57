"""Warm cells, forked for each run."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import queue
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from upwright.warden.isolation import seeding
from upwright.warden.isolation.cells import Bait, Cell
from upwright.warden.isolation.errors import IsolationError
from upwright.warden.isolation.layout import Plan
from upwright.warden.isolation.records import Ending, Limits, Ran
from upwright.warden.isolation.run import Run
from upwright.warden.isolation.walls import Wall, strongest_wall

MOST_FILES, MOST_TEXT = 2000, 16 << 20
MOST_BASE = 40
PREFIX, SETTLED = "upwright-cells-", 10.0
"""Name of a pool's folder, and seconds after which one that nobody holds is taken for left behind."""


class Pool:
    """Runs evaluators on programs, each run in fresh processes behind a wall.

    Args:
        folder: the evaluator's files, as they are now; read-only inside.
        harness: name of the module of :mod:`upwright.warden.isolation.harness` that runs them.
        imports: modules that the zygotes import once, before the first run.
        limits: what a run may use, unless :meth:`run` is told otherwise.
        together: program and evaluator in one process, where the program can lie about everything.
        wall: what to start cells with; :func:`strongest_wall` unless told.
        size: runs at one time. Further callers of :meth:`run` wait.

    Raises:
        IsolationError: no wall holds, or the first cells cannot be started.
    """

    def __init__(
        self,
        folder: Path,
        harness: str,
        imports: Sequence[str],
        limits: Limits,
        *,
        together: bool = False,
        wall: Wall | None = None,
        size: int = 2,
    ) -> None:
        if not folder.is_dir():
            raise IsolationError("the evaluator's folder does not exist", value=str(folder), todo="check the path")
        if not harness.replace(".", "_").isidentifier():
            raise IsolationError("a harness is named by its module", value=harness, todo='e.g. "plain"')
        self.wall = wall or strongest_wall()
        self.harness, self.imports = harness, tuple(imports)
        self.limits, self.together = limits, together
        self._numbers, self._closed = itertools.count(1), False
        _sweep()
        self._home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_base()))
        self._held = _hold(self._home)
        self.folder = self._open_to_all(folder.resolve())
        self._token = secrets.token_hex(12)
        self._slots: list[_Slot] = [_Slot(self, index) for index in range(max(1, size))]
        self._free: queue.Queue[_Slot] = (
            queue.Queue()
        )  # in turn, so that one's cells are cleared up while the next one's run
        for slot in self._slots:
            self._free.put(slot)
        try:
            self._slots[0].start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, job: Mapping[str, Any], program: Mapping[str, str], seed: int, limits: Limits | None = None) -> Ran:
        """Run the evaluator on a program.

        Args:
            job: JSON for the harness; ``job["program"]`` names the program's main file (its only file, unless told).
            program: path → text of the candidate's files.
            seed: seeds the random numbers of both cells; the candidate's cannot be told from it.

        Raises:
            IsolationError: the pool is closed, or the program's paths are not relative ones.
        """
        work = _Work(dict(job), dict(program), _main(job, program), seed, limits or self.limits)
        slot = self._free.get()
        try:
            for _ in range(2):
                if self._closed:
                    raise IsolationError("the pool is closed", todo="make a new one")
                ran, began = slot.run(work)
                if began or ran.ending is not Ending.INFRASTRUCTURE:
                    break
                slot.stop()  # nothing foreign had run yet: once more, in new cells
            if self._closed and ran.ending is not Ending.OK:  # whatever it looks like from inside
                return replace(ran, ending=Ending.INFRASTRUCTURE, value=None, why="the pool was closed")
            return ran
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """End every run and every cell; nothing is left behind. Idempotent."""
        self._closed = True
        for slot in self._slots:
            slot.interrupt()
        for slot in [self._free.get() for _ in self._slots]:  # a run that was under way gives its slot back at once
            slot.stop()
            self._free.put(slot)
        shutil.rmtree(self._home, ignore_errors=True)
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _open_to_all(self, folder: Path) -> Path:
        """The folder, or a copy of it that nobody can read, where root's cells run as nobody and it is root's alone."""
        if os.geteuid() or self.wall.mode != "namespaces" or all(map(_readable, (folder, *folder.rglob("*")))):
            return folder
        copy = self._home / "evaluator"
        shutil.copytree(folder, copy, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644 | path.stat().st_mode & 0o111)
        return copy

    def _bait(self, role: str) -> Bait:
        """What is planted in a cell; all of it carries the pool's token. None in an evaluator's, whose code may look for keys of its own."""
        token = self._token
        if role == "evaluator":
            return Bait()
        files = {
            ".aws/credentials": f"[default]\naws_access_key_id = AKIA{token[:16].upper()}\naws_secret_access_key = {token}\n",
            ".ssh/id_ed25519": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{token}\n-----END OPENSSH PRIVATE KEY-----\n",
            ".config/gcloud/application_default_credentials.json": f'{{"client_secret": "{token}"}}\n',
            ".config/openai/api_key": f"sk-{token}\n",
        }
        variables = {"AWS_SECRET_ACCESS_KEY": token}
        return Bait(files, variables | ({"OPENAI_API_KEY": f"sk-{token}"} if role == "candidate" else {}))


class _Slot:
    """One pair of cells (or one cell), which runs one program at a time."""

    def __init__(self, pool: Pool, index: int) -> None:
        self.pool, self.home = pool, pool._home / str(index)
        self.cells: dict[str, Cell] = {}

    def start(self) -> None:
        """Start the cells, unless they run; both at once."""
        if self.cells:
            return
        pool = self.pool
        for name in ("shared", "runs"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
            os.chmod(self.home / name, 0o755)
        limits = pool.limits
        roles = ("both",) if pool.together else ("candidate", "evaluator")  # the one with more to prepare first
        try:
            for role in roles:
                folder = None if role == "candidate" else pool.folder
                plan = Plan(
                    folder, pool.folder, self.home / "shared", self.home / "runs", limits.memory_mb, limits.processes
                )
                bait = pool._bait(role)
                cell = Cell(pool.wall, plan, pool.imports, role=role, harness=pool.harness, bait=bait)
                self.cells[role] = cell
            for cell in self.cells.values():
                cell.wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill the cells and wait until they are gone."""
        for cell in self.cells.values():
            cell.close()
        self.cells = {}

    def interrupt(self) -> None:
        """Kill the zygotes; whoever uses the cells learns of it. May be called from any thread."""
        for cell in list(self.cells.values()):
            cell.started.interrupt()

    def run(self, work: _Work) -> tuple[Ran, bool]:
        """Run once; also tells whether foreign code may have run."""
        number = next(self.pool._numbers)
        try:
            self.start()
            for cell in self.cells.values():
                cell.settle()
        except (OSError, EOFError) as error:
            self.stop()
            return Ran(Ending.INFRASTRUCTURE, None, f"a cell is gone: {error}", "", 0.0), False
        run = Run(self.cells, work.limits, (self.pool._token,))
        with self._listener(number) as (listener, link), self._roots(number) as roots:
            orders = {role: self._order(role, number, roots[role], work, link) for role in self.cells}
            ran = run.go(orders, listener)
        if any(cell.link < 0 for cell in self.cells.values()):
            self.stop()
        return ran, run.ready

    @contextlib.contextmanager
    def _listener(self, number: int) -> Iterator[tuple[int, str]]:
        """The socket between the two cells: the candidate's end, and its name in the shared folder."""
        if self.pool.together:
            yield -1, ""
            return
        name = f"{number}-{secrets.token_hex(4)}"
        path = self.home / "shared" / name
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            try:
                os.chmod(path, 0o777)
                listener.listen(64)
                yield listener.fileno(), name
            finally:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _roots(self, number: int) -> Iterator[dict[str, str]]:
        """Each cell's private folder: made here where mounts are not private, ``/tmp`` where they are."""
        if self.pool.wall.mode == "namespaces":
            yield dict.fromkeys(self.cells, "/tmp")
            return
        roots = {role: str(self.home / "runs" / f"{number}-{role}") for role in self.cells}
        for root in roots.values():
            os.mkdir(root, 0o755)
        try:
            yield roots
            for cell in self.cells.values():
                cell.settle()
        finally:
            for root in roots.values():
                shutil.rmtree(root, ignore_errors=True)

    def _order(self, role: str, number: int, root: str, work: _Work, link: str) -> dict[str, Any]:
        """What one cell is told; the candidate's hears neither the job nor the seed."""
        pool, places = self.pool, self.cells[role].places
        here = role != "evaluator"
        return {
            "number": number,
            "role": role,
            "harness": pool.harness,
            "job": {} if role == "candidate" else work.job,
            "files": work.program if here or work.job.get("source") else {},
            "main": work.main,
            "seed": seeding.apart(work.seed, "candidate") if role == "candidate" else work.seed,
            "limits": asdict(work.limits),
            "link": f"{places.shared}/{link}" if link else "",
            "root": root,
            "marks": [pool._token] if role == "evaluator" else [],
        }


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be run."""

    job: dict[str, Any]
    program: dict[str, str]
    main: str
    seed: int
    limits: Limits


def _main(job: Mapping[str, Any], program: Mapping[str, str]) -> str:
    """The program's main file, with every path checked."""
    main = job.get("program") or (next(iter(program)) if len(program) == 1 else None)
    if not isinstance(main, str) or main not in program:
        raise IsolationError("the program has no such main file", value=main, todo='name it in the job as "program"')
    for path in program:
        parts = PurePosixPath(path).parts
        if (
            not parts
            or path.startswith("/")
            or ".." in parts
            or "\0" in path
            or "\\" in path
            or path != "/".join(parts)
        ):
            raise IsolationError("a program's paths must be relative and plain", value=path, todo="rename the file")
    if len(program) > MOST_FILES or sum(map(len, program.values())) > MOST_TEXT:
        raise IsolationError(f"a program of more than {MOST_FILES} files or {MOST_TEXT >> 20} MB", value=len(program))
    return main


def _base() -> str:
    """Where pools have their folders: names of sockets may have a hundred characters."""
    base = tempfile.gettempdir()
    return base if len(base) <= MOST_BASE else "/tmp"


def _hold(home: Path) -> int:
    """Lock a pool's folder for as long as its process lives."""
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _sweep() -> None:
    """Remove the folders of pools whose processes were killed: those that nobody holds."""
    for left in Path(_base()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.stat().st_uid == os.geteuid() and time.time() - left.stat().st_mtime > SETTLED:
                os.close(_hold(left))
                shutil.rmtree(left, ignore_errors=True)


def _readable(path: Path) -> bool:
    mode, wanted = path.lstat().st_mode, 0o005 if path.is_dir() else 0o004
    return path.is_symlink() or mode & wanted == wanted
