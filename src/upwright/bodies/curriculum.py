"""``curriculum.toml``: how a body teaches itself harder problems than it has labels for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Curriculum:
    """``curriculum.toml``: rounds of labelling the next harder problems and training on them (the ``curriculum`` lever).

    A body that has none does not learn in this way.

    Attributes:
        labelled: labelled problems that are drawn, before the first round, of the difficulties that have labels from outside.
        harder: exponent by which harder ones of them count more: of difficulty d, a share in proportion to d to this power is kept.
        first_steps: training steps on them.
        rounds: most rounds of one build.
        stride: most difficulties that one round adds.
        problems: problems that one round labels, over all difficulties that it adds.
        steps: training steps of one round.
        rate: learning rate of a round, as a share of the recipe's.
        newest: share of the rows of a round that are its own new labels; the others are of all rounds before, and from outside.
        voters: networks that are trained side by side and vote; the first one is the child.
        samples: answers of each voter to one problem; 1 is its likeliest answer.
        temperature: of the samples, where there are several.
        look: problems by which agreement on a difficulty is judged.
        reach: mean vote share, in (0, 1], that a difficulty needs before it is added.
        toehold: mean vote share, in (0, 1], from which the agreed answers of the next difficulty are trained on although it is not yet
            added; those rounds go on for as long as agreement there rises. 1 is never.
        share: vote share, in (0, 1], that a label needs.
        probe: labelled problems that are never trained on; the gold probe.
        anchors: agreed answers of each round that are never trained on, and should stay what they were.
        patience: rounds in a row that may add nothing and only train on what there is, before a build ends.
    """

    labelled: int = 6000
    harder: float = 0.0
    first_steps: int = 1500
    rounds: int = 8
    stride: int = 3
    problems: int = 1500
    steps: int = 100
    rate: float = 0.5
    newest: float = 0.5
    voters: int = 1
    samples: int = 4
    temperature: float = 1.0
    look: int = 64
    reach: float = 0.9
    toehold: float = 1.0
    share: float = 1.0
    probe: int = 64
    anchors: int = 16
    patience: int = 1

    def __post_init__(self) -> None:
        for name in (
            "labelled",
            "rounds",
            "stride",
            "problems",
            "steps",
            "voters",
            "samples",
            "look",
            "probe",
            "anchors",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1 (got {getattr(self, name)!r})")
        for name in ("harder", "first_steps", "patience", "temperature"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0 (got {getattr(self, name)!r})")
        for name in ("reach", "toehold", "share", "rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is more than 0 and at most 1 (got {getattr(self, name)!r})")
        if not 0 < self.newest < 1:
            raise ValueError(f"newest is a share of the rows, more than 0 and less than 1 (got {self.newest!r})")
        if self.voters * self.samples < 2 or (self.samples > 1 and not self.temperature):
            raise ValueError(
                "one answer alone agrees with itself: set voters or samples to 2 or more, and a temperature"
            )
