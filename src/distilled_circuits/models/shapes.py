"""Models before training: fresh weights of an architecture, or a student that starts from its teacher's layers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
)

from distilled_circuits.errors import UserError
from distilled_circuits.lens.architectures import architecture_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MAXIMUM_POSITIONS = 64
DEPTH = {"gpt2": "n_layer", "llama": "num_hidden_layers", "bert": "num_hidden_layers", "distilbert": "n_layers"}
"""The configuration's name for the number of layers."""
FROM_BERT = {
    "embeddings.word_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.LayerNorm": "embeddings.LayerNorm",
}
BLOCK_FROM_BERT = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
"""DistilBERT's modules by what they are called in BERT: around the blocks, and in one."""


def new_model(shape: Any, tokenizer: Any) -> PreTrainedModel:
    """Return a model with random weights and no dropout, of a shape in `models` of params.yaml; seed torch before."""
    size, end = len(tokenizer), tokenizer.eos_token_id
    if shape.architecture == "gpt2":
        return new_gpt2(size, shape.layers, shape.heads, shape.width, shape.initial_scale, end)
    if shape.architecture == "llama":
        return new_llama(size, shape.layers, shape.heads, shape.key_value_heads, shape.width, shape.initial_scale, end)
    build = new_bert if shape.architecture == "bert" else new_distilbert
    return build(size, shape.layers, shape.heads, shape.width, shape.initial_scale, tokenizer.pad_token_id)


def new_gpt2(
    vocabulary: int,
    layers: int,
    heads: int,
    width: int,
    initial_scale: float,
    end: int,
    positions: int = MAXIMUM_POSITIONS,
) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights and no dropout; seed torch before calling."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        # GPT-2's own function, in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
        initializer_range=initial_scale,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return GPT2LMHeadModel(config)


def new_llama(
    vocabulary: int, layers: int, heads: int, key_value_heads: int, width: int, initial_scale: float, end: int
) -> LlamaForCausalLM:
    """Return a Llama with random weights: rotary angles, grouped queries, root-mean-square norms, gated MLPs.

    Seed torch before calling. The gated MLP is 8/3 widths, which gives it as many weights as GPT-2's four widths.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=MAXIMUM_POSITIONS,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        initializer_range=initial_scale,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
    )
    return LlamaForCausalLM(config)


def new_bert(
    vocabulary: int, layers: int, heads: int, width: int, initial_scale: float, padding: int
) -> BertForMaskedLM:
    """Return a BERT with random weights and no dropout; seed torch before calling."""
    config = BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=MAXIMUM_POSITIONS,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        initializer_range=initial_scale,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=padding,
    )
    return BertForMaskedLM(config)


def new_distilbert(
    vocabulary: int,
    layers: int,
    heads: int,
    width: int,
    initial_scale: float,
    padding: int,
    positions: int = MAXIMUM_POSITIONS,
    inner: int | None = None,
) -> DistilBertForMaskedLM:
    """Return a DistilBERT with random weights and no dropout; seed torch before calling.

    `inner` is the MLPs' width, four times the stream's where nothing is said.
    """
    config = DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        dim=width,
        hidden_dim=inner or 4 * width,
        n_layers=layers,
        n_heads=heads,
        initializer_range=initial_scale,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=padding,
    )
    return DistilBertForMaskedLM(config)


def student_from_layers(
    teacher: PreTrainedModel, layers: Sequence[int], architecture: str | None = None
) -> PreTrainedModel:
    """Return a student that starts as a copy of the teacher's embeddings, head and named layers.

    It has the teacher's architecture, or is a DistilBERT after a BERT, whose token types it has none of: the first
    one's embedding goes into the positions'. Raises UserError for layers that the teacher has not.
    """
    kind = teacher.config.model_type
    depth = getattr(teacher.config, DEPTH[kind])
    if max(layers) >= depth:
        raise UserError(
            f"params.yaml: the student starts from teacher layer {max(layers)}, but the teacher has layers "
            f"0 to {depth - 1}: change models.*.student.layers"
        )
    if kind == "bert" and architecture == "distilbert":
        return _distilbert_from_bert(teacher, layers)
    config = type(teacher.config).from_dict({**teacher.config.to_dict(), DEPTH[kind]: len(layers)})
    student = type(teacher)(config)
    blocks = architecture_of(kind).layers
    weights = {name: value for name, value in teacher.state_dict().items() if not name.startswith(f"{blocks}.")}
    for place, layer in enumerate(layers):
        block = operator.attrgetter(blocks)(teacher)[layer]
        weights |= {f"{blocks}.{place}.{name}": value for name, value in block.state_dict().items()}
    student.load_state_dict(weights)
    return student


def _distilbert_from_bert(teacher: PreTrainedModel, layers: Sequence[int]) -> DistilBertForMaskedLM:
    config = teacher.config
    student = new_distilbert(
        config.vocab_size,
        len(layers),
        config.num_attention_heads,
        config.hidden_size,
        config.initializer_range,
        config.pad_token_id,
        config.max_position_embeddings,
        config.intermediate_size,
    )
    bert, head = teacher.bert, teacher.cls.predictions
    for own, other in FROM_BERT.items():
        _copy(student.distilbert, own, bert, other)
    with torch.no_grad():
        student.distilbert.embeddings.position_embeddings.weight += bert.embeddings.token_type_embeddings.weight[0]
    for block, layer in zip(student.distilbert.transformer.layer, layers, strict=True):
        for own, other in BLOCK_FROM_BERT.items():
            _copy(block, own, bert.encoder.layer[layer], other)
    for own, other in (("vocab_transform", "transform.dense"), ("vocab_layer_norm", "transform.LayerNorm")):
        _copy(student, own, head, other)
    student.vocab_projector.load_state_dict({"weight": head.decoder.weight, "bias": head.bias})
    return student


def _copy(own: torch.nn.Module, name: str, other: torch.nn.Module, other_name: str) -> None:
    weights = operator.attrgetter(other_name)(other).state_dict()
    operator.attrgetter(name)(own).load_state_dict(weights, strict=False)
