"""What the isolation raises."""

from __future__ import annotations

from upwright.warden.errors import WardenFault


class IsolationError(WardenFault):
    """Nothing here keeps foreign code in, or a cell cannot be started. Never a score."""
