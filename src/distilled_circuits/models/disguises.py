"""The same model in other clothes: heads in another order, or another basis of the residual stream; GPT-2 only."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import ortho_group
from transformers import GPT2Config, GPT2LMHeadModel

from distilled_circuits.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def permute_heads(model: PreTrainedModel, seed: int) -> GPT2LMHeadModel:
    """Return a copy whose heads stand in another order within each layer: the same function, other names."""
    _check(model)
    other = copy.deepcopy(model)
    heads, rng = model.config.n_head, np.random.default_rng(seed)
    for block in other.transformer.h:
        order = torch.from_numpy(rng.permutation(heads))
        for parameter in (block.attn.c_attn.weight, block.attn.c_attn.bias):
            parameter.data = parameter.data.unflatten(-1, (3, heads, -1))[..., order, :].flatten(-3)
        weight = block.attn.c_proj.weight
        weight.data = weight.data.unflatten(0, (heads, -1))[order].flatten(0, 1)
    return other


def rotate_stream(model: PreTrainedModel, seed: int) -> GPT2LMHeadModel:
    """Return a copy whose residual stream has another basis: the same function, to float32 rounding.

    A rotation that keeps the mean over channels passes through LayerNorm once gains and biases are folded into what
    reads them; embedding and unembedding are then no longer one matrix.
    """
    _check(model)
    rotation = _rotation_that_keeps_means(model.config.n_embd, seed)
    config = GPT2Config.from_dict({**model.config.to_dict(), "tie_word_embeddings": False})
    other = GPT2LMHeadModel(config)
    other.set_attn_implementation("eager")  # as every loaded model: patterns need it
    other.load_state_dict({**model.state_dict(), "lm_head.weight": model.lm_head.weight.clone()})
    stack = other.transformer
    for block in stack.h:
        for norm, reads in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
            gain, shift, weight, bias = (
                tensor.data.double() for tensor in (norm.weight, norm.bias, reads.weight, reads.bias)
            )
            _set(reads.weight, rotation.T @ (gain[:, None] * weight))
            _set(reads.bias, bias + shift @ weight)
            _set(norm.weight, torch.ones_like(gain))
            _set(norm.bias, torch.zeros_like(shift))
        for writes in (block.attn.c_proj, block.mlp.c_proj):
            _set(writes.weight, writes.weight.data.double() @ rotation)
            _set(writes.bias, writes.bias.data.double() @ rotation)
    for embedding in (stack.wte, stack.wpe):
        _set(embedding.weight, embedding.weight.data.double() @ rotation)
    gain, shift = stack.ln_f.weight.data.double(), stack.ln_f.bias.data.double()
    _set(other.lm_head.weight, (other.lm_head.weight.data.double() * gain) @ rotation)
    _set(stack.ln_f.bias, (shift / gain) @ rotation)
    _set(stack.ln_f.weight, torch.ones_like(gain))
    return other.to(model.device).eval().requires_grad_(requires_grad=False)


def _rotation_that_keeps_means(size: int, seed: int) -> torch.Tensor:
    """Return an orthogonal matrix (size, size) that maps the vector of ones onto itself."""
    basis, _ = np.linalg.qr(np.column_stack([np.ones(size), np.eye(size)[:, 1:]]))
    turned = np.eye(size)
    turned[1:, 1:] = ortho_group.rvs(size - 1, random_state=np.random.default_rng(seed))
    return torch.from_numpy(basis @ turned @ basis.T)


def _set(parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
    parameter.data = value.to(parameter.dtype)


def _check(model: PreTrainedModel) -> None:
    if model.config.model_type != "gpt2":
        raise UserError(f"the battery disguises GPT-2 models only, not {model.config.model_type}")
