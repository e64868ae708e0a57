"""Lays the files that may change over those that may not, in a fresh folder, and runs a command there.

    python lay.py PATH … -- WORD …

It runs in the cell, in a copy of the program's folder, and stands alone. Whatever a program brings besides these paths stays outside, and
none of them can be a file of the repository that may not change. A last line that is a bare number becomes ``{"score": number}``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = "repository"
"""Folder beside this file with what may not change."""


def main(arguments: Sequence[str]) -> int:
    """Run it; the command's exit code."""
    cut = list(arguments).index("--")
    paths, words = arguments[:cut], arguments[cut + 1 :]
    program = Path.cwd()
    whole = program.parent / "whole"
    shutil.copytree(Path(__file__).resolve().parent / REPOSITORY, whole)
    for path in paths:
        source, target = program / path, whole / path
        if source.is_file() and not source.is_symlink() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    python = {"python": sys.executable, "python3": sys.executable}
    ran = subprocess.run(
        [python.get(word, word) for word in words], cwd=whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    text = ran.stdout.decode("utf-8", "replace").rstrip()
    sys.stdout.write(text + "\n")
    last = text.splitlines()[-1].strip() if text else ""
    with contextlib.suppress(ValueError):
        sys.stdout.write(json.dumps({"score": float(last)}) + "\n")
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
