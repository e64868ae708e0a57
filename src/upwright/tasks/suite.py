"""A suite's practice side, and what the warden needs of it when a project is founded."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from upwright.errors import TaskError
from upwright.project import SuiteSettings
from upwright.records import Failure, Question, Task, canonical_digest, derive_seed, to_json
from upwright.tasks import evaluator, jsonl, python, scorers
from upwright.tasks.base import Axis, Evaluator, Generator, Passage, Pool
from upwright.tasks.fields import distinct
from upwright.warden.buckets import Bucket, bucket, normalise_input

Drawn = TypeVar("Drawn", Task, Question)
PATIENCE = 60
"""A generator is asked at most this many times per task wanted, plus 1,000, before a draw ends early."""
DROUGHT = 400
"""An easy level may have few problems, however many are asked for: a draw there ends early after so many repeats in a row."""


class Suite:
    """A named suite; implements :class:`upwright.tasks.base.Practice`.

    The distance of a task is its bucket, a salted hash of its input, unless separate files were given.

    Args:
        name: as in upwright.toml.
        source: what a :class:`~upwright.tasks.base.Source` loaded.
        salt: the project's salt; another salt splits the same tasks differently.
        given: bucket → tasks, when the person gave separate files (see :meth:`from_files`).
    """

    def __init__(
        self,
        name: str,
        source: Pool | Generator | Evaluator,
        salt: str,
        given: Mapping[Bucket, tuple[Task, ...]] | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.salt = salt
        self._given = given
        self._pool = given["practice"] if given else self._bucketed("practice")
        if isinstance(source, Pool) and not self._pool:
            raise TaskError(f"suite {name}: no task falls to practice", value=len(source.tasks), todo="add tasks")

    @classmethod
    def from_files(cls, name: str, files: Mapping[Bucket, str], salt: str, root: Path) -> Suite:
        """A suite whose three distances are three files (``jsonl`` or ``python`` with ``tasks()``).

        Args:
            files: ``practice`` and ``sealed``, and possibly ``vault``: paths relative to ``root``. The last two
                may be gone from the disk: after founding the warden has them.

        Raises:
            TaskError: a file is missing or malformed, or two files share a problem (names both lines).
        """
        for key in ("practice", "sealed"):
            if not files.get(key):
                raise TaskError(
                    f"suite {name}: no {key} file is given",
                    value=dict(files),
                    todo=f"add {key} = PATH in upwright.toml",
                )
        found: dict[Bucket, list[tuple[str, Task]]] = {"practice": [], "sealed": [], "vault": []}
        for key, spec in files.items():
            if spec and (key == "practice" or (root / spec).exists()):
                found[key] = _placed(spec, root)
        every = distinct([pair for pairs in found.values() for pair in pairs])
        given: dict[Bucket, tuple[Task, ...]] = {key: tuple(t for _, t in pairs) for key, pairs in found.items()}
        practice = files["practice"]
        texts = jsonl.read_passages(root / practice, practice) if practice.endswith(".jsonl") else ()
        return cls(name, Pool(every, texts), salt, given)

    def draw(self, n: int, seed: int) -> tuple[Task, ...]:
        """``n`` distinct practice tasks (fewer if there are no more); the first ``m < n`` are those of ``draw(m, seed)``.

        Raises:
            TaskError: the generator's file failed or changed.
        """
        if isinstance(self.source, Pool):
            order = list(self._pool)
            random.Random(derive_seed("practice", self.name, seed)).shuffle(order)
            return tuple(order[:n])
        source = self.source
        if isinstance(source, Evaluator):
            return self._distinct(n, lambda i: evaluator.task(source, derive_seed("practice", self.name, seed, i)))
        return self._distinct(n, lambda i: python.drawn(source, derive_seed("practice", self.name, seed, i)))

    @property
    def axis(self) -> Axis | None:
        """The difficulty axis of a generator that has one."""
        return python.axis_of(self.source) if isinstance(self.source, Generator) else None

    def problems(self, difficulty: int, n: int, seed: int) -> tuple[Question, ...]:
        """``n`` distinct practice problems of one difficulty, without answers; fewer if there are no more.

        Raises:
            TaskError: there is no axis, or the generator's file failed or changed.
        """
        source = self._with_axis()
        return self._distinct(
            n,
            lambda i: python.problem(source, derive_seed("problem", self.name, seed, difficulty, i), difficulty),
            DROUGHT,
        )

    def at(self, difficulty: int, n: int, seed: int) -> tuple[Task, ...]:
        """``n`` distinct practice tasks of one difficulty with their answers; fewer if there are no more.

        Raises:
            TaskError: there is no axis, or the generator's file failed or changed.
        """
        source = self._with_axis()
        return self._distinct(
            n, lambda i: python.drawn(source, derive_seed("level", self.name, seed, difficulty, i), difficulty), DROUGHT
        )

    def _with_axis(self) -> Generator:
        if not isinstance(self.source, Generator) or self.axis is None:
            raise TaskError(
                f"suite {self.name}: has no difficulty axis",
                todo="define generate(seed, difficulty=None) and problem(seed, difficulty) in a Python file",
            )
        return self.source

    def _distinct(self, n: int, make: Callable[[int], Drawn], drought: int | None = None) -> tuple[Drawn, ...]:
        """``n`` that fall to practice and differ in their input; fewer where too many of those that are made do not.

        Args:
            drought: tries in a row without a new one after which there are taken to be no more.
        """
        seen: set[str] = set()
        found: list[Drawn] = []
        last = 0
        for i in range(PATIENCE * n + 1000):
            if len(found) >= n or (drought is not None and i - last > drought):
                break
            made = make(i)
            problem = normalise_input(made.input)
            if problem not in seen and bucket(self.salt, made.input) == "practice":
                seen.add(problem)
                found.append(made)
                last = i
        return tuple(found)

    def grade(self, text: str, task: Task) -> float | Failure:
        """Score in [0, 1] (higher is better), or why the grader could not grade."""
        own = None
        if isinstance(self.source, Evaluator):
            return evaluator.graded(self.source, text, task)
        if isinstance(self.source, Generator):
            own = getattr(python.module_of(self.source), "score", None)
        return scorers.grade(text, task, own)

    def score(self, text: str, task: Task) -> float:
        """Score in [0, 1]; higher is better.

        Raises:
            TaskError: the grader could not grade; that is no zero.
        """
        result = self.grade(text, task)
        if isinstance(result, Failure):
            raise TaskError(f"suite {self.name}, task {task.id}: {result.message}", value=text, todo="mend the scorer")
        return result

    def passages(self) -> tuple[Passage, ...]:
        """The texts that the tasks ask about; an endless source has none."""
        return self.source.passages if isinstance(self.source, Pool) else ()

    def describe(self) -> Mapping[str, Any]:
        """Kind, size of the practice side (``None`` when endless), digest of the source."""
        if isinstance(self.source, Evaluator):
            facts = {"name": self.name, "kind": "evaluator", "size": None, "digest": self.source.sha256}
            return {**facts, "metric": self.source.metric}
        if isinstance(self.source, Generator):
            return {"name": self.name, "kind": "generator", "size": None, "digest": self.source.sha256}
        return {
            "name": self.name,
            "kind": "pool",
            "size": len(self._pool),
            "digest": canonical_digest([to_json(task) for task in self.source.tasks]),
        }

    def sealed_spec(self) -> dict[str, Any]:
        """What the warden takes away at founding. JSON types.

        ``{"kind": "generator", "path", "sha256"}``, or ``{"kind": "pool", "items", "vault"}`` with the
        sealed and the vault tasks, disjoint from practice; or ``{"kind": "evaluator", "path", "sha256", "metric", …}``.

        Raises:
            TaskError: no task falls to the sealed side.
        """
        if isinstance(self.source, Evaluator):
            return evaluator.sealed_spec(self.source)
        if isinstance(self.source, Generator):
            return {"kind": "generator", "path": str(self.source.path.resolve()), "sha256": self.source.sha256}
        sealed = self._given["sealed"] if self._given else self._bucketed("sealed")
        vault = self._given["vault"] if self._given else self._bucketed("vault")
        if not sealed:
            raise TaskError(
                f"suite {self.name}: no task is on the sealed side",
                value=len(self.source.tasks),
                todo="check the path of the sealed file" if self._given else "add tasks",
            )
        return {"kind": "pool", "items": [to_json(t) for t in sealed], "vault": [to_json(t) for t in vault]}

    def practice_lines(self) -> bytes | None:
        """JSON Lines of the practice tasks and the passages, for what stays in the project; ``None`` where tasks are endless."""
        return jsonl.render(self._pool, self.source.passages) if isinstance(self.source, Pool) else None

    def _bucketed(self, which: Bucket) -> tuple[Task, ...]:
        if not isinstance(self.source, Pool):
            return ()
        return tuple(task for task in self.source.tasks if bucket(self.salt, task.input) == which)


def _placed(spec: str, root: Path) -> list[tuple[str, Task]]:
    """The tasks of one of three files, each with the place where it stands."""
    if spec.endswith(".jsonl"):
        return jsonl.read(root / spec, spec)
    loaded = python.PythonFile().load(spec, root)
    if not isinstance(loaded, Pool):
        raise TaskError(
            f"{spec}: a generator cannot be one of three files",
            value=spec,
            todo="give it as source = PATH: it is split by itself",
        )
    return [(f"{spec}, tasks()[{i}]", task) for i, task in enumerate(loaded.tasks)]


def open_suites(settings: Mapping[str, SuiteSettings], root: Path, salt: str) -> dict[str, Suite]:
    """The suites of upwright.toml, by name, in its order.

    Raises:
        TaskError: a suite names no source, or both a source and files; or a source is wrong.
    """
    from upwright.tasks import load_source

    suites = {}
    for name, given in settings.items():
        files: dict[Bucket, str] = {"practice": given.practice, "sealed": given.sealed, "vault": given.vault}
        if bool(given.source) == any(files.values()):
            raise TaskError(
                f"suite {name}: needs either a source or the files practice, sealed and vault",
                value=to_json(given),
                todo=f'write source = "tasks/FILE.jsonl" under [suites.{name}]',
            )
        if given.source:
            suites[name] = Suite(name, load_source(given.source, root), salt)
        else:
            suites[name] = Suite.from_files(name, files, salt, root)
    return suites
