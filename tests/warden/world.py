"""A tiny world for the warden's tests: suites, bodies that know a share of the answers, and a driver."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from upwright.warden.canon import tree_digest
from upwright.warden.door import found

GENERATOR = """
def generate(seed):
    print("noise that must go nowhere")
    a, b = seed % 100003, seed // 100003 % 9973
    return {"input": f"What is {a} + {b}?", "answer": f"SECRET{a + b}", "skill": ["odd", "even"][a % 2],
            "difficulty": 1, "scorer": {"kind": "python"}, "check": {"kind": "regex", "pattern": "SECRET[0-9]+"}}

def score(text, task):
    return 1.0 if text == task["answer"] else 0.0
"""

CHARTER = """
objective = "sums"
minimum_gain = 0.1
may_change = ["prompt.md", "program/"]
[protected.basics]
margin = 0.2
[sealed]
batch = 16
n_max = 128
confirm = 24
retries = 1
[vault]
size = 20
"""

SALT = "pepper"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def body(**parts: str) -> dict[str, Any]:
    """A body; keyword ``prompt`` is prompt.md, and so on."""
    files = {f"{name}.md": sha(content) for name, content in parts.items()}
    return {"digest": tree_digest(files), "files": files}


GENESIS = body(prompt="genesis", fixed="same")
PROPOSAL = {"lever": "prompt", "settings": {}, "reason": "r", "author": "a", "parent": GENESIS["digest"], "seed": 1}


def child_of(word: str) -> dict[str, Any]:
    return body(prompt=word, fixed="same")


def pool(n: int = 60) -> dict[str, Any]:
    def task(i: int) -> dict[str, Any]:
        return {"id": str(i), "input": f"Say basic word {i}", "answer": f"HIDDEN{i}", "skill": "basic"}

    return {"kind": "pool", "items": [task(i) for i in range(n)], "vault": [task(i) for i in range(n, n + 20)]}


def make_home(tmp: Path, charter: str = CHARTER) -> Path:
    file = tmp / "sums.py"
    file.write_text(GENERATOR)
    home = tmp / "warden"
    found(home, charter, {"sums": {"kind": "generator", "path": str(file)}, "basics": pool()}, GENESIS, SALT)
    return home


def solve(text: str) -> str:
    """The right answer to any task of this world."""
    words = text.rstrip("?").split()
    if words[0] == "What":
        return f"SECRET{int(words[2]) + int(words[4])}"
    return f"HIDDEN{words[-1]}"


def knows(share: float, name: str) -> Callable[[str], str]:
    """A body that gets ``share`` of all questions right, the same ones each time."""

    def answer(question: str) -> str:
        luck = int(sha(name + question)[:8], 16) / 2**32
        return solve(question) if luck < share else "no idea"

    return answer


def reply(batch: Mapping[str, Any], bodies: Mapping[str, Callable[[str], str]]) -> dict[str, dict[str, Any]]:
    """Answers of all roles to a batch; ``bodies`` maps digest → function."""
    given: dict[str, dict[str, Any]] = {}
    for q in batch["questions"]:
        for role in q["ask"]:
            text = bodies[batch["bodies"][role]](q["input"])
            given.setdefault(role, {})[q["id"]] = {"text": text, "failure": None, "tokens": 7}
    return given


def drive(door: Any, test: int, bodies: Mapping[str, Callable[[str], str]]) -> int:
    """Answer until done; the number of batches."""
    n = 0
    while True:
        batch = door.next_inputs(test)
        if batch.get("done"):
            return n
        assert door.answers(test, batch["batch"], reply(batch, bodies)) is None
        n += 1
