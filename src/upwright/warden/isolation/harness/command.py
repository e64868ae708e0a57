"""A command that scores a folder: it prints a JSON object of metrics as its last line, or writes one to a file.

It runs in a copy of the program's folder, which it may write to. A word of the command that is the path of a file in the evaluator's folder means
that file (so a program cannot put one of its own in its place), and ``{evaluator}``, ``{program}``, ``{output}`` and ``{seed}`` stand for the evaluator's folder, the
copy, the results' file and the run's seed. ``python`` is this Python. Its environment is the cell's, with ``UPWRIGHT_SEED``.

What this does not stop: here the program runs where the command lets it run. A command that imports the program, or that passes the program's output on, believes
what the program says. One that starts it as a process of its own and scores the data that comes back does not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .loading import SHIMS
from .results import result

MOST_LINE = 1 << 20
"""Longest line of output, in bytes, that is kept whole."""


def run(job: Mapping[str, Any], program_path: str, workdir: str) -> dict[str, Any]:
    """Evaluate. ``job``: ``{"entry": [word, …], "program", "output": path or ""}``."""
    folder, seed = str(job["folder"]), str(job["seed"])
    work = Path(workdir) / "program"
    shutil.copytree(Path(program_path).parents[str(job["program"]).count("/")], work)
    output = work / str(job.get("output") or "")
    if output != work:
        output.unlink(missing_ok=True)  # a program may bring one along
    places = {"evaluator": folder, "program": str(work), "output": str(output), "seed": seed}
    env = {**os.environ, "UPWRIGHT_SEED": seed, "PYTHONPATH": SHIMS, "PYTHONDONTWRITEBYTECODE": "1"}
    last = _tell_on(words(job["entry"], folder, places), work, env)
    if output != work:
        try:
            return result(_object(output.read_text("utf-8"), output.name))
        except OSError as e:
            raise RuntimeError(f"the command left no {output.name}") from e
    return result(_object(last, "the last line that the command printed"))


def words(entry: Sequence[Any], folder: str, places: Mapping[str, str]) -> list[str]:
    """The command line, with files and places put in."""
    found = []
    for word in map(str, entry):
        if word == "python":
            found.append(sys.executable)
        elif not word.startswith("-") and (Path(folder) / word).is_file():
            found.append(str(Path(folder) / word))
        else:
            for name, value in places.items():
                word = word.replace("{" + name + "}", value)
            found.append(word)
    return found


def _tell_on(command: Sequence[str], work: Path, env: Mapping[str, str]) -> str:
    """Run it, pass on what it prints, and give the last line that is not empty.

    Raises:
        RuntimeError: it ended with an exit code other than 0.
    """
    lines: deque[bytes] = deque(maxlen=1)
    with subprocess.Popen(command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while line := process.stdout.readline(MOST_LINE):
            if line.strip():
                lines.append(line)
            sys.stdout.write(line.decode("utf-8", "replace"))
    sys.stdout.flush()
    if process.returncode != 0:
        raise RuntimeError(f"the command ended with exit code {process.returncode}")
    return lines[0].decode("utf-8", "replace") if lines else ""


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RuntimeError(f"{where} is no JSON object of metrics: {text.strip()[:120]!r}")
    return found
