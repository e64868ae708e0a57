"""Foreign code in isolation: evaluator and candidate in separate cells, warm, limited, killed on time."""

from upwright.warden.isolation.errors import IsolationError
from upwright.warden.isolation.pool import Pool
from upwright.warden.isolation.records import Ending, Limits, Ran
from upwright.warden.isolation.walls import Wall, strongest_wall

__all__ = ["Ending", "IsolationError", "Limits", "Pool", "Ran", "Wall", "strongest_wall"]
