"""The command line's fixture, for tests of experiments that go through it."""

from cli.conftest import cli

__all__ = ["cli"]
