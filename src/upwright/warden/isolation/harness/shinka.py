"""ShinkaEvolve's evaluators: ``main(program_path, results_dir)`` leaves ``metrics.json`` and ``correct.json`` in the folder.

A file without a callable ``main`` of two arguments is run as the script that it is, with ``--program_path`` and ``--results_dir``. A program that
``correct.json`` calls wrong has no score. Numbers under ``public`` and ``private`` are metrics ``public.NAME`` and ``private.NAME``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .loading import load, prepare
from .results import result


def run(job: Mapping[str, Any], program_path: str, workdir: str) -> dict[str, Any]:
    """Evaluate. ``job``: ``{"entry"}``."""
    folder, entry = str(job["folder"]), str(job["entry"])
    results = Path(workdir) / "results"
    results.mkdir()
    module = load(folder, entry, "evaluate")
    _seed(int(job["seed"]))
    main = getattr(module, "main", None)
    if callable(main) and _takes_two(main):
        main(program_path, str(results))
    else:
        _script(os.path.join(folder, entry), program_path, str(results), folder)
    correct, metrics = _read(results / "correct.json"), _read(results / "metrics.json")
    error = correct.get("error")
    if correct.get("correct") is not True:
        return result(metrics, error=str(error or "the evaluator says that the result is not correct"))
    return result(metrics)


def _seed(seed: int) -> None:
    """Tell the shim of ``shinka.core`` the run's seed, if the evaluator has loaded it."""
    shim = sys.modules.get("shinka.core.wrap_eval")
    if shim is not None and hasattr(shim, "FIRST_SEED"):
        vars(shim)["FIRST_SEED"] = 1 + seed % 2**31


def _takes_two(main: Any) -> bool:
    import inspect

    try:
        inspect.signature(main).bind("program", "results")
    except (TypeError, ValueError):
        return False
    return True


def _script(entry: str, path: str, results: str, folder: str) -> None:
    import runpy

    prepare(folder)
    before, sys.argv = sys.argv, [entry, "--program_path", path, "--results_dir", results]
    try:
        runpy.run_path(entry, run_name="__main__")
    except SystemExit as e:
        if e.code not in (None, 0):
            raise RuntimeError(f"the evaluator ended with exit code {e.code}") from e
    finally:
        sys.argv = before


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as e:
        raise RuntimeError(f"the evaluator left no {path.name}") from e
    except ValueError as e:
        raise RuntimeError(f"{path.name} is not JSON: {e}") from e
    if not isinstance(data, dict):
        raise RuntimeError(f"{path.name} is no object")
    return data
