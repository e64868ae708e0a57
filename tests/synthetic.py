"""A project with a past, made in seconds without any model: a real warden, a real store, made-up answers."""

from __future__ import annotations

import atexit
import functools
import random
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from upwright.bodies.store import Store
from upwright.founding import found
from upwright.project import Project
from upwright.records import Cost, Proposal, Rung, derive_seed, to_json
from upwright.warden.kernel import Warden

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> [bold]not markup[/bold]"

SUMS = """
import random

SIGNS = {"adding": "+", "subtracting": "-", "multiplying": "*"}

def generate(seed):
    r = random.Random(seed)
    skill = r.choice(sorted(SIGNS))
    a, b = r.randrange(1000), r.randrange(1000)
    text = f"What is {a} {SIGNS[skill]} {b}?"
    return {"input": text, "answer": str(eval(f"{a}{SIGNS[skill]}{b}")), "skill": skill, "difficulty": 1}
"""
WORDS = """
import random

def generate(seed):
    r = random.Random(seed)
    word = "".join(r.choice("abcdefghij") for _ in range(8))
    return {"input": f"Write {word} backwards.", "answer": word[::-1], "skill": "reversing", "difficulty": 1}
"""
UPWRIGHT = """
[run]
practice = 24
screen = 16
[suites.sums]
source = "tasks/sums.py"
[suites.words]
source = "tasks/words.py"
"""
CHARTER = """
objective = "sums"
minimum_gain = 0.05
may_change = ["prompt.md", "inference.toml", "memory.jsonl"]
oversight = "{oversight}"
[protected.words]
margin = 0.15
[sealed]
batch = 64
n_max = 256
confirm = 96
[vault]
size = 96
"""


@dataclass(frozen=True)
class Step:
    """One round: what is changed, and how good it is (share of right answers by skill)."""

    lever: str
    changes: dict[str, bytes]
    right: dict[str, float] | None
    reason: str
    gain: float | None
    screened: str = ""
    promote: bool = True


FIRST = {"adding": 0.35, "subtracting": 0.30, "multiplying": 0.15, "reversing": 0.80}
PROMPT = b"Work step by step.\n"
STEPS = (
    Step("prompt", {"prompt.md": PROMPT}, {"adding": 0.72, "subtracting": 0.61, "multiplying": 0.38, "reversing": 0.80},
         "sums are wrong in value: " + EVIL, 0.22),
    Step("inference", {"inference.toml": b"samples = 3\nchoose = \"vote\"\n"}, None, "answers differ between samples", 0.01,
         screened="screened out: +1.0 points on 16 practice tasks; at least +2.5 were needed to knock"),
    Step("memory", {"memory.jsonl": b'{"id":"a","kind":"lesson","skill":"adding","input":"","answer":"carry"}\n'},
         {"adding": 0.66, "subtracting": 0.57, "multiplying": 0.33, "reversing": 0.80}, "adding forgets to carry", 0.06),
    Step("inference", {"inference.toml": b"temperature = 0.7\nsamples = 5\nchoose = \"vote\"\n"},
         {"adding": 0.97, "subtracting": 0.93, "multiplying": 0.28, "reversing": 0.78}, "samples disagree, a vote would settle it", 0.25),
    Step("prompt", {"prompt.md": b"Guess.\n"}, None, "multiplying got worse", None, screened="could not be built: no example fits"),
    Step("memory", {"memory.jsonl": b'{"id":"b","kind":"case","skill":"multiplying","input":"12 * 12","answer":"144"}\n'},
         {"adding": 0.97, "subtracting": 0.95, "multiplying": 0.85, "reversing": 0.80}, "multiplying has cases to remember", 0.3),
)  # fmt: skip


class World:
    """Drives a warden in this process through rounds, and writes the journal as a run would."""

    def __init__(self, root: Path, oversight: str = "auto") -> None:
        write_project(root, oversight)
        self.project = Project.open(root)
        self.genesis = found(self.project)
        (self.project.warden / "keys" / "secret").write_bytes(bytes(32))  # the same draws every time
        self.store = Store(self.project.state / "store")
        self.warden = Warden(self.project.warden)
        self.journal = self.project.journal
        self.right: dict[str, dict[str, float]] = {self.genesis: FIRST}
        self.champion = self.genesis
        self.round = 0

    def close(self) -> None:
        self.journal.close()
        self.warden.close()

    def evaluate(self) -> None:
        means = {"sums": sum(self.right[self.champion][s] for s in list(FIRST)[:3]) / 3, "words": 0.8}
        row = {"champion": self.champion, "generation": 0, "means": means, "failures": {"sums": 0, "words": 0}}
        self.journal.write("evaluate", self.round, row)

    def step(self, step: Step) -> None:
        """One whole round."""
        self.round += 1
        self.evaluate()
        parent = self.store.get(self.champion)
        proposal = Proposal(
            step.lever, {"parts": sorted(step.changes)}, step.reason, "rules", parent.digest, self.round
        )
        self.journal.write("propose", self.round, to_json(proposal))
        self.journal.spend(12.5, 4200)
        unbuilt = step.screened.startswith("could not")
        child = self.store.derive(parent, step.changes, proposal, {"rung": Rung.EXECUTION.value, "examples": 3})
        cost = Cost(9.5, 3000, 40)
        record = {"digest": child.digest, "rung": "execution", "note": {}, "cost": to_json(cost)}
        built: dict[str, Any] = (
            {"child": None, "why": step.screened} if unbuilt else {"child": child.digest, "record": record}
        )
        self.journal.write("build", self.round, built)
        proof: dict[str, Any] = {
            "decision": None,
            "why": step.screened,
            "gain": step.gain,
            "test": None,
            "screen": None,
        }
        promoted = False
        if step.right is not None:
            self.right[child.digest] = step.right
            test = self.warden.commit(
                {"digest": child.digest, "files": dict(child.files)},
                dict(parent.files),
                to_json(proposal),
                parent.digest,
            )
            self.drive(test)
            decision = self.warden.verdict(test)
            proof = {**proof, "decision": decision, "test": test, "why": f"passed the screen; the warden: {decision}"}
            promoted = decision == "PROMOTE" and step.promote
            if promoted:
                self.warden.promote(test)
                self.drive(test)
                self.champion = child.digest
        self.journal.write("prove", self.round, proof)
        self.journal.spend(30.0, 9000)
        data = {"promoted": promoted, "lever": step.lever, "why": proof["why"], "champion": self.champion,
                "gain": step.gain, "seconds": cost.seconds}  # fmt: skip
        self.journal.write("promote", self.round, data)

    def drive(self, test: int) -> None:
        """Answer until the warden has heard enough."""
        while not (batch := self.warden.next_inputs(test)).get("done"):
            given: dict[str, dict[str, Any]] = {}
            for question in batch["questions"]:
                for role in question["ask"]:
                    text = self.answer(batch["bodies"][role], question["input"])
                    given.setdefault(role, {})[question["id"]] = {"text": text, "failure": None, "tokens": 20}
            self.warden.answers(test, batch["batch"], given)

    def answer(self, digest: str, question: str) -> str:
        """Right as often as this body is; much of the luck is the question's own."""
        words = question.rstrip("?.").split()
        sums = words[0] == "What"
        skill = {"+": "adding", "-": "subtracting", "*": "multiplying"}[words[3]] if sums else "reversing"
        luck = random.Random(derive_seed(question))
        own = random.Random(derive_seed(question, digest))
        roll = luck.random() if luck.random() < (0.5 if sums else 0.9) else own.random()
        if roll >= self.right[digest][skill]:
            return "I do not know"
        return str(eval(" ".join(words[2:]))) if sums else words[1][::-1]


def write_project(root: Path, oversight: str = "auto") -> None:
    """The files of a project, as a person would have them before the first run."""
    for folder in ("tasks", "body"):
        (root / folder).mkdir(parents=True)
    (root / "upwright.toml").write_text(UPWRIGHT)
    (root / "charter.toml").write_text(CHARTER.format(oversight=oversight))
    (root / "tasks" / "sums.py").write_text(SUMS)
    (root / "tasks" / "words.py").write_text(WORDS)
    (root / "body" / "model.toml").write_text('url = "http://localhost:9/v1"\nmodel = "fake"\n')
    (root / "body" / "prompt.md").write_text("Answer the question.\n")


def build(root: Path) -> Path:
    """A project with three promotions, three rejections, an opened vault and a round under way."""
    world = World(root)
    for step in STEPS:
        world.step(step)
    world.drive(world.warden.open_vault())
    facts = {"candidates": 1000, "promoted": 38, "rate": 0.038, "interval": [0.0279, 0.0517], "error_rate": 0.05}
    world.warden.note("calibration", facts)
    world.round += 1
    world.evaluate()
    proposal = Proposal("prompt", {}, "adding has headroom", "rules", world.champion, world.round)
    world.journal.write("propose", world.round, to_json(proposal))
    world.close()
    return root


@functools.cache
def past() -> Path:
    """The project of :func:`build`, made once per process; read it, do not change it."""
    folder = Path(tempfile.mkdtemp(prefix="upwright-past-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(folder / "demo")


def waiting(root: Path) -> Path:
    """A project whose first test has passed the gate and waits for a person."""
    world = World(root, oversight="approve")
    world.step(replace(STEPS[0], promote=False))
    world.close()
    return root


def copy(source: Path, target: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock"))
    return target
