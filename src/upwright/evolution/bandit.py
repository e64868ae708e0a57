"""Which proposer to ask: by what its drafts gained, for what they cost.

Thompson sampling: for each proposer the share of gain in its drafts is drawn from Beta(gained, not), which begins as Beta(1, 1), divided by the
seconds that one of its drafts takes, proposing and judging together, and the highest is asked. What was long ago counts less, since what
helps at the beginning of a search is not what helps later; what was assumed at the beginning fades in the same way, or a quick proposer that
never gains would for ever look better than a slow one that does.

A gain is counted in [0, 1): ``g / (g + typical gain)``, so that one that gains a hair a thousand times does not outweigh one that
found a way. Where a search must be repeatable the seconds are the proposers' own estimates, else they are measured.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

FADE = 0.98
"""What a draft before the last still counts."""
_TYPICAL = 20
_LEAST = 1e-3
_FLOOR = 0.02
"""Least that the drafts of a proposer count for: now and then it is asked again."""


@dataclass(slots=True)
class _Arm:
    seconds: float
    gained: float = 1.0
    lost: float = 1.0


class Bandit:
    """Chooses between proposers.

    Args:
        costs: name → seconds of one draft, proposing and judging.
        measured: whether the seconds told with outcomes count.
    """

    def __init__(self, costs: Mapping[str, float], measured: bool = False) -> None:
        self._arms = {name: _Arm(max(_LEAST, cost)) for name, cost in costs.items()}
        self._measured = measured
        self._gains: deque[float] = deque(maxlen=_TYPICAL)

    def choose(self, rng: random.Random) -> str:
        """The proposer to ask next."""
        drawn = {
            name: rng.betavariate(max(_FLOOR, arm.gained), max(_FLOOR, arm.lost)) / arm.seconds
            for name, arm in sorted(self._arms.items())
        }
        return max(drawn, key=lambda name: drawn[name])

    def learn(self, name: str, gain: float, seconds: float = 0.0) -> None:
        """Hear of a draft: what its score is above that of the best before it (or of its parent), at least 0, and its seconds."""
        if name not in self._arms:  # of a proposer that an earlier run had
            return
        arm, share = self._arms[name], 0.0
        if gain > 0:
            self._gains.append(gain)
            share = gain / (gain + sum(self._gains) / len(self._gains))
        arm.gained, arm.lost = arm.gained * FADE + share, arm.lost * FADE + 1.0 - share
        if self._measured and seconds > 0:
            arm.seconds += 0.1 * (max(_LEAST, seconds) - arm.seconds)

    def dump(self) -> str:
        """What it has learned, as JSON."""
        arms = {name: [arm.seconds, arm.gained, arm.lost] for name, arm in self._arms.items()}
        return json.dumps({"arms": arms, "gains": list(self._gains)})

    def load(self, text: str | None) -> None:
        """Take up what :meth:`dump` gave; a proposer that is new begins anew."""
        data = json.loads(text or "{}")
        self._gains.extend(data.get("gains", ()))
        for name, (seconds, gained, lost) in data.get("arms", {}).items():
            if name in self._arms:
                self._arms[name] = _Arm(seconds if self._measured else self._arms[name].seconds, gained, lost)

    def rates(self) -> dict[str, float]:
        """Name → expected share of gain per second, for reports."""
        return {name: a.gained / (a.gained + a.lost) / a.seconds for name, a in sorted(self._arms.items())}
