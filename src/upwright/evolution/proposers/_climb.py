"""A local search over a vector of floats, as it is put into programs: numpy and the standard library alone.

``climb`` is a quasi-Newton method for functions with kinks (BFGS with a weak Wolfe search, Lewis & Overton 2013) with forward
differences; where every difference is zero it takes random steps (a (1+1)-ES with the one-fifth rule, Rechenberg 1973). When it is
settled at a local maximum it is kicked from there and climbs again, and stays with the better one (basin hopping, Wales & Doye
1997). The text of this file between the two lines of ``#`` is what is put into programs.
"""

# mypy: ignore-errors
# The text is executed inside programs, bare of annotations; tests run it.

import math
import time

import numpy as np

##########

PATIENCE = 3.0
"""Seconds by the clock for each second of the processor."""
PAUSE = 1.25
"""How much later than the one before each word of the climb comes: one that is cut short has lost a fifth of its time at most."""


class Out(Exception):
    """Time or evaluations are spent."""


class Counted:
    """A function to maximise, with its best point so far; whatever is no finite number is the worst value.

    ``tell`` hears of best point, value, evaluations and whether that is a local maximum, ever less often.
    """

    def __init__(self, function, point, evaluations, seconds, tell=None):
        self.function, self.left, self.tell, self.settled = function, evaluations, tell, False
        self.since, self.pause = time.monotonic(), 0.5
        self.until, self.latest = time.process_time() + seconds, time.monotonic() + PATIENCE * seconds
        self.point, self.value, self.used = np.array(point, float), -math.inf, 0

    def __call__(self, point):
        if self.used and (self.used >= self.left or time.process_time() > self.until or time.monotonic() > self.latest):
            raise Out
        self.used += 1
        try:
            value = float(self.function(point))
        except Exception:
            value = -math.inf
        if not math.isfinite(value):
            value = -math.inf
        if value > self.value:
            self.point, self.value = np.array(point, float), value
        if self.tell and time.monotonic() - self.since > self.pause:
            self.pause *= PAUSE
            self.tell(self.point, self.value, self.used, self.settled)
        return value


def slope(function, point, value, steps):
    """Forward differences per unit of each coordinate's step; 0 where there is no finite one."""
    found = np.zeros(len(point))
    for k in range(len(point)):
        moved = point.copy()
        moved[k] += 1e-6 * steps[k]
        found[k] = (function(moved) - value) / 1e-6
    return np.where(np.isfinite(found), found, 0.0)


def ascend(function, point, steps, rng):
    """Climb from a point to a local maximum; returns it and its value.

    In units of ``steps``: ``inverse`` is the estimated inverse Hessian of the negated function.
    """
    point = np.array(point, float)
    value = function(point)
    up = slope(function, point, value, steps)
    if not np.any(up):
        return wander(function, point, value, steps, rng)
    inverse = np.eye(len(point)) * 0.1 / np.linalg.norm(up)
    idle = 0
    while idle < 12:
        way = inverse @ up
        rise = float(way @ up)
        if not rise > 0:
            inverse = np.eye(len(point)) * 1e-3 / np.linalg.norm(up)
            way, rise = inverse @ up, float(up @ inverse @ up)
        low, high, length, found = 0.0, math.inf, 1.0, None
        for _ in range(25):
            place = point + length * way * steps
            there = function(place)
            if not there >= value + 1e-4 * length * rise:
                high = length
            else:
                slant = slope(function, place, there, steps)
                if found is None or there > found[1]:
                    found = place, there, slant, length
                if not slant @ way > 0.5 * rise:
                    break
                low = length
            length = (low + high) / 2 if high < math.inf else 2 * low
        if found is None:
            idle += 4
            inverse = np.eye(len(point)) * 0.1 * np.trace(inverse) / len(point)
            continue
        place, there, slant, length = found
        moved, bent = length * way, up - slant
        curve = float(moved @ bent)
        if curve > 1e-14:
            turned = inverse @ bent
            inverse += (1 + bent @ turned / curve) * np.outer(moved, moved) / curve
            inverse -= (np.outer(moved, turned) + np.outer(turned, moved)) / curve
        idle = idle + 1 if there - value <= 1e-7 * max(abs(value), 1e-3) else 0
        point, value, up = place, there, slant
    return point, value


def wander(function, point, value, steps, rng):
    """Random steps, wider after a success and narrower after a failure, until they are tiny."""
    size = 0.3
    while size > 1e-6:
        some = rng.random(len(point)) < max(0.2, 3 / len(point))
        place = point + size * steps * rng.standard_normal(len(point)) * some
        there = function(place)
        if there >= value:
            size *= 1.5 if there > value else 0.97
            point, value = place, there
        else:
            size *= 0.97
    return point, value


def kick(point, steps, rows, rng):
    """Another point: every coordinate moved by some share of its step, or some rows of an array put where another row might be."""
    place = point.copy()
    if rng.random() < 0.8:
        return place + 10 ** rng.uniform(-1.3, -0.3) * steps * rng.standard_normal(len(point))
    for _ in range(rng.integers(1, 4)):
        start, width, count = rows[rng.integers(len(rows))]
        block = point[start : start + width * count].reshape(count, width)
        row = start + width * rng.integers(count)
        place[row : row + width] = rng.uniform(block.min(axis=0), block.max(axis=0))
    return place + 1e-3 * steps * rng.standard_normal(len(point))


def climb(counted, steps, rows, settled, seed):
    """Maximise until time or evaluations are spent; returns point, value, evaluations and whether the point is settled.

    ``steps`` is a step of each coordinate that is neither small nor large; ``rows`` describes the arrays in the vector as (start,
    width, count); ``settled`` says that the point is a local maximum already.
    """
    rng = np.random.default_rng(seed)
    point = counted.point
    steps = np.array(steps, float)
    try:
        counted.settled = settled
        counted(point)
        if not settled:
            ascend(counted, point + 1e-3 * steps * rng.standard_normal(len(point)), steps, rng)  # off the kinks
            counted.settled = True
        while True:
            ascend(counted, kick(counted.point, steps, rows, rng), steps, rng)
    except Out:
        pass
    return counted.point, counted.value, counted.used, counted.settled


##########
