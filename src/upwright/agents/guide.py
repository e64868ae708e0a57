"""What an agent is told at the start: the instructions file of a project, and how a client is set up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from upwright.errors import ProjectError
from upwright.project import Project, write_atomic

FILE = "AGENTS.md"
"""The file that coding agents read before they work in a directory."""

SHORT = """\
You improve a body (a language model's texts, or a program) by proposing small changes to its text parts. A gate that you cannot \
influence tests every change on tasks that nobody has seen, and promotes what is proven better.
1. read_scope and read_parent: what may change, and what it says now.
2. read_diagnosis and read_failures: where it fails on practice tasks, and what was tried before.
3. propose_change: one change, aimed at one weakness, with its reason. Then read the verdict, and go on from the champion as it is then.
Answers to single practice tasks do not help: the test draws other ones. A proposal that is no better costs budget.
"""

_HEAD = "# Instructions for agents\n\nThis is an Upwright project"
_GUIDE = """\
# Instructions for agents

This is an Upwright project: `{name}`. It improves the body in `body/` (first version) and `champion/` (the best proven so far) at the
suite `{objective}`, generation after generation. You may propose changes; a gate decides.

## Commands

| command | what it does |
|---|---|
| `upwright ask` | the champion's parts, where it fails and how, what may change, what was tried; `--full` adds the texts, `--json` is for programs |
| `upwright tell FILE --reason "…" --author NAME` | proposes a change and says what became of it; `-` reads standard input |
| `upwright status`, `upwright log --all` | where the project stands; every candidate and its fate |

`FILE` holds SEARCH/REPLACE blocks, each under a line with the part's path, or a unified diff, or it is one whole part under its own name
(`prompt.md`). `--part prompt.md=new.md` gives whole files under any name; a directory laid out as a body gives all that is in it.

```
prompt.md
<<<<<<< SEARCH
Answer the question.
=======
Answer the question with the value alone.
>>>>>>> REPLACE
```

Exit codes of `upwright tell`: 0 promoted; 10 not promoted; 11 proven, and waits for a person; 2 or 5 refused before anything was run
(the reasons are told: mend and tell again); 7 the warden hears nothing now.

The same is served as tools: `upwright mcp` (Model Context Protocol on standard input and output).

## Rules

1. One change for one weakness, with its reason: both go on the ledger under your name.
2. What may change: {scope}. Anything else is refused.
3. {decides}
4. Judge by `upwright ask` and the verdict. Do not write answers of practice tasks into the body: the test draws tasks that nobody has seen,
   so such a change fails it and costs budget.
5. Leave `.upwright/`, `charter.toml`, `upwright.toml` and `tasks/` alone. They are the people's: sealed tasks and keys are under
   `.upwright/warden/`, and reading them makes every later result worthless. `upwright approve`, `refuse`, `rollback`, `amend`, `stop` and
   `resume` are commands for people.
6. Every round costs budget: think first, and tell what you believe in. An earlier proposal told again brings the earlier verdict.
"""


def guide(project: Project) -> str:
    """The text of AGENTS.md for a project.

    Raises:
        CharterError: charter.toml is malformed.
    """
    from upwright.agents.outlook import terms_of
    from upwright.founding import translated

    with translated():
        terms = terms_of(project)
    decides = (
        "A person agrees to every promotion; you cannot." if terms.approval else "The gate alone promotes; you cannot."
    )
    scope = ", ".join(f"`{path}`" for path in terms.may_change) or "nothing that is text"
    return _GUIDE.format(name=project.root.name, objective=terms.objective, scope=scope, decides=decides)


def write_guide(project: Project) -> Path:
    """Write AGENTS.md into the project, over one that is there only if it is ours; where it is.

    Raises:
        ProjectError: another AGENTS.md is there; StorageError: the disk is full or read-only.
    """
    path, text = project.root / FILE, guide(project)
    if path.exists() and _HEAD not in path.read_text("utf-8", errors="replace"):
        raise ProjectError(
            "the project has an AGENTS.md of its own", value=str(path), todo="move it away, or add to it by hand"
        )
    write_atomic(path, text.encode())
    return path


def client_config(project: Project) -> dict[str, Any]:
    """What goes into the JSON by which common clients of the Model Context Protocol start the server of a project."""
    beside = Path(sys.executable).with_name("upwright")
    command = str(beside) if beside.exists() else "upwright"
    start = {"command": command, "args": ["--project", str(project.root), "mcp"]}
    return {"mcpServers": {"upwright": start}}
