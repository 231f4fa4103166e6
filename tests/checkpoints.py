"""Models to test with: random checkpoints of odd sizes for every architecture, and random prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from distilled_circuits.circuits.ablation import PromptTensors

VOCABULARY = 37


def _gpt2() -> PreTrainedModel:
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=32, n_embd=20, n_layer=3, n_head=5, initializer_range=0.3)
    config.bos_token_id = config.eos_token_id = 0
    return GPT2LMHeadModel(config)


def _llama() -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def _bert() -> PreTrainedModel:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY, hidden_size=20, intermediate_size=28, num_hidden_layers=3, num_attention_heads=5,
            max_position_embeddings=32, initializer_range=0.3,
        )
    )  # fmt: skip


def _distilbert() -> PreTrainedModel:
    return DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=VOCABULARY, dim=20, hidden_dim=28, n_layers=3, n_heads=5, max_position_embeddings=32,
            initializer_range=0.3,
        )
    )  # fmt: skip


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "bert": _bert,
    "distilbert": _distilbert,
}


def random_model(name: str, seed: int = 0) -> PreTrainedModel:
    """Return a small random model with eager attention; biases and norms are random too, so that none is neutral."""
    torch.manual_seed(seed)
    model = MODELS[name]()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.2, std=0.5)
    model.set_attn_implementation("eager")
    return model.eval().requires_grad_(requires_grad=False)


def random_prompts(number: int = 7, length: int = 6, seed: int = 1, corrupted_seed: int = 2) -> PromptTensors:
    """Return prompts of random tokens with random answers, distractors and corrupted partners."""
    ids, corrupted = (
        torch.randint(0, VOCABULARY, (number, length + 2), generator=torch.Generator().manual_seed(chosen))
        for chosen in (seed, corrupted_seed)
    )
    return PromptTensors(ids[:, :length], ids[:, length], ids[:, length + 1], corrupted[:, :length])
