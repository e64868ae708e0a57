"""Loss, steps and loop of GRPO on the tiny random model, against TRL and against exact expectations."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from transformers import AutoModelForCausalLM  # noqa: E402

from upwright.bodies.body import Body, Training  # noqa: E402
from upwright.bodies.runtimes import transformers  # noqa: E402
from upwright.bodies.runtimes.base import Message  # noqa: E402
from upwright.bodies.runtimes.transformers import TransformersRuntime  # noqa: E402
from upwright.errors import BuildError, Stopped  # noqa: E402
from upwright.levers import _grpo, _reinforce  # noqa: E402
from upwright.levers._grpo import Group, How, Policy, Tell, Writer, Written, advantages, policy_loss  # noqa: E402
from upwright.levers._reinforce import STATE, Reinforced, reinforce  # noqa: E402
from upwright.levers._sft import _collate, _quiet  # noqa: E402
from upwright.levers._steps import logps  # noqa: E402
from upwright.records import derive_seed  # noqa: E402
from upwright.testing.tiny import tiny_model  # noqa: E402

RECIPE = Training(rank=4)
HOW = How(steps=10, learning_rate=1e-2, kl=0.0, most_kl=9.0, least_entropy=0.0)
CHATS = [(Message("user", f"what is {i}?"),) for i in range(6)]


def quiet(done: float, note: str) -> None:
    pass


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, and lose much where cores are shared."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers, "_use_physical_cores", lambda: None)
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)


def new_policy(model: Path, root: Path, how: How = HOW) -> Policy:
    with _quiet():
        return Policy(model, RECIPE, how, 1, root)


class Toy:
    """One-token answers; a token is worth 1 when its id is even, or (``coin``) by chance alone."""

    def __init__(self, coin: bool = False, held: Sequence[float] = (), few: int = 10**6) -> None:
        self.coin, self.held, self.few = coin, list(held), few
        self.steps: list[int] = []
        self.writers: list[Writer] = []

    def rollout(self, writer: Writer, step: int, tell: Tell) -> tuple[list[Group], dict[str, float]]:
        self.steps.append(step)
        said = writer.write([(chat, derive_seed(step, i)) for i, chat in enumerate(CHATS)], 16, 1, tell)
        rng = random.Random(step)
        worth = [
            [float(rng.random() < 0.5 if self.coin else one.tokens[0] % 2 == 0) for one in group] for group in said
        ]
        groups = [Group(g, advantages(r)) for g, r in zip(said, worth) if len(set(r)) > 1]
        tokens = sum(len(one.prompt) + len(one.tokens) for group in said for one in group)
        facts = {"reward": sum(map(sum, worth)) / 16 / len(CHATS), "tokens": tokens}
        return groups if step <= self.few else [], facts

    def look(self, writer: Writer, tell: Tell) -> list[float]:
        self.writers.append(writer)
        return [self.held[len(self.writers) - 1]] * 4 if self.held else [expected(writer)]

    def remember(self) -> Any:
        return {"steps": self.steps}

    def recall(self, kept: Any) -> None:
        self.steps = list(kept["steps"])


def expected(writer: Writer) -> float:
    """The exact expected reward of the task: the probability of an even token, averaged over the questions."""
    prompts = writer.runtime._tokenize([_request(chat) for chat in CHATS])
    found = []
    with torch.no_grad():
        for prompt in prompts:
            logits = writer.runtime.model(torch.tensor([prompt])).logits[0, -1].float()
            found.append(float(logits.softmax(-1)[0::2].sum()))
    return sum(found) / len(found)


def _request(chat: tuple[Message, ...]) -> Any:
    from upwright.bodies.runtimes.base import Request

    return Request(chat)


def run(model: Path, scratch: Path, toy: Toy, seed: int = 1, how: How = HOW) -> Reinforced:
    scratch.mkdir(parents=True, exist_ok=True)
    return reinforce(model, RECIPE, how, toy, scratch, seed, quiet)


def files(trained: Reinforced) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(trained.adapter.iterdir())}


# ---- it learns, and only from a reward that means something ---------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_the_expected_reward_rises_under_the_tasks_reward_and_not_under_a_coin(
    model: Path, tmp_path: Path, seed: int
) -> None:
    """Exact expectations, not samples: at the start, and of the policy after its last step."""
    gains = {}
    for coin in (False, True):
        toy = Toy(coin)
        trained = run(model, tmp_path / str(coin), toy, seed)
        (_, start), *_, (_, end) = trained.looks
        gains[coin] = end - start
        assert trained.steps == 10
        assert len(trained.history) == 10
    assert gains[False] > 0.2
    assert abs(gains[True]) < 0.1


# ---- the loss, against TRL ------------------------------------------------------------------------


def trl_trainer(model: Path, folder: Path, written: list[list[Written]], rewards: list[list[float]]) -> Any:
    """TRL's trainer with our answers as its rollout, and a reference that is not the policy."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    flat = [one for group in written for one in group]
    config = GRPOConfig(
        output_dir=str(folder), per_device_train_batch_size=len(flat) // 2, num_generations=len(written[0]),
        steps_per_generation=2, beta=0.3, epsilon=0.2, epsilon_high=0.28, loss_type="dapo", scale_rewards="group",
        max_completion_length=64, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, seed=0,
    )  # fmt: skip

    def rollout(prompts: Any, trainer: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [list(w.prompt) for w in flat],
            "completion_ids": [list(w.tokens) for w in flat],
            "logprobs": None,
        }

    def reward(prompts: Any, completions: Any, **others: Any) -> list[float]:
        return [r for group in rewards for r in group]

    return GRPOTrainer(
        model=str(model), reward_funcs=reward, args=config, rollout_func=rollout,
        train_dataset=Dataset.from_dict({"prompt": ["x"] * 4}),
    )  # fmt: skip


def shake(model: Any, seed: int) -> None:
    """Move every weight a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def test_advantages_loss_and_gradients_are_trls(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers and rewards, a policy that has moved since it wrote them, and a reference that is a third model."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    rng = random.Random(0)
    written = [
        [
            Written([*rng.choices(range(3, 250), k=p)], rng.choices(range(3, 250), k=rng.randint(1, 9)), "", 0.0, True)
            for _ in range(4)
        ]
        for p in (5, 11, 7, 8)
    ]
    rewards = [[1.0, 0.0, 0.0, 1.0], [0.0, 0.25, 1.0, 0.5], [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.7]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = trl_trainer(model, tmp_path, written, rewards)
        policy = theirs.model
        shake(policy, 1)
        policy.train()
        inputs = theirs._generate_and_score_completions([{"prompt": "x"}] * 16)
        shake(policy, 2)
        theirs.current_gradient_accumulation_steps = 1
        loss = theirs._compute_loss(policy, inputs)
    # TRL divides by the tokens of one of the two steps that it makes of a rollout; here the whole is one batch.
    loss = loss / 2
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters()}
    policy.zero_grad()

    ours = [advantages(group) for group in rewards]
    flat = [a for group in ours for a in group]
    assert flat == pytest.approx(inputs["advantages"].tolist(), abs=1e-5)

    now = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    rows = [w for group in written for w in group]
    batch = _collate([([*w.prompt, *w.tokens], len(w.prompt)) for w in rows], 0)
    spread = torch.tensor([a for w, a in zip(rows, flat) for _ in w.tokens])
    shake(now, 1)
    with torch.no_grad():
        old, ref = logps(now, batch)[0], logps(reference, batch)[0]
    shake(now, 2)
    new = logps(now, batch)[0]
    total, clipped = policy_loss(new, old, ref, spread, replace(HOW, kl=0.3))
    assert float((new.detach() - old).exp().max()) > 1.28, "the clip is at work"
    assert 0 < int(clipped) < len(spread)
    assert float((ref - old).abs().max()) > 0.01, "and so is the penalty"
    mean = total / len(spread)
    assert float(mean.detach()) == pytest.approx(float(loss.detach()), abs=1e-5)
    mean.backward()
    for name, weight in now.named_parameters():
        assert torch.allclose(weight.grad, gradients[name], atol=1e-5, rtol=1e-3), name


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.0, 0.0], [0.5]])
def test_a_group_without_variance_has_no_advantage(rewards: list[float]) -> None:
    assert advantages(rewards) == [0.0] * len(rewards)


# ---- a rollout and its update ----------------------------------------------------------------------


def test_the_writer_says_what_the_runtime_says(model: Path, tmp_path: Path) -> None:
    """Tokens, text and log-probability are those of the runtime's own completions, and of the trained model."""
    (tmp_path / "model").symlink_to(model)
    writer = Writer(tmp_path)
    said = writer.write([(CHATS[0], 7), (CHATS[1], 8)], 3, 5, quiet)
    asked = [_request(CHATS[0]), _request(CHATS[1])]
    asked = [replace(r, seed=seed, n=3, temperature=1.0, max_tokens=5) for r, seed in zip(asked, (7, 8))]
    runtime = TransformersRuntime(Body(tmp_path))
    for group, completions in zip(said, runtime.generate(asked), strict=True):
        assert [one.text for one in group] == [c.text for c in completions]
        assert [len(one.tokens) for one in group] == [c.completion_tokens for c in completions]
    policy = new_policy(model, tmp_path / "policy")
    for one in itertools.chain(*said):
        assert one.stopped == (one.tokens[-1] in runtime.stops)
        batch = _collate([([*one.prompt, *one.tokens], len(one.prompt))], 0)
        with torch.no_grad():
            said, entropy = logps(policy.model, batch, entropy=True)
        assert said.shape == entropy.shape == (len(one.tokens),)
        assert float(said.sum()) == pytest.approx(one.logprob, abs=0.1 * len(one.tokens))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_first_ratio_is_one_and_better_answers_become_likelier(
    model: Path, tmp_path: Path, temperature: float
) -> None:
    policy = new_policy(model, tmp_path / "policy")
    policy.how = replace(HOW, updates=1, temperature=temperature)
    groups, _ = Toy().rollout(policy.writer(), 1, quiet)
    before = [_sums(policy, group) for group in groups]
    watched = policy.update(groups, 1, quiet)
    assert watched["clipped"] == 0.0, "one update on its own samples clips nothing"
    assert watched["kl"] < 0.001, "the policy starts as the champion"
    assert watched["decoder gap"] < 0.1, "decoder and trainer read the same weights, whatever the temperature"
    after = [_sums(policy, group) for group in groups]
    moved = [
        (a, n - b)
        for group, now, was in zip(groups, after, before)
        for a, n, b in zip(group.advantages, now, was, strict=True)
    ]
    assert sum(a * d for a, d in moved) / len(moved) > 0.01
    assert Toy().look(policy.writer(), quiet) != Toy().look(_start(model, tmp_path), quiet), "the writer follows"


def test_a_temperature_is_the_policys_own_in_sampling_and_in_the_loss(model: Path, tmp_path: Path) -> None:
    """What is sampled at 0.6 has, on average, the log-probability and the entropy that the trainer gives it at 0.6, not at 1."""
    policy = new_policy(model, tmp_path / "policy")
    policy.how = replace(HOW, temperature=0.6)
    said = policy.writer().write([(CHATS[0], seed) for seed in range(8)], 16, 4, quiet)
    surprise, entropy = {0.6: [], 1.0: []}, {0.6: [], 1.0: []}
    for one in itertools.chain(*said):
        batch = _collate([([*one.prompt, *one.tokens], len(one.prompt))], 0)
        for heat in surprise:
            with torch.no_grad():
                logs, spread = logps(policy.model, batch, entropy=True, temperature=heat)
            surprise[heat].append(-float(logs.mean()))
            entropy[heat].append(float(spread.mean()))
    own, other = ((sum(surprise[h]) - sum(entropy[h])) / len(entropy[h]) for h in (0.6, 1.0))
    assert abs(own) < 0.15, "a sample is as surprising as its distribution is spread"
    assert other < -0.15, "and not as the distribution at temperature 1 is"


def _start(model: Path, tmp_path: Path) -> Writer:
    (tmp_path / "model").symlink_to(model)
    return Writer(tmp_path)


def _sums(policy: Policy, group: Group) -> list[float]:
    found = []
    for one in group.written:
        with torch.no_grad():
            found.append(
                float(logps(policy.model, _collate([([*one.prompt, *one.tokens], len(one.prompt))], 0))[0].sum())
            )
    return found


def test_groups_are_split_over_updates_and_passes_without_a_change_of_the_sum(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every group is in one pass of one update; small passes give the same weights as one large pass."""
    how = replace(HOW, updates=2)
    monkeypatch.setattr(_grpo, "MOST", 1)
    policy = new_policy(model, tmp_path / "one", how)
    groups, _ = Toy().rollout(policy.writer(), 1, quiet)
    rows = sum(len(group.written) for group in groups)
    plan = policy._plan(groups, 1)
    assert [len(batch) for batch in plan] == [1] * how.updates
    assert sum(len(micro.lengths) for batch in plan for micro in batch) == rows
    policy.update(groups, 1, quiet)
    monkeypatch.setattr(_grpo, "MOST", 3)
    other = new_policy(model, tmp_path / "two", how)
    assert sum(map(len, other._plan(groups, 1))) >= 4
    other.update(groups, 1, quiet)
    for a, b in zip(policy.masters, other.masters, strict=True):
        close = (a.detach() - b.detach()).abs() < HOW.learning_rate / 2
        assert float(close.float().mean()) > 0.9, "but for rounding, where AdamW's first step is a sign"


def test_divergence_is_an_error(model: Path, tmp_path: Path) -> None:
    policy = new_policy(model, tmp_path / "policy")
    groups, _ = Toy().rollout(policy.writer(), 1, quiet)
    wild = [Group(group.written, [float("inf")] * len(group.written)) for group in groups]
    with pytest.raises(BuildError, match="diverged"):
        policy.update(wild, 1, quiet)


# ---- the loop ---------------------------------------------------------------------------------------

SHORT = replace(HOW, steps=4)

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import test_grpo_steps as t
from upwright.bodies.runtimes import transformers
transformers._use_physical_cores = lambda: torch.set_num_threads(int(sys.argv[3]))

class Deadly(t.Toy):
    def rollout(self, writer, step, tell):
        found = super().rollout(writer, step, tell)
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

t.run(Path(sys.argv[1]), Path(sys.argv[2]), Deadly(), how=t.SHORT)
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    whole = run(model, tmp_path / "whole", Toy(), how=SHORT)
    command = [sys.executable, "-c", KILLED, str(model), str(tmp_path / "cut"), str(torch.get_num_threads())]
    killed = subprocess.run(command, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert not (tmp_path / "cut" / "reinforced.json").exists()
    (tmp_path / "cut" / "state.tmp").write_bytes(b"half")  # as if the kill had come while the next was being written
    toy = Toy()
    resumed = run(model, tmp_path / "cut", toy, how=SHORT)
    assert toy.steps == [1, 2, 3, 4], "what was done is recalled, not done again"
    assert len(toy.writers) == 1, "only the last look"
    assert files(resumed) == files(whole)
    assert replace(resumed, adapter=Path()) == replace(whole, adapter=Path())
    third = Toy()
    again = run(model, tmp_path / "cut", third, how=SHORT)
    assert (again, third.steps, third.writers) == (resumed, [], []), "finished: nothing is done again"


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(model: Path, tmp_path: Path) -> None:
    one, two, other = (
        run(model, tmp_path / str(i), Toy(), seed, replace(SHORT, steps=2)) for i, seed in enumerate((1, 1, 2))
    )
    assert files(one) == files(two)
    assert files(one) != files(other)
    assert set(files(one)) == {"adapter_config.json", "adapter_model.safetensors"}
    assert all(str(tmp_path).encode() not in data for data in files(one).values())


def test_it_goes_on_from_the_champions_adapter_and_measures_from_it(model: Path, tmp_path: Path) -> None:
    first = run(model, tmp_path / "a", Toy(), how=SHORT)
    champion = tmp_path / "champion"
    champion.mkdir()
    for file in model.iterdir():
        (champion / file.name).symlink_to(file)
    (champion / "adapter").symlink_to(first.adapter)
    second = run(champion, tmp_path / "b", Toy(), how=replace(SHORT, steps=1, looks=1))
    assert second.looks[0][1] == pytest.approx(first.looks[-1][1], abs=1e-3)
    assert second.history[0]["kl"] < 0.01 < first.history[-1]["kl"], "from the champion, not from the base"


def test_a_held_out_fall_ends_it_with_the_best_adapter(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[str, bytes]] = []
    save = _reinforce._save

    def keep(model: Any, out: Path) -> None:
        save(model, out)
        saved.append((out.name, (out / "adapter_model.safetensors").read_bytes()))

    monkeypatch.setattr(_reinforce, "_save", keep)
    trained = run(model, tmp_path, Toy(held=[0.2, 0.6, 0.4, 0.9]), how=replace(SHORT, steps=6, looks=3))
    assert trained.stopped == "held-out pass@1 fell from 0.600 to 0.400"
    assert (trained.best, trained.steps, trained.looks) == (2, 4, ((0, 0.2), (2, 0.6), (4, 0.4)))
    assert saved == [("best-2", (trained.adapter / "adapter_model.safetensors").read_bytes())]


def test_a_fall_within_the_noise_ends_nothing() -> None:
    assert _reinforce._fell([1, 0, 1, 0, 1, 0, 1, 1], [0, 1, 0, 1, 1, 0, 1, 0], 0.05) == ""
    assert _reinforce._fell([0.5] * 8, [0.46] * 8, 0.05) == ""
    assert "fell from 0.500 to 0.400" in _reinforce._fell([0.5] * 8, [0.4] * 8, 0.05)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (replace(SHORT, most_kl=-1.0), "strayed from the champion"),
        (replace(SHORT, least_entropy=1.5), "entropy collapsed"),
        (replace(SHORT, tokens=1), "the budget of 1 rollout tokens is spent"),
    ],
)
def test_it_stops_itself_and_says_why(model: Path, tmp_path: Path, how: How, why: str) -> None:
    trained = run(model, tmp_path, Toy(), how=how)
    assert why in trained.stopped
    assert (trained.steps, trained.best) == (1, 1), "what was learned until then was looked at, and kept"


def test_nothing_within_reach_ends_it(model: Path, tmp_path: Path) -> None:
    trained = run(model, tmp_path / "a", Toy(few=1), how=SHORT)
    assert (trained.steps, trained.best) == (1, 1)
    assert "no practice task is within reach" in trained.stopped
    at_once = run(model, tmp_path / "b", Toy(few=0), how=SHORT)
    assert (at_once.steps, at_once.best, len(at_once.looks)) == (0, 0, 1)


def test_a_stop_is_heard_and_gone_on_from(model: Path, tmp_path: Path) -> None:
    heard: list[float] = []

    def tell(done: float, note: str) -> None:
        heard.append(done)
        if done > 2.2:
            raise Stopped("stopped by the test")

    with pytest.raises(Stopped):
        reinforce(model, RECIPE, SHORT, Toy(), tmp_path, 1, tell)
    assert heard == sorted(heard)
    assert (tmp_path / STATE).exists()
    toy = Toy()
    assert run(model, tmp_path, toy, how=SHORT).steps == 4
    assert toy.steps == [1, 2, 3, 4]
