"""Writes ``docs/cli.md`` from the commands themselves: ``python -m upwright.cli.reference > docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from upwright.cli.app import EPILOG, app


def commands() -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Every command as ``(name with its group, command)``, in the order of ``--help``."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    yield from _below(root, "upwright")


def _below(group: TyperGroup, prefix: str) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield f"{prefix} {name}", command
            yield from _below(command, f"{prefix} {name}")
        elif isinstance(command, TyperCommand):
            yield f"{prefix} {name}", command


def reference() -> str:
    """The text of ``docs/cli.md``."""
    parts = [
        "# Command line\n",
        "Made by `python -m upwright.cli.reference > docs/cli.md`; do not edit by hand.\n",
        "`upwright --project DIR COMMAND` works on the project in `DIR`; otherwise on the one in the current directory "
        "or the nearest parent. `upwright --install-completion` completes commands in your shell.\n",
        f"{EPILOG.strip()}\n",
        "`--json` prints one JSON object with `schema` (its version) and `command`; keys are added within a version, never "
        "renamed or removed. `upwright run --json` prints a line for each event before it.\n",
    ]
    for name, command in commands():
        parts.append(_section(name, command))
    return "\n".join(parts)


def _section(name: str, command: TyperCommand | TyperGroup) -> str:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    options = [p for p in command.params if not isinstance(p, TyperArgument) and "--help" not in p.opts]
    usage = " ".join([name, *(p.metavar or str(p.name).upper() for p in arguments), "[OPTIONS]"])
    lines = [f"## {name}\n", f"```\n{usage}\n```\n", f"{(command.help or '').strip()}\n"]
    lines += [f"- `{p.metavar or str(p.name).upper()}`: {p.help or ''}" for p in arguments]
    for option in options:
        value = option.metavar or ""
        told = f"`{', '.join(option.opts)}{' ' + value if value else ''}`"
        lines.append(f"- {told}: {getattr(option, 'help', '') or ''}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
