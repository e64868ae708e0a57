"""How many fresh sums of some lengths the champion of a project adds exactly: ``python measure.py PROJECT [DIGITS ...]``.

The sums are drawn anew from the task file, 400 of each length, from seeds that no run uses; the answer is the likeliest one, no vote.
"""

import importlib.util
import random
import sys
from pathlib import Path

from upwright.bodies.answer import answer
from upwright.bodies.body import Body
from upwright.diagnose.skills import wilson
from upwright.records import Question

EACH = 400


def main() -> None:
    """Print a line for each length."""
    project = Path(sys.argv[1])
    lengths = [int(word) for word in sys.argv[2:]] or [6, 10, 15, 20, 25]
    spec = importlib.util.spec_from_file_location("addition", project / "tasks" / "addition.py")
    tasks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tasks)
    body, rng = Body((project / "champion").resolve()), random.Random("measure")
    for digits in lengths:
        made = [tasks.generate(rng.getrandbits(62), digits) for _ in range(EACH)]
        said = answer(body, [Question(str(i), task["input"]) for i, task in enumerate(made)], 0)
        right = sum(one.text.strip() == task["answer"] for one, task in zip(said, made, strict=True))
        low, high = wilson(right, EACH)
        print(f"{digits:3} digits: {right} of {EACH} right, {right / EACH:.1%} ({low:.1%} to {high:.1%})")


if __name__ == "__main__":
    main()
