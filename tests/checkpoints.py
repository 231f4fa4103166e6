"""Models to test with: random checkpoints of odd sizes for every architecture, and random prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
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
    PreTrainedTokenizerFast,
)

from distilled_circuits.circuits.ablation import PromptTensors

VOCABULARY = 37


def _gpt2(vocabulary: int) -> PreTrainedModel:
    config = GPT2Config(vocab_size=vocabulary, n_positions=32, n_embd=20, n_layer=3, n_head=5, initializer_range=0.3)
    config.bos_token_id = config.eos_token_id = 0
    return GPT2LMHeadModel(config)


def _llama(vocabulary: int, **options: Any) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=24, intermediate_size=28, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.3, bos_token_id=0, eos_token_id=0,
            **options,
        )
    )  # fmt: skip


def _llama_scaled(vocabulary: int) -> PreTrainedModel:
    """A Llama whose rotary angles are scaled as those of Llama 3.1, with heads of another width than theirs."""
    scaling = {
        "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    }  # fmt: skip
    return _llama(vocabulary, rope_parameters=scaling, head_dim=6)


def _bert(vocabulary: int) -> PreTrainedModel:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary, hidden_size=20, intermediate_size=28, num_hidden_layers=3, num_attention_heads=5,
            max_position_embeddings=32, initializer_range=0.3,
        )
    )  # fmt: skip


def _distilbert(vocabulary: int) -> PreTrainedModel:
    return DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=vocabulary, dim=20, hidden_dim=28, n_layers=3, n_heads=5, max_position_embeddings=32,
            initializer_range=0.3,
        )
    )  # fmt: skip


MODELS: dict[str, Callable[[int], PreTrainedModel]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "llama_scaled": _llama_scaled,
    "bert": _bert,
    "distilbert": _distilbert,
}


def random_model(name: str, seed: int = 0, vocabulary: int = VOCABULARY) -> PreTrainedModel:
    """Return a small random model with eager attention; biases and norms are random too, so that none is neutral."""
    torch.manual_seed(seed)
    model = MODELS[name](vocabulary)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=0.2, std=0.5)
    model.set_attn_implementation("eager")
    return model.eval().requires_grad_(requires_grad=False)


def byte_level_tokenizer(texts: list[str], size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer like GPT-2's, trained on a few texts."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    names = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def write_checkpoint(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, **options: Any) -> None:
    """Write a model directory as anybody would: `save_pretrained` and nothing else."""
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)


def random_prompts(number: int = 7, length: int = 6, seed: int = 1, corrupted_seed: int = 2) -> PromptTensors:
    """Return prompts of random tokens with random answers, distractors and corrupted partners."""
    ids, corrupted = (
        torch.randint(0, VOCABULARY, (number, length + 2), generator=torch.Generator().manual_seed(chosen))
        for chosen in (seed, corrupted_seed)
    )
    return PromptTensors(ids[:, :length], ids[:, length], ids[:, length + 1], corrupted[:, :length])
