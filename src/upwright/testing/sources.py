"""Conformance suite for sources of tasks: inherit :class:`SourceContract` and pytest runs it on yours."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from upwright.errors import TaskError
from upwright.records import to_json
from upwright.tasks.base import Evaluator, Generator, Pool, Source
from upwright.tasks.suite import Suite
from upwright.warden.buckets import bucket, normalise_input

SALT = "conformance"


class SourceContract(ABC):
    """What every :class:`~upwright.tasks.base.Source` promises.

    ::

        class TestMine(SourceContract):
            source = MySource()

            def good(self, root):
                (root / "mine.txt").write_text("...")
                return "mine.txt"

            bad = {"missing.txt": "missing.txt"}

    ``good`` prepares ``root`` and returns a spec of at least ten tasks. ``bad`` maps specs that cannot
    be loaded to a text that the error must show.
    """

    source: ClassVar[Source]
    bad: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def good(self, root: Path) -> str:
        """Prepare ``root``; return a spec that loads."""

    def test_has_a_kind(self) -> None:
        """``kind`` is a plain name."""
        assert self.source.kind.isidentifier()

    def test_same_spec_gives_same_tasks(self, tmp_path: Path) -> None:
        """Loading twice gives equal pools, or generators of the same digest."""
        spec = self.good(tmp_path)
        assert _plain(self.source.load(spec, tmp_path)) == _plain(self.source.load(spec, tmp_path))

    def test_drawing_is_deterministic_distinct_and_practice_only(self, tmp_path: Path) -> None:
        """A suite over the source draws by seed, no problem twice, nothing sealed."""
        suite = Suite("it", self.source.load(self.good(tmp_path), tmp_path), SALT)
        tasks = suite.draw(6, 1)
        assert tasks
        assert tasks == suite.draw(6, 1)
        assert tasks[:3] == suite.draw(3, 1)
        assert len({normalise_input(t.input) for t in tasks}) == len({t.id for t in tasks}) == len(tasks)
        assert all(bucket(SALT, t.input) == "practice" for t in tasks)

    def test_scores_are_in_range_and_repeat(self, tmp_path: Path) -> None:
        """Scores are numbers in [0, 1] and the same every time, whatever the text."""
        suite = Suite("it", self.source.load(self.good(tmp_path), tmp_path), SALT)
        for task in suite.draw(3, 2):
            for text in ("", "no", "7", '{"a": 1}', "A", "x" * 5000):
                score = suite.score(text, task)
                assert 0.0 <= score <= 1.0
                assert score == suite.score(text, task)

    def test_the_warden_gets_what_it_needs(self, tmp_path: Path) -> None:
        """``sealed_spec`` names the file, or holds tasks that practice never shows."""
        suite = Suite("it", self.source.load(self.good(tmp_path), tmp_path), SALT)
        spec = suite.sealed_spec()
        if spec["kind"] in ("generator", "evaluator"):
            assert Path(spec["path"]).is_file() == (spec["kind"] == "generator")
            assert len(spec["sha256"]) == 64
            return
        shown = {normalise_input(t.input) for t in suite.draw(10**6, 3)}
        taken = {normalise_input(item["input"]) for item in [*spec["items"], *spec["vault"]]}
        assert not shown & taken

    def test_bad_specs_say_what_is_wrong(self, tmp_path: Path) -> None:
        """Every bad spec raises ``TaskError`` that shows what it must."""
        for spec, shown in self.bad.items():
            said = _error(self.source, spec, tmp_path)
            assert said is not None, f"{spec!r} was loaded"
            assert shown in said, f"{spec!r}: {shown!r} is not in the error {said!r}"


def _error(source: Source, spec: str, root: Path) -> str | None:
    try:
        source.load(spec, root)
    except TaskError as error:
        return str(error)
    return None


def _plain(loaded: Pool | Generator | Evaluator) -> Any:
    return [to_json(task) for task in loaded.tasks] if isinstance(loaded, Pool) else loaded.sha256
