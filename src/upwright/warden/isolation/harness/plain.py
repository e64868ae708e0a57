"""The plainest harness: import a file of the evaluator's folder, call one function with the program's path."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any


def load(path: str, name: str = "") -> ModuleType:
    """Import a file under a name (its own, unless told), with its folder first on the path of imports."""
    name = name or os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(path))
    spec.loader.exec_module(module)
    return module


def run(job: dict[str, Any], program_path: str, workdir: str) -> Any:
    """``job["entry"]`` names the file, ``job["function"]`` the function."""
    module = load(os.path.join(job["folder"], job["entry"]))
    return getattr(module, job["function"])(program_path)
