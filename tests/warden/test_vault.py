from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwright.warden.buckets import bucket
from upwright.warden.errors import VaultError
from upwright.warden.kernel import Warden
from upwright.warden.vault import Stamp, Vault, task_from

from .world import SALT, make_home


def test_the_shares_are_as_stated():
    counts = Counter(bucket("salt", f"problem {i}") for i in range(20_000))
    assert counts["practice"] / 20_000 == pytest.approx(0.6, abs=0.02)
    assert counts["sealed"] / 20_000 == pytest.approx(0.3, abs=0.02)
    assert counts["vault"] / 20_000 == pytest.approx(0.1, abs=0.02)


@given(st.text(), st.text())
def test_trivial_variants_share_a_bucket(salt, text):
    assert bucket(salt, text) == bucket(salt, f"  {text}\n")


@pytest.fixture
def vault(tmp_path):
    warden = Warden(make_home(tmp_path))
    yield warden._vault
    warden.close()


def test_draws_repeat_only_under_the_same_stamp(vault):
    a, b = Stamp("child a", 1, "test"), Stamp("child b", 1, "test")
    first = [vault.draw("sums", a, i) for i in range(20)]
    assert first == [vault.draw("sums", a, i) for i in range(20)]
    others = [b, Stamp("child a", 2, "test"), Stamp("child a", 1, "confirm")]
    for other in others:
        assert not {t.input for t in first} & {vault.draw("sums", other, i).input for i in range(20)}


def test_generated_tasks_land_at_the_right_distance(vault):
    for phase, where in (("test", "sealed"), ("confirm", "sealed"), ("vault", "vault")):
        for i in range(30):
            assert bucket(SALT, vault.draw("sums", Stamp("c", 1, phase), i).input) == where


def test_pools_are_drawn_with_replacement_and_never_across(vault):
    sealed = Counter(vault.draw("basics", Stamp("c", 1, "test"), i).answer for i in range(600))
    kept = {vault.draw("basics", Stamp("c", -1, "vault"), i).answer for i in range(200)}
    assert len(sealed) == 60
    assert max(sealed.values()) < 40
    assert len(kept) == 20
    assert not sealed.keys() & kept
    assert vault.most_looked_at("basics", [(Stamp("c", 1, "test"), 600)]) == max(sealed.values())
    assert vault.pool_size("basics") == 60
    assert vault.pool_size("sums") is None


def test_generators_are_silenced(vault, capfd):
    vault.draw("sums", Stamp("c", 1, "test"), 0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("x = 1", "no generate"),
        ("raise RuntimeError('boom')", "boom"),
        ("def generate(seed):\n    raise ValueError('bad')", "raised ValueError"),
        ("def generate(seed):\n    return 5", "is not a task"),
        ("def generate(seed):\n    return {'input': 'q', 'answer': 1, 'scorer': {'kind': 'magic'}}", "known kind"),
        ("def generate(seed):\n    return {'input': 'q', 'answer': 1, 'difficulty': 'x'}", "difficulty"),
        ("def generate(seed):\n    return {'input': 'only one problem', 'answer': 1}", "problem space is too small"),
    ],
)
def test_what_a_generator_can_do_wrong(tmp_path, code, told):
    from upwright.warden.door import found

    from .world import GENESIS

    (tmp_path / "g.py").write_text(code)
    with pytest.raises(VaultError, match=told):
        found(
            tmp_path / "w",
            'objective = "g"',
            {"g": {"kind": "generator", "path": str(tmp_path / "g.py")}},
            GENESIS,
            "s",
        )


def test_a_tampered_pool_does_not_open(tmp_path):
    home = make_home(tmp_path)
    file = next((home / "suites").glob("*.pool"))
    data = file.read_bytes()
    warden = Warden(home)
    pinned, salt = warden.state.founding["suites"], SALT
    warden.close()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VaultError, match="was changed"):
        Vault(home, pinned, salt).pool_size("basics")
    file.write_bytes(data)
    (home / "keys" / "pool").write_bytes(b"k" * 32)
    with pytest.raises(VaultError, match="decrypted"):
        Vault(home, pinned, salt).pool_size("basics")


def test_task_fields():
    with pytest.raises(VaultError, match="is not a task"):
        task_from("s", {"input": "x"}, "task 0")
    assert task_from("s", {"input": "x", "answer": None}, "task 0").scorer == {"kind": "exact"}
