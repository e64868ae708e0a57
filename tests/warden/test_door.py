import json
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from upwright.warden import rules, server
from upwright.warden.audit import verify_home
from upwright.warden.door import Door, found, read_state, socket_path
from upwright.warden.errors import CharterFault, LedgerFault, Refusal, VaultError
from upwright.warden.kernel import Warden
from upwright.warden.ledger import read

from .world import (
    CHARTER,
    GENESIS,
    PROPOSAL,
    SALT,
    body,
    child_of,
    drive,
    knows,
    make_home,
    pool,
    reply,
    sha,
    solve,
)

G = GENESIS["digest"]


@pytest.fixture
def home(tmp_path):
    return make_home(tmp_path)


@pytest.fixture
def warden(home):
    """The kernel in this process: the same calls as the door, without the socket."""
    w = Warden(home)
    yield w
    w.close()


def commit(w, child, former=GENESIS, proposal=PROPOSAL):
    return w.commit(child, former["files"], proposal, former["digest"])


def bodies(child, good=0.9, base=0.3):
    return {G: knows(base, "genesis"), child["digest"]: knows(good, "child")}


def refused(code, call, *args):
    with pytest.raises(Refusal) as e:
        call(*args)
    assert e.value.code == code, e.value
    assert e.value.what
    return e.value


def kinds(home):
    return [e.kind for e in read(home / "ledger.jsonl")]


def last(home, kind):
    return [e.data for e in read(home / "ledger.jsonl") if e.kind == kind][-1]


def test_a_better_child_is_promoted_confirmed_and_measured(warden, home):
    child = child_of("better")
    test = commit(warden, child)
    drive(warden, test, bodies(child))
    assert warden.verdict(test) == "PROMOTE"
    assert warden.next_inputs(test) == {"done": True}
    assert warden.promote(test) == warden.promote(test) == {"champion": child["digest"]}
    assert kinds(home).count("promotion") == 1
    assert warden.status()["unconfirmed"] == [test]
    assert warden.next_inputs(test)["phase"] == "confirm"
    drive(warden, test, bodies(child))
    confirmed = last(home, "confirmed")
    assert confirmed["n"] == 24
    assert confirmed["gain_interval"][0] <= confirmed["gain"] <= confirmed["gain_interval"][1]
    handle = warden.open_vault()
    assert handle == warden.open_vault() == -1
    assert warden.next_inputs(handle)["bodies"] == {"child": child["digest"], "champion": G}
    drive(warden, handle, bodies(child))
    assert last(home, "vault")["n"] == 20
    assert warden.open_vault() == -2
    state = read_state(home)
    assert (state["champion"], state["anchor"], state["vault_openings"]) == (child["digest"], G, 2)
    assert verify_home(home).ok


def test_an_equal_child_is_rejected_with_a_plain_reason(warden, home):
    child = child_of("equal")
    test = commit(warden, child)
    drive(warden, test, {G: knows(0.5, "x"), child["digest"]: knows(0.45, "x")})
    assert warden.verdict(test) == "REJECT"
    assert "that it is at least 10 points better" in last(home, "verdict")["reason"]
    refused("order", warden.promote, test)


def test_a_child_that_forgets_is_rejected_for_it(warden, home):
    child = child_of("forgets")
    clever = {G: solve_basics_only, child["digest"]: lambda q: solve(q) if q.startswith("What") else "?"}
    test = commit(warden, child)
    drive(warden, test, clever)
    assert warden.verdict(test) == "REJECT"
    assert "worse on basics by more than 20 points" in last(home, "verdict")["reason"]


def solve_basics_only(question):
    return solve(question) if question.startswith("Say") else "?"


def test_the_plan_is_on_the_ledger_before_any_task_is_drawn(warden, home):
    child = child_of("a")
    commit(warden, child)
    entry = last(home, "commit")
    assert (entry["child"], entry["test"], entry["threshold"]) == (child["digest"], 1, pytest.approx(40))
    assert entry["proposal"] == PROPOSAL
    assert entry["plan"]["protected"] == {"basics": 0.2}
    assert entry["changed"] == ["prompt.md"]


def test_commit_refuses(warden, home):
    refused("same", commit, warden, GENESIS)
    outside = body(prompt="genesis", fixed="changed")
    assert "fixed.md" in refused("scope", commit, warden, outside).value
    assert last(home, "refused")["child"] == outside["digest"]
    refused("stale", warden.commit, child_of("x"), GENESIS["files"], PROPOSAL, sha("other"))
    refused("stale", warden.commit, child_of("x"), {}, PROPOSAL, G)
    forged = {**child_of("x"), "digest": sha("lie")}
    refused("protocol", commit, warden, forged)
    for path in ("../x", "/etc/passwd", "a//b", "a\nb"):
        refused("scope", commit, warden, {"digest": "", "files": {path: sha("")}})
    refused("protocol", commit, warden, {"digest": 5, "files": []})
    huge = {"x": "y" * (rules.MOST_PROPOSAL + 1)}
    refused("protocol", warden.commit, child_of("x"), GENESIS["files"], huge, G)
    assert warden.status()["tests"] == 0


def test_the_same_commit_is_the_same_test(warden):
    child = child_of("again")
    test = commit(warden, child)
    first = warden.next_inputs(test)
    assert commit(warden, child) == test
    assert warden.next_inputs(test) == first
    drive(warden, test, bodies(child))
    assert commit(warden, child) == test
    refused("decided", commit, warden, child, GENESIS, {**PROPOSAL, "seed": 2})
    warden.promote(test)
    refused("stale", commit, warden, child_of("late"))


def test_another_child_abandons_the_open_test(warden, home):
    a, b = child_of("a"), child_of("b")
    one = commit(warden, a)
    warden.next_inputs(one)
    two = commit(warden, b)
    assert (one, two) == (1, 2)
    assert warden.verdict(one) == "INSUFFICIENT"
    assert last(home, "commit")["threshold"] == pytest.approx(120)
    assert commit(warden, a) == 3, "a test without enough evidence may be committed again, and spends again"


def test_calls_in_the_wrong_order(warden):
    for call in (warden.next_inputs, warden.verdict, warden.promote):
        refused("unknown", call, 1)
        refused("unknown", call, True)
    test = commit(warden, child_of("a"))
    refused("order", warden.verdict, test)
    refused("order", warden.promote, test)
    refused("order", warden.answers, test, 5, {})
    refused("order", warden.approve, test, "ann")
    refused("order", warden.refuse, test, "ann", "no")
    refused("vault", warden.open_vault)
    refused("unknown", warden.rollback, sha("never"), "ann", "")
    refused("protocol", warden.note, "gossip", {})
    refused("protocol", warden.note, "screened", {"x": "y" * 70_000})


def test_answers_that_make_no_sense_are_refused_whole(warden):
    child = child_of("a")
    test = commit(warden, child)
    batch = warden.next_inputs(test)
    good = reply(batch, bodies(child))
    qid = next(iter(good["child"]))
    for bad in (
        [],
        {"child": []},
        {"child": {}},
        {"nobody": {qid: {"text": "x"}}},
        {**good, "anchor": {qid: {"text": "x"}}},
        {**good, "child": {**good["child"], qid: "text"}},
        {**good, "child": {**good["child"], qid: {"text": None}}},
        {**good, "child": {**good["child"], qid: {"text": "x", "tokens": -1}}},
        {**good, "child": {**good["child"], qid: {"failure": {"kind": "laziness"}}}},
        {**good, "child": {**good["child"], qid: {"text": "x" * 1_000_001}}},
    ):
        refused("protocol", warden.answers, test, 0, bad)
    refused("protocol", warden.answers, test, "0", good)
    assert warden.answers(test, 0, good) is None
    assert warden.answers(test, 0, good) is None, "a lost reply may be asked for again"
    assert warden.next_inputs(test)["batch"] == 1


def failing(batch, kinds_of):
    """All answers of ``role`` fail with a kind for the roles in ``kinds_of``."""
    given = {}
    for q in batch["questions"]:
        for role in q["ask"]:
            kind = kinds_of.get(role)
            fine = {"text": solve(q["input"]), "failure": None, "tokens": 1}
            given.setdefault(role, {})[q["id"]] = (
                {"text": None, "failure": {"kind": kind, "message": ""}} if kind else fine
            )
    return given


def test_a_failure_is_retried_and_then_counts_against_the_child(warden, home):
    test = commit(warden, child_of("a"))
    batch = warden.next_inputs(test)
    back = warden.answers(test, 0, failing(batch, {"child": "crash"}))
    assert len(back["retry"]) == 16
    assert warden.answers(test, 0, failing(batch, {"child": "timeout"})) is None
    assert last(home, "batch")["items"][0][2:] == [None, 1.0]
    assert warden.state.trials[test].gate.objective.total == -16


def test_the_first_text_stands(warden, home):
    child = child_of("a")
    test = commit(warden, child)
    batch = warden.next_inputs(test)
    wrong = reply(batch, {G: solve, child["digest"]: lambda q: "wrong"})
    one = next(iter(wrong["champion"]))
    wrong["champion"][one] = {"text": None, "failure": {"kind": "crash", "message": ""}, "tokens": 0}
    assert warden.answers(test, 0, wrong) == {"retry": [["champion", one]]}
    assert warden.answers(test, 0, reply(batch, {G: solve, child["digest"]: solve})) is None
    assert all(item[2] == 0.0 and item[3] == 1.0 for item in last(home, "batch")["items"])


def test_champion_failures_drop_the_pair(warden):
    child = child_of("a")
    test = commit(warden, child)
    for number in range(16):
        batch = warden.next_inputs(test)
        for _ in range(2):
            warden.answers(test, number, failing(batch, {"champion": "crash"}))
    assert warden.state.trials[test].gate.objective.n == 0
    assert warden.verdict(test) == "INSUFFICIENT"


@pytest.mark.parametrize("kinds_of", [{"child": "infrastructure"}, {"child": "crash", "champion": "crash"}])
def test_no_score_is_insufficient(warden, kinds_of):
    test = commit(warden, child_of("a"))
    batch = warden.next_inputs(test)
    for _ in range(2):
        warden.answers(test, 0, failing(batch, kinds_of))
    assert warden.next_inputs(test) == {"done": True}
    assert warden.verdict(test) == "INSUFFICIENT"


def test_a_person_decides_under_approval(tmp_path):
    home = make_home(tmp_path, 'oversight = "approve"\n' + CHARTER)
    w = Warden(home)
    child = child_of("a")
    test = commit(w, child)
    drive(w, test, bodies(child))
    refused("approval", w.promote, test)
    refused("approval", w.approve, test, "loop")
    assert w.status()["awaiting_approval"] == [test]
    w.approve(test, "ann")
    w.promote(test)
    assert read_state(home)["anchor"] == child["digest"]
    refused("order", w.refuse, test, "ann", "late")
    second = child_of("b")
    test2 = commit(w, second, child)
    drive(w, test2, {child["digest"]: knows(0.2, "z"), second["digest"]: knows(0.95, "y")})
    w.refuse(test2, "ann", "ugly")
    refused("approval", w.promote, test2)
    refused("decided", w.approve, test2, "ann")
    w.close()


def test_the_anchor_is_asked_on_protected_suites(warden):
    """Small losses cannot creep: protected suites are compared with the last approved generation, too."""
    a, b = child_of("a"), child_of("b")
    test = commit(warden, a)
    drive(warden, test, bodies(a))
    warden.promote(test)
    test = commit(warden, b, a)
    world = {
        G: solve_basics_only,
        a["digest"]: lambda q: "?",
        b["digest"]: lambda q: solve(q) if q.startswith("What") else "?",
    }
    asked = set()
    while not (batch := warden.next_inputs(test)).get("done"):
        asked |= {(q["suite"], tuple(q["ask"])) for q in batch["questions"]}
        warden.answers(test, batch["batch"], reply(batch, world))
    assert asked == {("sums", ("child", "champion")), ("basics", ("child", "champion", "anchor"))}
    assert warden.verdict(test) == "REJECT"
    assert "than the last approved generation" in last(warden.home, "verdict")["reason"]


def test_rollback(warden, home):
    child = child_of("a")
    test = commit(warden, child)
    drive(warden, test, bodies(child))
    warden.promote(test)
    warden.approve(test, "ann")
    open_test = commit(warden, child_of("b"), child)
    warden.rollback(G, "watch", "practice fell")
    warden.rollback(G, "watch", "again")
    assert kinds(home).count("rollback") == 1
    assert warden.verdict(open_test) == "INSUFFICIENT"
    assert (read_state(home)["champion"], read_state(home)["anchor"]) == (G, child["digest"])
    refused("stale", warden.promote, test)
    warden.rollback(child["digest"], "ann", "it was fine")
    warden.rollback(G, "ann", "or not")
    assert read_state(home)["anchor"] == G
    assert verify_home(home).ok


def test_limits(tmp_path):
    extra = "[limits]\npromotions_per_hour = 1\n[budget]\ntests = 2\n"
    w = Warden(make_home(tmp_path, CHARTER + extra))
    a, b = child_of("a"), child_of("b")
    test = commit(w, a)
    drive(w, test, bodies(a))
    w.promote(test)
    test = commit(w, b, a)
    drive(w, test, {G: knows(0.2, "g"), a["digest"]: knows(0.1, "p"), b["digest"]: knows(0.95, "q")})
    refused("speed", w.promote, test)
    refused("budget", commit, w, child_of("c"), a)
    w.close()


def test_invariants_are_vetoes(tmp_path):
    w = Warden(make_home(tmp_path, CHARTER + '[invariants]\nforbid_text = ["(?i)as an ai"]\nmax_token_ratio = 2.0\n'))
    a, b = child_of("a"), child_of("b")
    test = commit(w, a)
    batch = w.next_inputs(test)
    given = reply(batch, {G: solve, a["digest"]: solve})
    next(iter(given["child"].values()))["text"] = "As an AI I cannot"
    w.answers(test, 0, given)
    assert w.verdict(test) == "REJECT"
    assert "forbidden text" in last(w.home, "verdict")["reason"]
    test = commit(w, b)
    while not (batch := w.next_inputs(test)).get("done"):
        given = reply(batch, {G: knows(0.2, "g"), b["digest"]: solve})
        for answer in given["child"].values():
            answer["tokens"] = 30
        w.answers(test, batch["batch"], given)
    assert w.verdict(test) == "REJECT"
    assert "4.29 times the tokens" in last(w.home, "verdict")["reason"]
    w.close()


def test_stop_and_resume(warden):
    test = commit(warden, child_of("a"))
    warden.stop("a person pressed stop")
    assert warden.status()["stopped"] == "a person pressed stop"
    refused("stopped", warden.next_inputs, test)
    refused("stopped", commit, warden, child_of("b"))
    warden.resume()
    assert warden.next_inputs(test)["batch"] == 0


def test_only_a_person_amends_the_charter(warden, home):
    changed = CHARTER.replace("minimum_gain = 0.1", "minimum_gain = 0.2")
    refused("approval", warden.amend, changed, "loop")
    refused("charter", warden.amend, CHARTER.replace('"sums"', '"nowhere"'), "ann")
    warden.amend(changed, "ann")
    warden.amend(changed, "ann")
    assert kinds(home).count("charter") == 1
    assert last(home, "charter")["who"] == "human"
    commit(warden, child_of("a"))
    assert last(home, "commit")["plan"]["minimum_gain"] == 0.2
    assert verify_home(home).ok


def test_a_used_up_pool_says_so(tmp_path):
    home = tmp_path / "w"
    charter = (
        CHARTER.replace('"sums"', '"basics"').replace("= 0.1", "= 0.001").split("[protected")[0]
        + "[sealed]\nbatch = 16\n"
    )
    found(home, charter, {"basics": {**pool(3), "vault": []}}, GENESIS, SALT)
    w = Warden(home)
    test = commit(w, child_of("a"))
    for _ in range(4):
        batch = w.next_inputs(test)
        w.answers(test, batch["batch"], reply(batch, {G: solve, child_of("a")["digest"]: solve}))
    assert w.next_inputs(test) == {"done": True}
    assert "used up" in last(home, "verdict")["reason"]
    assert last(home, "verdict")["looks"]["basics"]["most_on_one_task"] >= 22
    refused("looks", commit, w, child_of("b"))
    w.close()


def test_founding_is_idempotent_and_checked(tmp_path, home):
    before = (home / "ledger.jsonl").read_bytes()
    make_home(tmp_path)
    assert (home / "ledger.jsonl").read_bytes() == before
    with pytest.raises(Refusal, match="another project"):
        make_home(tmp_path, CHARTER.replace("0.1", "0.3"))
    with pytest.raises(CharterFault, match="does not exist"):
        found(tmp_path / "x", CHARTER, {"basics": pool()}, GENESIS, SALT)
    with pytest.raises(VaultError, match="sealed side"):
        found(tmp_path / "x", CHARTER, {"basics": pool(0), "sums": pool()}, GENESIS, SALT)
    assert not (tmp_path / "x").exists()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for secret in (home / "keys").iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert b"HIDDEN" not in b"".join(p.read_bytes() for p in (home / "suites").glob("*.pool"))


def test_a_changed_generator_is_found(home):
    file = next((home / "suites").glob("*.py"))
    file.write_text(file.read_text() + "\n")
    w = Warden(home)
    test = commit(w, child_of("a"))
    assert w.next_inputs(test) == {"done": True}
    assert w.verdict(test) == "INSUFFICIENT"
    assert "was changed" in last(home, "verdict")["reason"]
    w.close()


def test_a_forged_verdict_does_not_verify(warden, home):
    """Even with the signing key, a verdict must follow from its batches."""
    child = child_of("a")
    test = commit(warden, child)
    warden._append("verdict", {"test": test, "decision": "PROMOTE", "reason": "trust me"})
    report = verify_home(home)
    assert (report.ok, report.kind) == (False, "verdict")
    assert "batches give no decision" in report.problem


# --- the process and its socket ---------------------------------------------------------------------


@pytest.fixture
def door(home):
    with Door.open(home, CHARTER) as d:
        yield d
    wait_for_end(home)


def wait_for_end(home):
    """End the warden that this test started, by the id in its own lock file."""
    pid = int((home / "lock").read_text())
    try:
        os.kill(pid, 15)
        while True:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
            time.sleep(0.02)
    except (ProcessLookupError, FileNotFoundError):
        return


def raw(home):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(str(socket_path(home)))
    return s


def ask(s, line):
    s.sendall(line + b"\n")
    data = b""
    while not data.endswith(b"\n"):
        data += s.recv(1 << 20)
    return json.loads(data)


def test_nothing_secret_ever_leaves(home, door, monkeypatch):
    """Record every byte that the door sends through a whole life of a project."""
    seen = bytearray()
    exchange = Door._exchange

    def recording(self, line):
        self._socket.sendall(line)
        while b"\n" not in self._buffer:
            self._buffer += self._socket.recv(1 << 20)
        seen.extend(self._buffer)
        return exchange(self, b"") if self._buffer else None

    monkeypatch.setattr(Door, "_exchange", recording)
    child = child_of("better")
    test = door.commit(child, GENESIS["files"], PROPOSAL, G)
    drive(door, test, bodies(child))
    assert door.verdict(test) == "PROMOTE"
    door.promote(test)
    drive(door, test, bodies(child))
    drive(door, door.open_vault(), bodies(child))
    with pytest.raises(Refusal):
        door.verdict(99)
    door.status()
    assert len(seen) > 10_000
    answers = [f'SECRET{i}"'.encode() for i in range(10)]
    keys = [(home / "keys" / n).read_bytes() for n in ("secret", "pool", "signing")]
    for secret in [
        b"HIDDEN",
        b"scorer",
        b"score",
        b"generate",
        b'answer"',
        *answers,
        *keys,
        *(k.hex().encode() for k in keys),
    ]:
        assert secret not in seen
    for word in (b"log_e", b"e_value", b"difference", b"threshold", b"wins"):
        assert word not in seen
    assert b"SECRET[0-9]+" in seen, "the public check does leave"


def test_garbage_is_answered_and_does_no_harm(home, door):
    with raw(home) as s:
        for line in (b"", b"hello", b"[]", b"{}", b'{"call":"_append","args":{}}', b'{"call":"close"}', b"\xff\xfe", b"[" * 100_000,
                     b'{"call":"status","args":[]}', b'{"call":"verdict","args":{"test":1,"x":2}}', b'{"call":["verdict"]}',
                     b'{"call":"verdict","args":{"test":{"a":[]}}}', b'{"call":"commit","args":{"child":1,"parent_files":2,"proposal":3,"champion":4}}',
                     b'{"call":"commit","args":{"child":{},"parent_files":{"a":[]},"proposal":{},"champion":"x"}}',
                     b'{"call":"rollback","args":{"digest":[],"by":"x","why":""}}', b'{"call":"stop","args":{"why":NaN},"extra":1}'):  # fmt: skip
            assert "error" in ask(s, line), line
    assert door.status()["tests"] == 0
    assert verify_home(home).ok


def test_a_giant_line_is_refused(home, door, monkeypatch):
    with raw(home) as s:
        chunk = b"x" * (1 << 20)
        with pytest.raises((BrokenPipeError, ConnectionResetError, AssertionError)):  # noqa: PT012
            for _ in range(70):
                s.sendall(chunk)
            assert b"longer than" not in s.recv(1 << 16)
    assert door.status()["tests"] == 0


def test_half_a_request_and_a_hang_up(home, door):
    for _ in range(5):
        with raw(home) as s:
            s.sendall(b'{"call":"sta')
    assert door.status()["champion"] == G


def test_another_user_is_turned_away(monkeypatch):
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert server.allowed(ours)
        monkeypatch.setattr(server, "peer_uid", lambda _: os.getuid() + 1)
        assert not server.allowed(ours)


def test_one_warden_a_home(home, door):
    refused("busy", Warden, home)
    with Door.open(home) as second:
        assert second.status() == door.status()


def test_a_changed_charter_is_noticed(home, door):
    with pytest.raises(CharterFault, match="not the charter on the ledger"):
        Door.open(home, CHARTER + "\n")
    door.amend(CHARTER + "\n", "ann")
    Door.open(home, CHARTER + "\n").close()


def test_a_long_path_and_no_founding(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    home = make_home(deep)
    assert len(str(socket_path(home))) < 100
    with Door.open(home) as d:
        assert d.status()["champion"] == G
    wait_for_end(home)
    socket_path(home).parent.rmdir()
    refused("unknown", Door.open, tmp_path / "nowhere")


def test_a_broken_ledger_keeps_the_door_shut(home):
    path = home / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"founding", b"foundinG"))
    with pytest.raises(LedgerFault, match="leaf hash"):
        Door.open(home)


def test_it_ends_by_itself(home):
    process = subprocess.Popen([sys.executable, "-m", "upwright.warden", "serve", "--home", str(home), "--idle", "1.0"])
    while not socket_path(home).exists():
        time.sleep(0.02)
    with Door.open(home) as d:
        assert d.status()["tests"] == 0
        time.sleep(1.2)
        assert process.poll() is None
    assert process.wait(20) == 0
    assert not socket_path(home).exists()


def test_a_write_that_fails_ends_the_warden_and_loses_nothing(warden, home, monkeypatch):
    """A full disk: the process cannot know what is on disk any more, so it ends; the next one reads it."""
    from upwright.warden import ledger

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger, "write_atomic", full)
    line = json.dumps({"call": "stop", "args": {"why": "x"}}).encode()
    assert json.loads(server.reply_to(warden, line))["error"]["code"] == "disk"
    assert warden.broken
    monkeypatch.undo()
    assert json.loads(server.reply_to(warden, line))["error"]["code"] == "disk"
    warden.close()
    warden.__init__(home)
    assert warden.status()["stopped"] == "x"
    assert verify_home(home).ok


def test_a_process_that_leaves_its_warden_behind_does_not_complain(home):
    """The warden outlives the process that started it; nothing is said at its end (ResourceWarning)."""
    code = "import sys; from pathlib import Path; from upwright.warden.door import Door; Door.open(Path(sys.argv[1]))"
    command = [sys.executable, "-X", "dev", "-W", "always::ResourceWarning", "-c", code + ".close()", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with Door.open(home) as door:
        assert door.status()["genesis"] == G, "it is still there"
