"""What ends a run: what was asked for on starting it, the charter's budget, the goal."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from upwright.past import Past
from upwright.warden.charter import Charter


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a run; ``None`` means no limit. All of them count from its start."""

    generations: int | None = None
    rounds: int | None = None
    minutes: float | None = None


class Ends:
    """The limits of one run and those of the project's charter.

    Args:
        goal: confirmed score of the champion at which to end, in (0, 1]; at 1 it is not looked at.
        confirmed: tells the champion's confirmed score, if there is one.
    """

    def __init__(
        self, limits: Limits, charter: Charter, past: Past, goal: float, confirmed: Callable[[], float | None]
    ) -> None:
        self._limits, self._budget, self._past = limits, charter.budget, past
        self._goal, self._confirmed = goal, confirmed
        given = [limits.minutes]
        if self._budget.minutes is not None:
            given.append(max(0.0, self._budget.minutes - past.spent["seconds"] / 60))
        minutes = min((m for m in given if m is not None), default=None)
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def left(self) -> float | None:
        """Seconds left, or ``None`` without a limit on time."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def why(self, rounds: int, promoted: int, generation: int) -> str:
        """Why the run is over, or an empty string.

        Args:
            rounds, promoted: candidates tried and let in since the run started.
            generation: promotions over all runs.
        """
        budget, limits, spent = self._budget, self._limits, self._past.spent
        if limits.generations is not None and promoted >= limits.generations:
            return f"{promoted} generations, as asked"
        if limits.rounds is not None and rounds >= limits.rounds:
            return f"{rounds} candidates, as asked"
        if self.left() == 0.0:
            return "the time is spent"
        if budget.generations is not None and generation >= budget.generations:
            return f"the charter's {budget.generations} generations are reached"
        if budget.tokens is not None and spent["tokens"] >= budget.tokens:
            return "the charter's tokens are spent"
        if budget.money is not None and spent["money"] >= budget.money:
            return "the charter's money is spent"
        if self._goal < 1.0 and (self._confirmed() or 0.0) >= self._goal:
            return f"the goal of {100 * self._goal:.0f} % is reached"
        return ""
