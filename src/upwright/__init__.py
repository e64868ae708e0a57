"""Upwright: AI that rebuilds itself, and proves that it got better.

Everything public is here; nothing heavy is imported before it is used.

==============================================  ==============================================================
:func:`improve`                                 evaluate, diagnose, propose, build, prove, promote, again and again
:func:`evaluate`, :func:`diagnose`              (1), (2) alone: how good, and bad at what
:class:`Lever`                                  (3), (4): ``propose`` and ``build``; write one of your own
:func:`prove`, :func:`promote`                  (5), (6) alone, for a child of your own making
:class:`Body`, :class:`Suite`                   what is improved, and on what
:class:`Charter`, :class:`Project`              what a person decides, and where all of it lives
:class:`Lineage`, :class:`Event`                what became of it, and what it is doing now
:class:`UpwrightError`                          the base of every deliberate error
==============================================  ==============================================================
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upwright.api import evaluate, improve, promote, prove
    from upwright.bodies.body import Body
    from upwright.diagnose import diagnose
    from upwright.errors import UpwrightError
    from upwright.events import Event
    from upwright.levers.base import Lever
    from upwright.lineage import Lineage
    from upwright.project import Project
    from upwright.tasks.suite import Suite
    from upwright.warden.charter import Charter

__all__ = [
    "Body",
    "Charter",
    "Event",
    "Lever",
    "Lineage",
    "Project",
    "Suite",
    "UpwrightError",
    "diagnose",
    "evaluate",
    "improve",
    "promote",
    "prove",
]

_WHERE = {
    "Body": "bodies.body",
    "Charter": "warden.charter",
    "Event": "events",
    "Lever": "levers.base",
    "Lineage": "lineage",
    "Project": "project",
    "Suite": "tasks.suite",
    "UpwrightError": "errors",
    "diagnose": "diagnose",
    "evaluate": "api",
    "improve": "api",
    "promote": "api",
    "prove": "api",
}


class _Package(ModuleType):
    """A package in which ``upwright.evaluate`` is the function, although a module of that name exists, too.

    Python sets a submodule as an attribute of its package when it is first imported; for the verbs it does not here. The
    modules are imported by their full names: ``from upwright.evaluate import …``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module 'upwright' has no attribute {name!r}")
        value = getattr(import_module(f"upwright.{_WHERE[name]}"), name)
        super().__setattr__(name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
