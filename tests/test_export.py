from __future__ import annotations

import json
from pathlib import Path

import pytest

import synthetic
from upwright.errors import ProjectError, StorageError
from upwright.export import export
from upwright.founding import found
from upwright.project import Project


@pytest.fixture
def project() -> Project:
    return Project.open(synthetic.past())


def test_a_body_without_weights_comes_out_as_its_parts(project: Project, tmp_path: Path) -> None:
    made = export(project, "3", tmp_path / "out")
    assert (made / "prompt.md").read_bytes() == synthetic.PROMPT
    assert {p.name for p in made.iterdir()} == {
        "README.md", "lineage.json", "prompt.md", "inference.toml", "memory.jsonl", "model.toml",
    }  # fmt: skip
    (made / "prompt.md").write_text("writable\n")
    assert len(json.loads((made / "lineage.json").read_text())["generations"]) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_card_tells_lineage_evidence_licence_and_limits(project: Project, tmp_path: Path) -> None:
    card = (export(project, "2", tmp_path / "out") / "README.md").read_text()
    for piece in (
        "## Lineage",
        "| 1 | prompt |",
        "| 2 | inference |",
        "## Evidence",
        "## Limits",
        "multiplying",
        "## Licence",
    ):
        assert piece in card
    assert "| 3 | memory" not in card
    assert "<script>" not in card


def test_hugging_face_weights_are_at_the_top(tmp_path: Path) -> None:
    """No adapter: files are copied as they are, and nothing heavy is imported."""
    root = tmp_path / "demo"
    synthetic.write_project(root)
    model = root / "body" / "model"
    model.mkdir()
    (root / "body" / "model.toml").unlink()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "generation_config.json").write_text('{"temperature": 0.9, "eos_token_id": 2}')
    (model / "origin.toml").write_text('name = "owner/base"\nlicence = "Apache-2.0"\n')
    (root / "body" / "inference.toml").write_text("temperature = 0.5\nsamples = 3\n")
    project = Project.open(root)
    found(project)
    made = export(project, "0", tmp_path / "out")
    assert (made / "model.safetensors").read_bytes() == b"weights"
    config = json.loads((made / "generation_config.json").read_text())
    assert config == {"do_sample": True, "eos_token_id": 2, "max_new_tokens": 48, "temperature": 0.5, "top_p": 1.0}
    card = (made / "README.md").read_text()
    assert 'license: "apache-2.0"' in card
    assert 'base_model: "owner/base"' in card
    assert "3 sample(s) per question" in card


def test_refusals(project: Project, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    with pytest.raises(ProjectError, match="not empty"):
        export(project, "1", tmp_path / "full")
    with pytest.raises(ProjectError, match="no such generation"):
        export(project, "17", tmp_path / "out")
    with pytest.raises(StorageError):
        export(project, "1", Path("/proc/nowhere/out"))
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_merged(tmp_path: Path) -> None:
    """Plain transformers loads the export, and its weights are W + (alpha / rank) · B A."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from upwright.testing.tiny import tiny_model

    root = tmp_path / "demo"
    synthetic.write_project(root)
    (root / "body" / "model.toml").unlink()
    model = tiny_model(root / "body" / "model")
    name = "model.layers.0.self_attn.q_proj"
    draw = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 32, generator=draw), torch.randn(32, 4, generator=draw)
    (model / "adapter").mkdir()
    lora = {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
    save_file(lora, model / "adapter" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj"]}
    (model / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    project = Project.open(root)
    found(project)
    made = export(project, "0", tmp_path / "out")
    assert not (made / "adapter").exists()
    assert (made / "tokenizer.json").is_file()
    before = load_file(model / "model.safetensors")
    after = AutoModelForCausalLM.from_pretrained(made).state_dict()
    for key, old in before.items():
        new = old + 2 * up @ down if key == f"{name}.weight" else old
        assert torch.allclose(after[key], new, atol=1e-5), key
