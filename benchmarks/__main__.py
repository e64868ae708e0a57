"""Run every benchmark, one after the other, and keep what they measured in ``bench-out/results.json``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

NAMES = {
    "gate": "main", "overhead": "main", "throughput": "measure", "training": "measure", "isolation": "measure", "noise": "measure",
    "programs": "measure", "search": "measure", "comparison": "measure",
}  # fmt: skip
"""Module → the function that measures, prints progress and returns its figures."""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import psutil
    import torch
    import transformers

    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = lines[0] if lines else ""
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory GiB": round(psutil.virtual_memory().total / 2**30, 1),
        "load before": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> int:
    """Run the named benchmarks (all by default); 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), help=f"which: {', '.join(NAMES)}")
    wanted = parser.parse_args().names
    out = Path("bench-out")
    out.mkdir(exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}
    failed = 0
    for name in wanted:
        print(f"\n== {name} ==", flush=True)
        try:
            results[name] = getattr(importlib.import_module(f"benchmarks.{name}"), NAMES[name])()
        except Exception as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            results[name], failed = {"failed": str(error)}, 1
        (out / "results.json").write_text(json.dumps(results, indent=2, default=str) + "\n")
    print(f"\nkept in {out / 'results.json'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
