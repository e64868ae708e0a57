"""Every malformed file names the file, the line and the field."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwright.errors import TaskError
from upwright.records import Task, to_json
from upwright.tasks import Suite, jsonl, load_source, scorers
from upwright.tasks.base import Pool
from upwright.testing.sources import SourceContract

GOOD = '{"input": "1 + 1?", "answer": "2"}'


def load(tmp_path: Path, text: str | bytes) -> Pool:
    (tmp_path / "t.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_source("t.jsonl", tmp_path)


BAD = {
    "no JSON": ("{input: 1}", ["line 2", "column", "is not JSON", "{input: 1}"]),
    "cut off": ('{"input": "a"', ["line 2", "is not JSON"]),
    "a list": ("[1]", ["line 2", "is an object", "[1]"]),
    "a text": ('"x"', ["line 2", "is an object"]),
    "NaN": ('{"input": "a", "answer": NaN}', ["line 2", "NaN"]),
    "no input": ('{"answer": 1}', ["line 2", "'input'", "is missing"]),
    "no answer": ('{"input": "a"}', ["line 2", "'answer'", "is missing"]),
    "input is no text": ('{"input": 7, "answer": 1}', ["line 2", "'input'", "7"]),
    "input is empty": ('{"input": "  ", "answer": 1}', ["line 2", "'input'", "not empty"]),
    "id is no text": ('{"id": 3, "input": "a", "answer": "b"}', ["line 2", "'id'", "3"]),
    "skill is empty": ('{"input": "a", "answer": "b", "skill": ""}', ["line 2", "'skill'"]),
    "difficulty is 0": ('{"input": "a", "answer": "b", "difficulty": 0}', ["line 2", "'difficulty'", "0"]),
    "difficulty is true": ('{"input": "a", "answer": "b", "difficulty": true}', ["line 2", "'difficulty'", "True"]),
    "difficulty is text": ('{"input": "a", "answer": "b", "difficulty": "2"}', ["line 2", "'difficulty'", "'2'"]),
    "unknown field": ('{"input": "a", "answer": "b", "anwser": "c"}', ["line 2", "'anwser'", "known fields"]),
    "field twice": ('{"input": "a", "answer": "b", "answer": "c"}', ["line 2", "'answer'", "twice"]),
    "unknown scorer": ('{"input": "a", "answer": "b", "scorer": "magic"}', ["line 2", "'scorer'", "magic", "known kinds"]),
    "scorer is a number": ('{"input": "a", "answer": "b", "scorer": 4}', ["line 2", "'scorer'", "4"]),
    "scorer kind is a list": ('{"input": "a", "answer": "b", "scorer": {"kind": []}}', ["line 2", "'scorer'", "kind"]),
    "scorer has a wrong key": (
        '{"input": "a", "answer": "b", "scorer": {"kind": "exact", "fuzzy": 1}}',
        ["line 2", "'scorer'", "fuzzy"],
    ),
    "regex without pattern": ('{"input": "a", "answer": "b", "scorer": "regex"}', ["line 2", "'scorer'", "pattern"]),
    "broken pattern": (
        '{"input": "a", "answer": "b", "check": {"kind": "regex", "pattern": "("}}',
        ["line 2", "'check'", "pattern"],
    ),
    "python scorer": ('{"input": "a", "answer": "b", "scorer": "python"}', ["line 2", "'scorer'", "generate(seed)"]),
    "gold fails": ('{"input": "a", "answer": "many", "scorer": "number"}', ["line 2", "'answer'", "many", "number"]),
    "same input": ('{"input": " 1 +  1? ", "answer": "3"}', ["line 2", "'input'", "line 1"]),
    "same id": ('{"id": "t1", "input": "b", "answer": "3"}\n{"id": "t1", "input": "c", "answer": "3"}', ["line 3", "'id'", "line 2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_line_names_file_line_and_field(name, tmp_path):
    line, shown = BAD[name]
    with pytest.raises(TaskError) as caught:
        load(tmp_path, f"{GOOD}\n{line}\n")
    for text in ["t.jsonl", *shown]:
        assert text in str(caught.value)


def test_not_utf8_names_the_line(tmp_path):
    with pytest.raises(TaskError, match=r"t\.jsonl, line 2: is not UTF-8"):
        load(tmp_path, GOOD.encode() + b'\n{"input": "\xff", "answer": 1}\n')


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_an_error(tmp_path, text):
    with pytest.raises(TaskError, match="holds no task"):
        load(tmp_path, text)


def test_a_missing_file_and_an_unknown_kind_say_what_to_do(tmp_path):
    with pytest.raises(TaskError, match="check the path"):
        load_source("nowhere.jsonl", tmp_path)
    with pytest.raises(TaskError, match="jsonl, python, reasoning_gym"):
        load_source("magic:beans", tmp_path)
    with pytest.raises(TaskError, match="KIND:REST"):
        load_source("tasks.csv", tmp_path)


def test_bom_blank_lines_crlf_and_odd_separators_inside_text(tmp_path):
    pool = load(tmp_path, "\ufeff" + GOOD + '\r\n\r\n{"input": "a\u2028b\x85c", "answer": true, "scorer": "json"}\n')
    assert [t.input for t in pool.tasks] == ["1 + 1?", "a\u2028b\x85c"]
    assert pool.tasks[1].answer is True


def test_a_list_of_answers_means_any_of_them(tmp_path):
    (task,) = load(tmp_path, '{"input": "a", "answer": ["two", "2"]}').tasks
    assert scorers.gold(task) == "two"
    assert scorers.grade("2", task) == 1.0
    (task,) = load(tmp_path, '{"input": "a", "answer": [1, 2], "scorer": "json"}').tasks
    assert scorers.gold(task) == "[1, 2]"


def test_ids_are_kept_or_made_from_content(tmp_path):
    a, b = load(tmp_path, GOOD + '\n{"id": "mine", "input": "b", "answer": "c"}').tasks
    assert b.id == "mine"
    assert a.id == load(tmp_path, GOOD).tasks[0].id != ""


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1).filter(str.strip), values, st.integers(1, 9))
def test_what_is_rendered_is_read_back(text, answer, difficulty):
    import tempfile

    text = text.encode("utf-8", "replace").decode()
    try:
        json.dumps(answer, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    task = Task("id", text, answer, "skill", difficulty, {"kind": "regex", "pattern": "."})
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "t.jsonl").write_bytes(jsonl.render([task]))
        (back,) = load_source("jsonl:t.jsonl", Path(folder)).tasks
    assert to_json(back) == to_json(task)


class TestJsonLinesContract(SourceContract):
    source = jsonl.JsonLines()
    bad = {"none.jsonl": "none.jsonl"}

    def good(self, root):
        (root / "good.jsonl").write_bytes(
            jsonl.render(
                Task(f"t{i}", f"what is {i} plus {i}?", str(2 * i), scorer={"kind": "number"}) for i in range(40)
            )
        )
        return "good.jsonl"


# ---- passages -----------------------------------------------------------------------------------


def test_a_line_with_a_passage_is_a_text_and_no_task(tmp_path):
    lines = ['{"id": "a", "passage": "The mill is old.\\u2028It turns."}', '{"id": "a/1", "input": "?", "answer": "1"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    pool = load_source("t.jsonl", tmp_path)
    assert [(p.id, p.text) for p in pool.passages] == [("a", "The mill is old.\u2028It turns.")]
    assert [t.id for t in pool.tasks] == ["a/1"]
    (tmp_path / "again.jsonl").write_bytes(jsonl.render(pool.tasks, pool.passages))
    assert load_source("again.jsonl", tmp_path) == pool


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"id": "a", "passage": "x", "answer": "y"}', "line 2: a passage has the fields"),
        ('{"passage": "x"}', "line 2: a passage has the fields"),
        ('{"id": "a", "passage": " "}', "line 2, field 'passage'"),
        ('{"id": 3, "passage": "x"}', "line 2, field 'id'"),
        ('{"id": "b", "passage": "x"}\n{"id": "b", "passage": "y"}', "line 3, field 'id': another passage"),
    ],
)
def test_a_malformed_passage_is_told_by_line_and_field(tmp_path, line, told):
    (tmp_path / "t.jsonl").write_text('{"input": "?", "answer": "1"}\n' + line)
    with pytest.raises(TaskError, match=told):
        load_source("t.jsonl", tmp_path)


def test_passages_alone_are_no_tasks(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"id": "a", "passage": "x"}')
    with pytest.raises(TaskError, match="holds no task"):
        load_source("t.jsonl", tmp_path)


def test_of_three_files_the_practice_file_gives_the_passages(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "passage": "x"}\n{"input": "1?", "answer": "1"}')
    (tmp_path / "s.jsonl").write_text('{"id": "b", "passage": "y"}\n{"input": "2?", "answer": "1"}')
    suite = Suite.from_files("s", {"practice": "p.jsonl", "sealed": "s.jsonl"}, "salt", tmp_path)
    assert [p.id for p in suite.passages()] == ["a"]
    assert load_source("p.jsonl", tmp_path).passages == suite.passages()
