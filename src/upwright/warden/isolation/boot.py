"""Makes ``upwright.warden.isolation`` importable inside a cell, where nothing else of the project is; then starts the zygote.

The three packages are empty shells around this folder, so that a cell loads neither the project's code nor this package's owner's side.
"""

import os
import sys
import types


def shells(here: str) -> None:
    """Register the three packages, unless a real one is loaded."""
    if "upwright" in sys.modules:
        return
    for name, path in (("upwright", []), ("upwright.warden", []), ("upwright.warden.isolation", [here])):
        module = types.ModuleType(name)
        module.__path__ = path
        sys.modules[name] = module


shells(os.path.dirname(os.path.abspath(__file__)))

if __name__ == "__main__":
    from upwright.warden.isolation.zygote import main

    main(sys.argv[1])
