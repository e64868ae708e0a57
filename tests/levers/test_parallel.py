from __future__ import annotations

import pytest
import torch

from upwright.levers._parallel import Shards, shared
from upwright.levers._sft import _answer_loss, _collate
from upwright.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


ROWS = [([5, 6, 7, 8, 9, 3], 3), ([9, 8, 7, 3], 1), ([4, 4, 6, 5, 2, 8, 7, 3], 6), ([6, 7, 3], 2), ([5, 3, 9, 9, 3], 2)]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_the_parts_add_up_to_the_whole_batch(model, threads):
    batch = _collate(ROWS, pad=0)
    model.zero_grad()
    whole = _answer_loss(model, batch)
    whole.backward()
    wanted = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    shards = Shards(threads)
    loss = shards.backward(model, batch, _answer_loss)
    shards.close()
    assert float(loss) == pytest.approx(float(whole.detach()), abs=1e-5)
    for parameter, grad in zip(model.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, grad, atol=1e-5)
    model.zero_grad()


def test_gradients_accumulate_as_backward_does(model):
    batch = _collate(ROWS, pad=0)
    model.zero_grad()
    shards = Shards(2)
    shards.backward(model, batch, _answer_loss)
    once = [p.grad.clone() for p in model.parameters()]
    shards.backward(model, batch, _answer_loss)
    shards.close()
    for parameter, grad in zip(model.parameters(), once, strict=True):
        assert torch.allclose(parameter.grad, 2 * grad, atol=1e-5)
    model.zero_grad()


def test_an_error_in_a_part_is_the_step_s(model):
    shards = Shards(2)

    def fails(_model, _batch):
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        shards.backward(model, _collate(ROWS, pad=0), fails)
    shards.close()


def test_threads_are_given_back(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("upwright.bodies.runtimes.replicas.cores", lambda: 2)
    before = torch.get_num_threads()
    with shared(8, able=True) as shards:
        assert shards.threads == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("cores", "batch", "able"), [(1, 8, True), (2, 1, True), (2, 8, False)])
def test_one_thread_where_more_would_not_help(monkeypatch, cores, batch, able):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("upwright.bodies.runtimes.replicas.cores", lambda: cores)
    with shared(batch, able) as shards:
        assert shards is None


def test_the_user_s_word_on_threads_stands(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with shared(8, able=True) as shards:
        assert shards is None
