"""Easy to hard, by its own labels: a body learns ever harder problems than anybody gave it answers for.

Problems of any difficulty can be made, answers come from outside only up to some difficulty. First the network is trained on
those. Then, round after round: problems a little harder than what it has learned are answered by several networks, or several times;
difficulties on which the answers agree are taken up; answers of the length that they should have, that all or nearly all agree on,
become labels; and all data so far are trained on, with the new ones as their share of the rows. Nothing is replaced by anything later.

How far a round goes is decided by agreement alone. Gold answers beyond the labelled difficulties are out of reach: the practice
that a lever sees holds none (:class:`upwright.practice.Remainder`). What is measured there, the gate measures.

A round after which labels have gone bad (:mod:`upwright.levers._avalanche`) is undone, and the build ends with what it had before.

Source: Lee et al. 2025, "Self-Improving Transformers Overcome Easy-to-Hard and Length Generalization Challenges" (arXiv
2502.01612). Departures: how many difficulties a round adds is found by agreement and not set beforehand, nor taken from
accuracy; see also :mod:`upwright.levers._selflabels`. Networks that began apart err apart, so what they agree on is more often right; they are
kept beside the body's own (``model/voters/``), and the next build goes on with them. A body whose file asks for more of them than it has
gets copies of its own, whose votes are less independent.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from upwright.bodies.body import Body, Training
from upwright.bodies.curriculum import Curriculum
from upwright.bodies.network import create
from upwright.errors import BuildError
from upwright.levers._labels import DOUBT, doubted, weakest
from upwright.levers._rounds import Rounds, School, read_rounds, render_rounds, told
from upwright.levers._search import fruitless, proposed, read_settings
from upwright.levers._selflabels import Lengths
from upwright.levers.base import Built, Situation, Workshop
from upwright.levers.rejection import FULL_DATA, REAL, Datum, parse_data, read_data, render_data
from upwright.records import Cost, Proposal, Rung, Task, derive_seed
from upwright.tasks.scorers import gold

ROUNDS, ANCHORS = "model/rounds.jsonl", "model/anchors.jsonl"
VOTERS = "model/voters"
BESIDE = frozenset({FULL_DATA, ROUNDS, ANCHORS, "model/origin.toml"})
"""Files of ``model/`` that are no part of the network."""
ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class CurriculumSettings:
    """Settings of a ``curriculum`` proposal: ``curriculum.toml`` and ``training.toml`` in full."""

    plan: Curriculum
    recipe: Training


class CurriculumLever:
    """The ``curriculum`` lever."""

    name = "curriculum"
    parts: tuple[str, ...] = ("model/",)
    needs_weights = True
    seconds = 900.0
    rung = Rung.CONSENSUS

    def propose(self, situation: Situation) -> Proposal | None:
        """What ``curriculum.toml`` says; after an attempt that failed twice the training per round, and half the stride; then ``None``.

        ``None`` too for a body without the file, or with an adapter on its weights.
        """
        body, weakness = situation.body, weakest(situation)
        step = len(fruitless(situation, self.name))
        able = body.has("curriculum.toml") and not body.has("model/adapter/adapter_config.json")
        if weakness is None or not able or step >= ATTEMPTS or doubted(situation, self.name):
            return None
        own = body.curriculum
        plan = replace(
            own, rounds=max(1, round(own.rounds * situation.effort)), steps=own.steps * 2**step,
            stride=max(1, own.stride // 2**step),
        )  # fmt: skip
        settings = CurriculumSettings(plan, body.training)
        reason = (
            f"label harder problems by a vote of {plan.voters * plan.samples} answers, where at least {plan.reach:.0%} agree, and train "
            f"on them; up to {plan.rounds} rounds of up to {plan.stride} difficulties"
        )
        return proposed(self.name, situation, msgspec.to_builtins(settings), weakness, reason)

    def build(self, parent: Body, proposal: Proposal, workshop: Workshop) -> Built:
        """Learn what has labels, then go on by rounds.

        Raises:
            BuildError: the practice has no difficulty axis or no last label, there is no network and no shape for one, or
                nothing was learned that was not known before.
        """
        settings = read_settings(proposal, CurriculumSettings)
        axis, plan = workshop.practice.axis, settings.plan
        if axis is None or axis.labelled is None:
            raise BuildError(
                "the curriculum needs problems of every difficulty, and labels that end somewhere",
                value=workshop.practice.name,
                todo="define problem(seed, difficulty) and LABELLED in the task file",
            )
        rounds = Rounds(parent, proposal.parent, plan, settings.recipe, proposal.seed, workshop)
        school, fresh = self._begin(parent, proposal, rounds, axis.labelled)
        before = len(school.rounds)
        why = rounds.go(school)
        made = school.rounds[before:]
        kept = [r for r in made if not r.undone]
        if not kept and not fresh:
            doubt = f"{DOUBT}: " if made and made[-1].undone else ""
            raise BuildError(f"{doubt}no round was kept: {why}", value=told(made)[-1:], todo="train longer per round")
        model = school.voters[0]
        changes: dict[str, Any] = {f"model/{p.name}": p for p in sorted(model.iterdir()) if p.is_file()}
        changes |= {
            FULL_DATA: render_data(school.data),
            ROUNDS: render_rounds(school.rounds),
            ANCHORS: render_data(school.anchors),
        }
        for number, voter in enumerate(school.voters[1:], 1):
            changes |= {f"{VOTERS}/{number}/{p.name}": p for p in sorted(voter.iterdir()) if p.is_file()}
        note = {
            "ended": why,
            "hardest labelled": axis.labelled,
            "hardest learned, by its own agreement": school.top,
            "rounds": told(made),
            "training examples": dict(Counter(d.rung for d in school.data)),
            "tokens trained on": school.tokens,
        }
        return Built(changes, Rung.CONSENSUS, note, Cost(tokens=school.tokens))

    def _begin(self, parent: Body, proposal: Proposal, rounds: Rounds, labelled: int) -> tuple[School, bool]:
        """Where the rounds start: the parent as it is, if it has learned so before; else networks trained on labels from outside.

        True with it where that training was done now.
        """
        plan, seed, workshop = rounds.plan, proposal.seed, rounds.workshop
        earlier = read_rounds(parent.root / ROUNDS)
        data, anchors = read_data(parent), _anchors(parent)
        learned = (parent.root / ROUNDS).exists()
        known = {datum.input for datum in data if datum.by == REAL}
        more = (labelled**plan.harder) * labelled / sum(d**plan.harder for d in range(1, labelled + 1))
        wanted = 2 * plan.probe if learned else plan.probe + round(more * plan.labelled) + len(known)
        drawn = workshop.practice.draw(wanted, derive_seed(seed, "gold"))
        tasks = [task for task in drawn if task.input not in known]
        rounds.probe, rest = tasks[: plan.probe], _harder(tasks[plan.probe :], plan.harder, labelled, seed)
        rest = rest[: plan.labelled]
        if len(rounds.probe) < 8 or (not learned and len(rest) < 8):
            raise BuildError(
                "too few labelled problems", value=len(tasks), todo="make more of the labelled difficulties"
            )
        rounds.skill = rounds.probe[0].skill
        rounds.lengths = Lengths.of((task.difficulty, gold(task)) for task in drawn)
        if learned:
            top = max((r.last for r in earlier if not r.undone), default=0) or labelled
            own = _bare(parent.root / "model", workshop.scratch)
            others = [parent.root / VOTERS / str(number) for number in range(1, plan.voters)]
            voters = [own, *(other if other.is_dir() else own for other in others)]
            return School(voters, top, data, anchors, earlier), False
        voters = self._networks(parent, plan.voters, seed, workshop)
        school = School(voters, labelled, data, anchors, [])
        golds = [_gold(task) for task in rest]
        if plan.first_steps:
            trained = rounds.train(school, workshop.scratch / "first", plan.first_steps, golds, 1.0)
            school.voters = [t.model for t in trained]
            school.tokens = sum(t.tokens for t in trained)
        school.data = [*data, *golds]
        return school, bool(plan.first_steps)

    def _networks(self, parent: Body, voters: int, seed: int, workshop: Workshop) -> list[Path]:
        """The parent's network, and others of its shape that begin elsewhere; without a shape, the parent's again."""
        shape, found = parent.architecture, []
        for number in range(voters):
            if number == 0 and parent.has("model/config.json"):
                found.append(_bare(parent.root / "model", workshop.scratch))
            elif shape is not None:
                folder = workshop.scratch / f"network-{number}"
                if not (folder / "config.json").exists():
                    partial = folder.with_suffix(".tmp")
                    shutil.rmtree(partial, ignore_errors=True)
                    create(shape, partial, derive_seed(seed, "network", number)).rename(folder)
                found.append(folder)
            elif found:
                found.append(found[0])
            else:
                raise BuildError(
                    "this body has no network, and no architecture.toml to make one by", value=str(parent.root)
                )
        return found


def _harder(tasks: Sequence[Task], power: float, top: int, seed: int) -> list[Task]:
    """Of each difficulty a share in proportion to its power, all of the hardest."""
    rng = random.Random(derive_seed(seed, "harder"))
    return [task for task in tasks if rng.random() < (task.difficulty / top) ** power]


def _bare(model: Path, scratch: Path) -> Path:
    """A model directory without what lies beside the network: links to its files."""
    folder = scratch / "parent"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(model.iterdir()):
        link = folder / path.name
        if path.is_file() and f"model/{path.name}" not in BESIDE and not link.exists():
            link.symlink_to(path.resolve())
    return folder


def _gold(task: Task) -> Datum:
    kind = str(task.scorer.get("kind", "exact"))
    return Datum(
        task.input, gold(task), task.skill, REAL, f"{kind}, difficulty {task.difficulty}", Rung.EXECUTION.value, 1.0
    )


def _anchors(body: Body) -> list[Datum]:
    path = body.root / ANCHORS
    return parse_data(path.read_bytes()) if path.exists() else []


def levels(data: Sequence[Datum]) -> dict[int, int]:
    """How many examples there are of each difficulty, as their checks tell."""
    counts = Counter(int(d.check.rpartition("difficulty ")[2]) for d in data if "difficulty " in d.check)
    return dict(sorted(counts.items()))
