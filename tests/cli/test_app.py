from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import Cli
from upwright.cli.reference import commands, reference

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
HEAVY = ("torch", "transformers", "scipy", "numpy", "httpx", "cryptography", "msgspec", "rich.live")


def test_the_reference_is_up_to_date() -> None:
    assert DOCS.read_text() == reference(), "run: python -m upwright.cli.reference > docs/cli.md"


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[n for n, _ in commands()])
def test_every_command_has_help(name: str, command: object, cli: Cli) -> None:
    said = cli(*name.split()[1:], "--help")
    assert said.code == 0
    assert "Usage" in said.out
    assert len(getattr(command, "help", "") or "") > 20
    for parameter in getattr(command, "params", ()):
        assert getattr(parameter, "help", "") or parameter.name == "help", parameter.name
    assert any("--json" in p.opts for p in getattr(command, "params", ()))


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, upwright.cli; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exit_codes_are_in_the_help(cli: Cli) -> None:
    said = cli("--help")
    assert "Exit codes" in said.out
    assert cli("--version").out.startswith("upwright ")
    assert cli("nonsense").code == 2
