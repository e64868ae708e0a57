"""What is put around a file to watch it run, or to climb over its numbers, as text; standard library and numpy alone.

The text between the two lines of ``#`` goes into the run program, never into a draft. It prints one line for what it found.
"""

# mypy: ignore-errors
# The text is executed inside programs, bare of annotations; tests run it.

import contextlib
import copy
import json
import random
import sys
import warnings

import numpy as np

##########


@contextlib.contextmanager
def quick():
    """Let numpy's functions that are slow on short arrays take a shorter way to the same values."""
    total, norm, clip = np.sum, np.linalg.norm, np.clip
    add, minimum, maximum = np.add.reduce, np.minimum, np.maximum

    def quick_sum(a, *args, **kwargs):
        return add(a, None) if not args and not kwargs and type(a) is np.ndarray else total(a, *args, **kwargs)

    def quick_norm(x, *args, **kwargs):
        short = not args and not kwargs and type(x) is np.ndarray and x.ndim == 1 and x.dtype.kind == "f"
        return np.sqrt(x.dot(x)) if short else norm(x, *args, **kwargs)

    def quick_clip(a, *args, **kwargs):
        short = len(args) == 2 and not kwargs and type(a) is np.ndarray and None not in args
        return minimum(maximum(a, args[0]), args[1]) if short else clip(a, *args, **kwargs)

    np.sum, np.linalg.norm, np.clip = quick_sum, quick_norm, quick_clip
    try:
        yield
    finally:
        np.sum, np.linalg.norm, np.clip = total, norm, clip


class UpwrightProbe:
    """Watches arrays and the values that are returned; with ``plan`` it climbs in the first call of one function."""

    def __init__(self, mark, plan="null"):
        self.mark, self.plan, self.out = mark, (plan := json.loads(plan)), sys.stdout
        self.sites, self.calls, self.busy, self.said = {}, [], False, 0
        self.numbers = list(plan["numbers"]) if plan else []

    def see(self, site, value):
        """Remember the first value at a site, how often it was passed, and whether it was always the same."""
        seen = self.sites.get(site)
        if seen is not None and (seen["varied"] or seen["times"] > 1000):
            return
        plain = self.plain(value)
        if plain is None:
            return
        if seen is None:
            self.sites[site] = {"times": 1, "varied": False, "value": plain, "array": isinstance(value, np.ndarray)}
        else:
            seen["times"] += 1
            seen["varied"] = plain != seen["value"]

    @staticmethod
    def plain(value):
        """A list or an array of 2 to 256 finite floats as nested lists; else nothing."""
        if (
            not isinstance(value, (list, np.ndarray))
            or not 2 <= len(value if isinstance(value, list) else value.ravel()) <= 256
        ):
            return None
        try:
            array = np.asarray(value)
        except ValueError:
            return None
        if array.dtype.kind != "f" or not 2 <= array.size <= 256 or array.ndim > 3 or not np.isfinite(array).all():
            return None
        return array.tolist()

    def outer(self, name, inner, args, kwargs):
        """A call of a public function; one inside of another is not looked at."""
        if self.busy:
            return inner(*args, **kwargs)
        self.busy = True
        try:
            if self.plan and name == self.plan["entry"]:
                plan, self.plan = self.plan, None
                self.search(plan, inner, args, kwargs)
            value = inner(*args, **kwargs)
            if len(self.calls) < 16:
                self.calls.append([name, self.parts(value)])
            return value
        finally:
            self.busy = False
            if self.said < 2 and not self.numbers:
                self.said += 1
                self.say({"sites": self.short(), "calls": self.calls})

    def short(self, room=10_000):
        """The sites that fit into so many characters, the shortest first: no more is kept of what a run prints."""
        found = {}
        for name, seen in sorted(self.sites.items(), key=lambda site: len(json.dumps(site))):
            room -= len(json.dumps([name, seen]))
            if room < 0:
                break
            found[name] = seen
        return found

    def say(self, data):
        """One line for the one who put this here."""
        self.out.write("\n" + self.mark + json.dumps(data) + "\n")
        self.out.flush()

    def parts(self, value):
        """The numbers in a returned value: [[path, number], ...]; the path of a sum over many numbers ends in "sum"."""
        found = []

        def look(part, path):
            if len(found) >= 32 or len(path) > 2:
                return
            if isinstance(part, (bool, np.bool_)):
                return
            if isinstance(part, (int, float, np.integer, np.floating)):
                found.append([path, float(part)])
            elif isinstance(part, dict):
                for key in list(part)[:16]:
                    if isinstance(key, str):
                        look(part[key], [*path, key])
            elif isinstance(part, np.ndarray) or (isinstance(part, (list, tuple)) and len(part) > 8):
                with contextlib.suppress(Exception):
                    found.append([[*path, "sum"], float(np.sum(np.asarray(part, float)))])
            elif isinstance(part, (list, tuple)):
                for index, item in enumerate(part):
                    look(item, [*path, index])

        look(value, [])
        return [[path, number] for path, number in found if np.isfinite(number)]

    def search(self, plan, inner, args, kwargs):
        """Climb over the numbers by what the function returns, leave the best ones in place and tell them."""
        states = random.getstate(), np.random.get_state()

        def quality(point):
            self.numbers[:] = point.tolist()
            random.setstate(states[0])
            np.random.set_state(states[1])
            value = inner(*copy.deepcopy(args), **copy.deepcopy(kwargs))
            for key in plan["path"]:
                value = np.sum(np.asarray(value, float)) if key == "sum" else value[key]
            return plan["sign"] * float(value)

        class Silent:
            def write(self, text):
                return len(text)

            def flush(self):
                return None

        def tell(point, value, used, settled, done=False):
            if np.isfinite(value):
                said = {"point": point.tolist(), "value": value, "start": start}
                self.say({**said, "used": used, "settled": settled, "done": done})

        with warnings.catch_warnings(), contextlib.redirect_stdout(Silent()), quick():
            warnings.simplefilter("ignore")
            start = quality(np.array(self.numbers))
            counted = Counted(quality, plan["numbers"], *plan["limits"], tell)  # noqa: F821
            found = climb(counted, plan["steps"], plan["rows"], plan["settled"], plan["seed"])  # noqa: F821
        self.numbers[:] = found[0].tolist()
        random.setstate(states[0])
        np.random.set_state(states[1])
        tell(*found, done=True)


##########
