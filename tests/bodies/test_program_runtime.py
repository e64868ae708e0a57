from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.bodies.answer import answer
from upwright.bodies.body import Body
from upwright.bodies.program import program_changes, program_text, read_program
from upwright.bodies.runtimes import load, unload
from upwright.bodies.runtimes.base import Runtime
from upwright.bodies.runtimes.program import ProgramRuntime
from upwright.bodies.store import Store
from upwright.errors import BodyError
from upwright.records import Question
from upwright.testing.runtimes import RuntimeContract


def write(root: Path, files: dict[str, bytes]) -> Body:
    root.mkdir(parents=True, exist_ok=True)
    (root / "model.toml").write_text('runtime = "program"\n')
    for path, data in files.items():
        place = root / "program" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return Body(root)


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    yield
    unload()


class TestProgramRuntime(RuntimeContract):
    tokens = 1

    @pytest.fixture
    def runtime(self, tmp_path: Path) -> Runtime:
        return ProgramRuntime(write(tmp_path, {"program.py": b"x = 1\n"}))

    def test_accounts_add_up(self, runtime: Runtime) -> None:
        ((said,),) = runtime.generate([self.ask("Tell me a story.")])
        assert said.prompt_tokens == said.completion_tokens == 0, "an answer costs nothing"


def test_it_answers_with_its_own_text(tmp_path: Path) -> None:
    files = {"program.py": b"print('h\xc3\xa9')\r\n", "lib/a.bin": bytes(range(256)), "empty": b""}
    body = write(tmp_path, files)
    (tmp_path / "program" / "__pycache__").mkdir()
    (tmp_path / "program" / "__pycache__" / "program.pyc").write_bytes(b"\0")
    one, two = answer(body, [Question("1", "run 5"), Question("2", "run 6")], seed=1)
    assert one.text == two.text
    assert one.text.isascii()
    assert list(json.loads(one.text)) == sorted(files)
    assert json.dumps(json.loads(one.text), sort_keys=True, separators=(",", ":")) == one.text
    stored = Store(tmp_path / "store").put_body(_copy(body, tmp_path / "copy"))
    said = {path: text.encode("utf-8", "surrogateescape") for path, text in json.loads(one.text).items()}
    assert {f"program/{path}": hashlib.sha256(data).hexdigest() for path, data in said.items()} == {
        path: sha for path, sha in stored.files.items() if path.startswith("program/")
    }, "the text is that of the files, byte for byte"


def _copy(body: Body, target: Path) -> Path:
    program = read_program(body.root)
    return write(target, {p: t.encode("utf-8", "surrogateescape") for p, t in program.items()}).root


def test_another_program_is_another_runtime(tmp_path: Path) -> None:
    body = write(tmp_path, {"a.py": b"one"})
    first = load(body)
    assert load(body) is first
    assert first.describe()["files"] == 1
    (tmp_path / "program" / "b.py").write_bytes(b"two")
    assert load(body).describe()["files"] == 2
    (tmp_path / "program" / "a.py").write_bytes(b"other")
    assert load(body).describe()["characters"] == 8


def test_a_body_without_a_program_is_told(tmp_path: Path) -> None:
    with pytest.raises(BodyError, match="no program"):
        load(write(tmp_path, {}))


TEXTS = st.dictionaries(st.sampled_from(["a", "b/c", "d"]), st.binary(max_size=8), min_size=1)


@given(TEXTS, TEXTS)
def test_changes_lead_from_the_one_to_the_other(one: dict[str, bytes], two: dict[str, bytes]) -> None:
    before, after = ({p: b.decode("utf-8", "surrogateescape") for p, b in files.items()} for files in (one, two))
    body = {f"program/{path}": data for path, data in one.items()}
    for path, value in program_changes(before, after).items():
        if value is None:
            del body[path]
        else:
            body[path] = value
    assert body == {f"program/{path}": data for path, data in two.items()}
    assert json.loads(program_text(after)) == after
