from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.agents.change import MOST_TEXT, Offer, changed, folder, offered, parts, scope_of, tellable, texts_of
from upwright.bodies.store import Store
from upwright.errors import BodyError, BuildError, CharterError, ProjectError
from upwright.warden.charter import Charter

CHARTER = Charter(may_change=("prompt.md", "inference.toml", "memory.jsonl", "program/", "model/adapter/"))
MARKED = "import os\n# EVOLVE-BLOCK-START\nx = 1\n# EVOLVE-BLOCK-END\nprint(x)\n"
BEFORE = {"prompt.md": "Be brief.\nBe kind.\n", "program/main.py": MARKED, "model.toml": 'runtime = "puppet"\n'}


def new(offer: Offer, charter: Charter = CHARTER) -> dict[str, str | None]:
    return changed(offer, BEFORE, charter, Path("nowhere"))


EDIT = """Some words of an agent.

prompt.md
<<<<<<< SEARCH
Be brief.
=======
Answer in a word.
>>>>>>> REPLACE

main.py
<<<<<<< SEARCH
x = 1
=======
x = 2
>>>>>>> REPLACE
"""
DIFF = """--- a/prompt.md
+++ b/prompt.md
@@ -1,2 +1,1 @@
 Be brief.
-Be kind.
"""


def test_what_is_told_becomes_the_texts_that_change() -> None:
    assert new(Offer(files={"prompt.md": "Hello.\n", "model.toml": BEFORE["model.toml"]})) == {"prompt.md": "Hello.\n"}
    assert new(Offer(text=EDIT)) == {
        "prompt.md": "Answer in a word.\nBe kind.\n",
        "program/main.py": MARKED.replace("x = 1", "x = 2"),
    }
    assert new(Offer(text=DIFF)) == {"prompt.md": "Be brief.\n"}
    assert new(Offer(files={"program/other.py": "y = 1\n"})) == {"program/other.py": "y = 1\n"}
    assert new(Offer(files={"prompt.md": None})) == {"prompt.md": None}
    assert new(Offer(files={"inference.toml": "samples = 3\n"})) == {"inference.toml": "samples = 3\n"}


@pytest.mark.parametrize(
    ("offer", "error", "told"),
    [
        (Offer(), ProjectError, "either whole files or edits"),
        (Offer(files={"prompt.md": "x"}, text=DIFF), ProjectError, "either whole files or edits"),
        (Offer(files={"prompt.md": BEFORE["prompt.md"]}), ProjectError, "changes nothing"),
        (Offer(files={"model.toml": "url = 1"}), CharterError, "model.toml is not among what may change"),
        (Offer(files={"training.toml": ""}), CharterError, "allows: prompt.md, inference.toml"),
        (Offer(files={"model/adapter/x.json": "{}"}), CharterError, "weights are not told as text"),
        (Offer(files={"../charter.toml": ""}), CharterError, "not a path inside a body"),
        (Offer(files={"/etc/passwd": ""}), CharterError, "not a path inside a body"),
        (Offer(files={"program/../../x": ""}), CharterError, "not a path inside a body"),
        (Offer(files={"charter.toml": ""}), CharterError, "no such part"),
        (Offer(files={"program/a.py": None}), CharterError, "cannot be deleted"),
        (Offer(files={"prompt.md": "a\0b"}), CharterError, "NUL"),
        (Offer(files={"prompt.md": "a" * MOST_TEXT + "bc"}), ProjectError, "too much text"),
        (Offer(files={"program/main.py": MARKED.replace("print", "exit")}), CharterError, "line 5 is outside of the EVOLVE"),
        (Offer(files={"program/main.py": None}), CharterError, "only what is between its markers"),
        (Offer(files={"program/b.py": "def f(:\n"}), BodyError, "program/b.py, line 1: invalid syntax"),
        (Offer(files={"inference.toml": "sample = 3"}), BodyError, "unknown key"),
        (Offer(files={"inference.toml": "samples = 'x'"}), BodyError, "inference.toml"),
        (Offer(files={"memory.jsonl": "{}\n"}), BodyError, "memory.jsonl, line 1"),
        (Offer(files={"prompt.md": "## Example\n\nno answer\n"}), BodyError, "no answer"),
        (Offer(text="no edit at all"), BuildError, "no edit"),
        (Offer(text=EDIT.replace("Be brief.", "Be short.")), BuildError, "nowhere in prompt.md"),
        (Offer(text="main.py\n<<<<<<< SEARCH\nprint(x)\n=======\n>>>>>>> REPLACE\n"), BuildError, "nothing may change"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_reason(offer: Offer, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=re.escape(told)):
        new(offer)


def test_every_reason_is_told_at_once() -> None:
    with pytest.raises(CharterError) as caught:
        new(Offer(files={"model.toml": "a", "../x": "b", "prompt.md": "fine"}))
    assert "'../x': not a path inside a body" in caught.value.what
    assert "model.toml is not among" in caught.value.what
    with pytest.raises(BodyError) as malformed:
        new(Offer(files={"inference.toml": "x = 1", "program/b.py": "("}))
    assert "unknown key" in malformed.value.what
    assert "program/b.py" in malformed.value.what


@given(path=st.text(alphabet="abc./\\%~\0 -", max_size=20))
def test_no_path_leads_out_of_the_parts(path: str) -> None:
    try:
        found = new(Offer(files={path: "x"}))
    except (CharterError, ProjectError):
        return
    (told,) = found
    assert told in ("prompt.md", "inference.toml", "memory.jsonl") or told.startswith("program/")
    assert ".." not in told.split("/")
    assert tellable(told)


def test_files_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    assert offered(EDIT).text == EDIT
    assert offered(DIFF, "prompt.md").text == DIFF, "the marks tell, whatever the name"
    assert offered("Be kind.\n", "prompt.md").files == {"prompt.md": "Be kind.\n"}
    assert offered('{"prompt.md": "x", "inference.toml": null}').files == {"prompt.md": "x", "inference.toml": None}
    for text in ("just words", "[1]", '{"prompt.md": 3}', "{}", ""):
        with pytest.raises(ProjectError, match="neither edits nor whole files"):
            offered(text, "notes.txt")


def test_parts_and_folders(tmp_path: Path) -> None:
    (tmp_path / "program" / "__pycache__").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    for path, data in (
        ("new.md", b"Hi.\r\n"), ("prompt.md", b"Hello.\n"), ("program/main.py", b"x = 1\n"), ("notes.txt", b"mine"),
        ("program/__pycache__/main.pyc", b"\xff"), ("model/config.json", b"{}"),
    ):  # fmt: skip
        (tmp_path / path).write_bytes(data)
    (tmp_path / "inference.toml").symlink_to(tmp_path / "notes.txt")
    assert folder(tmp_path).files == {"prompt.md": "Hello.\n", "program/main.py": "x = 1\n"}
    assert parts([f"prompt.md={tmp_path}/new.md", "memory.jsonl="]).files == {
        "prompt.md": "Hi.\r\n",
        "memory.jsonl": None,
    }
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for given_, told in (
        ("prompt.md", "PATH=FILE"),
        (f"a={tmp_path}/none", "cannot be read"),
        (f"a={tmp_path}/bytes", "as text"),
    ):
        with pytest.raises(ProjectError, match=told):
            parts([given_])
    with pytest.raises(ProjectError, match="no part of a body"):
        folder(tmp_path / "model")


def test_texts_of_a_generation(tmp_path: Path) -> None:
    body = tmp_path / "body"
    (body / "program").mkdir(parents=True)
    (body / "model").mkdir()
    (body / "prompt.md").write_text("Hi.\n")
    (body / "program" / "main.py").write_text("x = 1\n")
    (body / "program" / "data.bin").write_bytes(b"\xff\x00")
    (body / "program" / "nul.txt").write_bytes(b"a\0b")
    (body / "program" / "long.txt").write_bytes(b"a" * (MOST_TEXT + 1))
    (body / "model" / "config.json").write_text("{}")
    store = Store(tmp_path / "store")
    assert texts_of(store, store.put_body(body)) == {"prompt.md": "Hi.\n", "program/main.py": "x = 1\n"}


@pytest.mark.parametrize(
    ("allowed", "files", "told"),
    [
        (("program/",), {"main.py": "x = 2\n", "lib/a.py": "y = 2\n"}, ""),
        (("program/",), {"data.py": "z = 2\n"}, "program/data.py was changed"),
        (("program/",), {"lib/new.txt": "new\n"}, "program/lib/new.txt was added"),
        (("program/main.py",), {"main.py": "x = 2\n"}, ""),
        (("program/main.py",), {"lib/a.py": "y = 2\n"}, "is not among what may change"),
        (("program/data.py",), {"data.py": "z = 2\n"}, "program/data.py was changed"),
    ],
)
def test_a_program_s_own_scope_is_kept_too(tmp_path: Path, allowed: Any, files: dict[str, str], told: str) -> None:
    """Charter and ``[search]`` of its model.toml both have to allow it."""
    (tmp_path / "model.toml").write_text(
        'runtime = "program"\n[search]\npaths = ["**/*.py", "!data.py"]\nblocks = false\n'
    )
    before = {"program/main.py": "x = 1\n", "program/lib/a.py": "y = 1\n", "program/data.py": "z = 1\n"}
    offer = Offer(files={f"program/{path}": text for path, text in files.items()})
    charter = Charter(may_change=allowed)
    if not told:
        assert changed(offer, before, charter, tmp_path) == offer.files
        return
    with pytest.raises(CharterError, match=told):
        changed(offer, before, charter, tmp_path)


def test_a_program_s_fixed_files_are_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text('runtime = "program"\n[search]\npaths = ["**", "!data.py"]\n')
    scope = scope_of(Charter(may_change=("program/", "prompt.md", "model/adapter/")), tmp_path)
    paths = ("program/main.py", "program/a/b.c", "prompt.md", "program/data.py", "model.toml", "model/adapter/x")
    assert [scope.allows(path) for path in paths] == [True, True, True, False, False, False]
