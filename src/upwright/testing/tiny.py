"""A tiny random Llama, for tests that need real weights and no time: about 100 KB, loaded in milliseconds."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write a random Llama (hidden 32, 2 layers, 4 heads on 2 key-value heads) in the Hugging Face layout.

    The tokenizer knows the 256 bytes, some merges and three special tokens, and has a ChatML template.
    The same seed gives the same bytes.

    Raises:
        ModuleNotFoundError: torch, transformers or tokenizers is not installed.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    size = _write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> int:
    """Write a byte-level BPE tokenizer; returns its vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["what is the answer to this question user assistant system"] * 2, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
        unk_token=SPECIAL[0],
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())
