"""kill -9 at any moment: nothing acknowledged is lost, nothing counts twice, there is one champion."""

import os
import random
import signal
import threading
import time

import pytest

from upwright.warden import canon, ledger
from upwright.warden.audit import verify_home
from upwright.warden.door import Door, read_state
from upwright.warden.errors import Unreachable
from upwright.warden.kernel import Warden
from upwright.warden.ledger import read

from .test_door import wait_for_end
from .world import GENESIS, PROPOSAL, child_of, drive, knows, make_home, reply

G = GENESIS["digest"]
KILLS = 20


def check_story(home, acknowledged):
    """The ledger verifies, holds everything that was acknowledged, once, and names one champion."""
    assert verify_home(home).ok, verify_home(home)
    entries = read(home / "ledger.jsonl")
    batches = [(e.data["test"], e.data["phase"], e.data["batch"]) for e in entries if e.kind == "batch"]
    assert len(batches) == len(set(batches))
    for test, phase in {b[:2] for b in batches}:
        numbers = [n for t, p, n in batches if (t, p) == (test, phase)]
        assert numbers == list(range(len(numbers)))
    for kind, keys in {
        "commit": ("test", "child"),
        "verdict": ("test", "decision"),
        "promotion": ("test", "digest"),
    }.items():
        found = [tuple(e.data[k] for k in keys) for e in entries if e.kind == kind]
        assert len(found) == len({f[0] for f in found}), f"two entries of kind {kind} for one test"
        assert set(acknowledged.get(kind, ())) <= set(found)
    assert set(acknowledged.get("batch", ())) <= set(batches)
    champion = G
    for e in entries:
        if e.kind == "promotion":
            assert e.data["former"] == champion
            champion = e.data["digest"]
    assert read_state(home)["champion"] == champion


class Killer(threading.Thread):
    """Ends the warden of one home, by the id in its lock file, again and again."""

    def __init__(self, home):
        super().__init__()
        self.home, self.kills, self.over = home, 0, threading.Event()
        self.rng = random.Random(3)

    def run(self):
        while self.kills < KILLS and not self.over.is_set():
            self.over.wait(0.05 + 0.4 * self.rng.random())
            try:
                text = (self.home / "lock").read_text()
                if text.endswith("\n") and (self.home / "door.sock").exists():
                    os.kill(int(text), signal.SIGKILL)
                    self.kills += 1
                    (self.home / "door.sock").unlink(missing_ok=True)  # so that the next is seen to be up
            except (OSError, ValueError):
                continue


def persist(call, *args):
    """Ask until the warden lives long enough to answer."""
    for _ in range(50):
        try:
            return call(*args)
        except Unreachable:
            time.sleep(0.05)
    raise AssertionError("the warden never answered")


def test_kill_minus_nine_in_a_loop(tmp_path):
    home = make_home(tmp_path)
    killer, acknowledged = Killer(home), {"commit": [], "batch": [], "verdict": [], "promotion": []}
    door = Door(home)
    champion, share, worlds = GENESIS, 0.05, {G: knows(0.05, "g")}
    killer.start()
    try:
        for i in range(500):
            if killer.kills >= KILLS:
                break
            child = child_of(f"child {i}")
            share = share + 0.3 if i % 3 == 0 else share
            worlds[child["digest"]] = knows(min(share, 1.0), f"c{i}")
            test = persist(door.commit, child, champion["files"], PROPOSAL, champion["digest"])
            acknowledged["commit"].append((test, child["digest"]))
            play(door, test, worlds, acknowledged)
            word = persist(door.verdict, test)
            acknowledged["verdict"].append((test, word))
            if word == "PROMOTE":
                assert persist(door.promote, test) == {"champion": child["digest"]}
                acknowledged["promotion"].append((test, child["digest"]))
                champion = child
                play(door, test, worlds, acknowledged)
            time.sleep(0.01)
    finally:
        killer.over.set()
        killer.join()
        door.close()
    assert killer.kills >= KILLS
    wait_for_end(home)
    Warden(home).close()  # repairs a torn tail, if the last kill left one
    assert acknowledged["promotion"]
    check_story(home, acknowledged)


def play(door, test, worlds, acknowledged):
    while not (batch := persist(door.next_inputs, test)).get("done"):
        time.sleep(0.02)
        if persist(door.answers, test, batch["batch"], reply(batch, worlds)) is None:
            acknowledged["batch"].append((test, batch["phase"], batch["batch"]))


class Cut(BaseException):
    """Stands for the power going."""


def cut_at(monkeypatch, k):
    """Let the ``k``-th step to disk from now be the last; a write may be cut in half."""
    left = [k]

    def step():
        left[0] -= 1
        if left[0] < 0:
            raise Cut

    write_all, replace, fsync = canon.write_all, os.replace, os.fsync

    def half(fd, data):
        if left[0] == 0:
            os.write(fd, bytes(data)[: len(data) // 2])
        step()
        write_all(fd, data)

    monkeypatch.setattr(ledger, "write_all", half)
    monkeypatch.setattr(canon, "write_all", half)
    monkeypatch.setattr(os, "replace", lambda *a: (step(), replace(*a))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (step(), fsync(fd))[1])


def life(warden, child, worlds, acknowledged):
    """Commit, test, promote, confirm; the same calls whatever happened before."""
    test = warden.commit(child, GENESIS["files"], PROPOSAL, G)
    acknowledged["commit"] = [(test, child["digest"])]
    drive(warden, test, worlds)
    acknowledged["verdict"] = [(test, warden.verdict(test))]
    warden.promote(test)
    acknowledged["promotion"] = [(test, child["digest"])]
    drive(warden, test, worlds)


def test_a_cut_between_steps_to_disk(tmp_path):
    """Deterministic: end it at every other step to disk, until a whole life fits between cuts."""
    child = child_of("better")
    worlds = {G: knows(0.2, "g"), child["digest"]: knows(0.9, "c")}
    cuts = 0
    for k in range(0, 400, 2):
        folder = tmp_path / str(k)
        folder.mkdir()
        home, acknowledged = make_home(folder), {}
        warden = Warden(home)
        with pytest.MonkeyPatch.context() as patch:
            cut_at(patch, k)
            try:
                life(warden, child, worlds, acknowledged)
                whole = True
            except Cut:
                whole = False
        warden.close()
        again = Warden(home)
        check_story(home, acknowledged)
        life(again, child, worlds, acknowledged)
        again.close()
        check_story(home, acknowledged)
        assert read_state(home)["tests"][0]["confirmed"]
        if whole:
            break
        cuts += 1
    assert cuts > 20
    assert whole
