"""What a language model is told when it is to change a program, and what of its reply is kept.

The format is shown by one worked example: small models apply it far more often with it than without. What does not fit is cut, and
said to be cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from upwright.bodies.runtimes.base import Message
from upwright.evolution.blocks import Scope
from upwright.evolution.edits import unified
from upwright.evolution.proposers.base import Brief, Candidate, Program

ROOM = 24_000
"""Characters of the program in one prompt."""
OTHERS, OTHER_ROOM = 2, 1_500
"""Other candidates shown, and characters of each one's difference."""
SAID_ROOM = 600
"""Characters of what the evaluator said about the parent."""

SYSTEM = """You improve programs. You are given a program, how well it does, and what failed before. Reply with one short sentence that says \
what you change and why, then with the change as SEARCH/REPLACE blocks.

Rules:
- The lines under SEARCH are copied exactly from the program, with their indentation. They must occur in it once: take enough lines.
- The lines under REPLACE take their place. No lines under REPLACE delete them.
- Several blocks are allowed; each stands under its file's path. To write a whole file, give its path and then the file in a code fence.
- Keep functions that are called from outside, with their names and parameters. Use only modules that are imported already or the
  standard library. Do not print, read or write files, or use the network.

An example. The program is

area.py
```
def largest(sizes):
    best = 0
    for a, b in sizes:
        if a + b > best:
            best = a + b
    return best
```

and a good reply to "largest should be the largest area" is

The area is the product of the sides, not their sum.

area.py
<<<<<<< SEARCH
        if a + b > best:
            best = a + b
=======
        if a * b > best:
            best = a * b
>>>>>>> REPLACE
"""


def messages(brief: Brief, refused: Sequence[str] = ()) -> tuple[Message, ...]:
    """The chat that asks for a change of the parent; ``refused`` are reasons why earlier replies could not be used."""
    parts = [
        _aim(brief),
        _program(brief.parent.program, brief.scope),
        _how_well(brief.parent),
        _others(brief),
        _list("What was tried and failed:", brief.failures),
        _list("Earlier replies could not be used:", refused),
        "Make one change that makes it better. One sentence, then SEARCH/REPLACE blocks.",
    ]
    return Message("system", SYSTEM), Message("user", "\n\n".join(part for part in parts if part))


def again(chat: Sequence[Message], reply: str, why: str) -> tuple[Message, ...]:
    """The chat that sends a refused reply back with the reason."""
    asked = f"That cannot be applied: {why}. Nothing was changed. Give the whole change once more, with SEARCH lines copied exactly."
    return (*chat, Message("assistant", reply), Message("user", asked))


def summary(reply: str, most: int = 160) -> str:
    """What a reply says that it does: its first line of plain words."""
    for line in reply.splitlines():
        text = " ".join(line.strip(" #*`>-").split())
        if " " in text and not text.startswith(("<<<<<", "=====", "@@", "---", "+++")):
            return text if len(text) <= most else text[: most - 1] + "…"
    return "a change without words"


def _aim(brief: Brief) -> str:
    way = "as large" if brief.direction == "max" else "as small"
    return f"The metric {brief.metric} is to become {way} as possible."


def _program(program: Program, scope: Scope) -> str:
    """Every file that may change, then the names of the others."""
    room, shown, left = ROOM, [], []
    for path, text in sorted(program.items(), key=lambda item: (not scope.allows(item[0]), item[0])):
        if not scope.allows(path) or room <= 0:
            left.append(path)
            continue
        cut = len(text) > room
        fence = "`" * (1 + max(2, _longest_run(text)))
        body = text[:room] + "\n" if cut else text
        shown.append(
            f"{path}\n{fence}\n{body}{'' if body.endswith(chr(10)) else chr(10)}{fence}"
            + ("\n(cut here)" if cut else "")
        )
        room -= len(text)
    if scope.blocks and any("EVOLVE-BLOCK" in program[p] for p in program if scope.allows(p)):
        shown.append(
            "Only lines between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change, and not these two lines themselves."
        )
    if left:
        shown.append(
            f"Further files, which may not change or are not shown: {', '.join(left[:20])}{' …' * (len(left) > 20)}"
        )
    return "\n\n".join(shown)


def _how_well(parent: Candidate) -> str:
    measured = ", ".join(f"{name} = {value:.6g}" for name, value in sorted(parent.metrics.items())[:20])
    said = [f"Measured: {measured}" if measured else ""]
    for name, text in sorted(parent.artifacts.items()):
        said.append(f"{name}: {text[-SAID_ROOM:]}" if text.strip() else "")
    return "\n".join(line for line in said if line)


def _others(brief: Brief) -> str:
    """What other good candidates do differently from the parent."""
    found = []
    for other in brief.inspirations[:OTHERS]:
        diff = unified(brief.parent.program, other.program, 1)
        if brief.metric in other.metrics and len(diff) > 0:
            cut = diff if len(diff) <= OTHER_ROOM else diff[:OTHER_ROOM] + "\n(cut here)\n"
            found.append(
                f"Another program has {brief.metric} = {other.metrics[brief.metric]:.6g}. It differs so:\n{cut}"
            )
    return "\n\n".join(found)


def _list(title: str, entries: Sequence[str]) -> str:
    return "\n".join([title, *(f"- {entry}" for entry in entries)]) if entries else ""


def _longest_run(text: str) -> int:
    longest = run = 0
    for sign in text:
        run = run + 1 if sign == "`" else 0
        longest = max(longest, run)
    return longest
