"""The command line: thin; it parses, calls the API and shows.

One file for each small group of commands. Nothing heavy is imported before a command needs it, so
that ``upwright --help`` answers at once.
"""

from __future__ import annotations

from upwright.cli.app import app, main

__all__ = ["app", "main"]
