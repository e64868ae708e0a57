from __future__ import annotations

from collections.abc import Callable

import pytest

from upwright.errors import BuildError
from upwright.evolution.proposers import Kit, available, instances
from upwright.evolution.proposers._trace import Printed
from upwright.evolution.proposers.base import Brief, Proposer

KIT = Kit(lambda program, seconds: Printed(""), ("http://127.0.0.1:9/v1#m",))


def test_a_language_model_is_asked_only_where_there_is_one() -> None:
    assert "llm" not in available()
    assert "llm" in available(KIT.endpoints)


@pytest.mark.parametrize("name", available(KIT.endpoints))
def test_every_proposer_that_can_be_had_keeps_the_contract(name: str, brief: Callable[..., Brief]) -> None:
    if name == "llm":
        pytest.importorskip("httpx")
    (made,) = instances([name], KIT)
    assert isinstance(made, Proposer)
    assert made.name == name
    assert made.cost > 0
    text = "def run():\n    total = 0.5\n    for k in range(3):\n        total = total + 1.5 * k\n    return total\n"
    unscored = brief(text, score=None)
    if name != "recombine":
        assert list(made.propose(unscored)) == []
    if name == "llm":
        return
    asked = brief(text, text.replace("1.5", "2.5").replace("3", "4"), n=3)
    drafts = list(made.propose(asked))
    assert len(drafts) <= 3
    assert all(draft.proposer == name and draft.program != asked.parent.program for draft in drafts)


def test_a_name_that_nobody_has_is_refused() -> None:
    with pytest.raises(BuildError, match="no such proposer"):
        instances(["luck"], KIT)
