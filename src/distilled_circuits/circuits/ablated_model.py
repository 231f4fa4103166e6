"""A model without some of its components: passes over what is left of it, from any layer on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch

from distilled_circuits.circuits.ablation import PromptTensors, Values
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.interface import Site

Shifts = Mapping[Site, torch.Tensor]
"""What is added to activations at z, mlp_out or resid_pre of a layer: (prompt, pos, ...), like the activation."""


@dataclass(frozen=True)
class Layer:
    """What is left of a layer: its kept heads (None: all), what attention adds anyway, its MLP's stand-in.

    `attention` is (row, pos, d_model) or, without ablated heads and shifts, (d_model,); `mlp_out` (row, pos, d_model)
    is None where the MLP is kept.
    """

    kept_heads: list[int] | None
    attention: torch.Tensor
    mlp_out: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class AblatedModel:
    """Forward passes with all of `removed` replaced by `values`; what is replaced costs nothing to compute.

    `shifts` are added to activations before anything is replaced. Streams are (..., prompt, pos, d_model): axes in
    front of the prompts are copies of them. Every method computes all positions, or with `read_only` the one that
    answers are read at.
    """

    blocks: Blocks
    values: Values
    removed: frozenset[Component] = frozenset()
    shifts: Shifts = field(default_factory=dict)

    @classmethod
    def whole(cls, blocks: Blocks) -> AblatedModel:
        """Return the model with nothing removed: what is left of it is the model itself."""
        return cls(blocks, Values(torch.empty(0), torch.empty(0)))

    def without(self, components: Collection[Component], values: Values | None = None) -> AblatedModel:
        """Return the model with other components removed instead."""
        return AblatedModel(self.blocks, values or self.values, frozenset(components), self.shifts)

    def enter(self, layer: int, resid: torch.Tensor) -> torch.Tensor:
        """Return the stream as the block at `layer` reads it."""
        shift = self.shifts.get(("resid_pre", layer))
        return resid if shift is None else resid + shift.to(resid.dtype)

    def kept(self, layer: int) -> list[int]:
        """Return the heads of a layer that are not removed."""
        return [head for head in range(self.blocks.dimensions.heads) if Component(layer, head) not in self.removed]

    def layer(self, layer: int) -> Layer:
        """Return what is left of a layer."""
        return self._layers[layer] if layer in self._layers else self._layers.setdefault(layer, self._plan(layer))

    def attention(self, layer: int, resid: torch.Tensor, *, read_only: bool = False) -> torch.Tensor:
        """Return what attention adds to the stream (resid as the block reads it)."""
        left = self.layer(layer)
        fixed = left.attention
        if read_only and fixed.dim() > 1:
            fixed = fixed[..., self.blocks.read_out, :]
        if left.kept_heads == []:
            return fixed
        z = self.blocks.heads(layer, resid, left.kept_heads, read_only=read_only)
        return self.blocks.head_output(layer, z, left.kept_heads) + fixed

    def after_attention(self, layer: int, resid_mid: torch.Tensor, *, read_only: bool = False) -> torch.Tensor:
        """Return the stream after the block from the stream after its attention."""
        fixed = self.layer(layer).mlp_out
        if fixed is not None:
            return self.blocks.add_mlp(layer, resid_mid, fixed[..., self.blocks.read_out, :] if read_only else fixed)
        output = self.blocks.mlp(layer, resid_mid)
        shift = self.shifts.get(("mlp_out", layer))
        if shift is not None:
            output = output + (shift[..., self.blocks.read_out, :] if read_only else shift).to(output.dtype)
        return self.blocks.add_mlp(layer, resid_mid, output)

    def block(self, layer: int, resid: torch.Tensor, *, read_only: bool = False) -> torch.Tensor:
        """Return the stream after the block from the stream before it."""
        resid = self.enter(layer, resid)
        attention = self.attention(layer, resid, read_only=read_only)
        read = resid[..., self.blocks.read_out, :] if read_only else resid
        return self.after_attention(layer, self.blocks.add_attention(layer, read, attention), read_only=read_only)

    def finish(self, layer: int, resid: torch.Tensor) -> torch.Tensor:
        """Return what the unembedding reads (..., prompt, d_model) for the answer, from the stream at `layer`.

        Of the last block only the position that is read is computed, and all keys and values.
        """
        layers = self.blocks.dimensions.layers
        for index in range(layer, layers):
            resid = self.block(index, resid, read_only=index == layers - 1)
        return self.blocks.final(self.blocks.read(resid))

    @cached_property
    def _layers(self) -> dict[int, Layer]:
        return {}

    def _plan(self, layer: int) -> Layer:
        kept = self.kept(layer)
        ablated = [head for head in range(self.blocks.dimensions.heads) if head not in kept]
        fixed = self.blocks.attention_bias(layer)
        if ablated:
            z = self.values.z[layer][..., ablated, :].to(fixed.dtype)
            fixed = fixed + self.blocks.head_output(layer, z, ablated)
        shift = self.shifts.get(("z", layer))
        if shift is not None and kept:
            fixed = fixed + self.blocks.head_output(layer, shift[..., kept, :].to(fixed.dtype), kept)
        mlp_out = self.values.mlp_out[layer].to(fixed.dtype) if Component(layer) in self.removed else None
        return Layer(None if not ablated else kept, fixed, mlp_out)


@torch.no_grad()
def nested_means(
    blocks: Blocks, embedded: Sequence[torch.Tensor], values: Values, heads: frozenset[Component]
) -> torch.Tensor:
    """Return the mean outputs (layer, 1, pos, d_model) of all MLPs over corrupted prompts on which `heads` are ablated.

    `embedded` has the prompts' embeddings, batch by batch. These are the means of removed MLPs that the first paper's
    code took, and that its published circuits need: z at the means of the unablated model, no MLP ablated.
    """
    model = AblatedModel(blocks, values, heads)
    total: list[torch.Tensor] = [torch.zeros(())] * blocks.dimensions.layers
    for batch in embedded:
        stream = batch
        for layer in range(blocks.dimensions.layers):
            mid = blocks.add_attention(layer, stream, model.attention(layer, stream))
            output = blocks.mlp(layer, mid)
            total[layer] = total[layer].to(output.device) + output.double().sum(0, keepdim=True)
            stream = blocks.add_mlp(layer, mid, output)
    number = sum(len(batch) for batch in embedded)
    return torch.stack([(part / number).to(blocks.dtype) for part in total])


@dataclass(frozen=True, eq=False)
class ReadOut:
    """Logit differences and log-probabilities of a batch of prompts, from what the unembedding reads."""

    blocks: Blocks
    prompts: PromptTensors

    def differences(self, read: torch.Tensor) -> torch.Tensor:
        """Return logit differences (..., prompt); only the rows of answers and distractors are multiplied."""
        direction, offset = self._direction
        return (read.float() * direction).sum(-1) + offset

    def log_probabilities(self, read: torch.Tensor) -> torch.Tensor:
        """Return the log-probability (..., prompt) of each answer over the whole vocabulary."""
        logits = self.blocks.unembedding(read).float()
        answers = self.prompts.answers.expand(logits.shape[:-1])
        return logits.gather(-1, answers[..., None])[..., 0] - logits.logsumexp(-1)

    @cached_property
    def _direction(self) -> tuple[torch.Tensor, torch.Tensor | float]:
        weight, bias = self.blocks.unembedding.weight, getattr(self.blocks.unembedding, "bias", None)
        answers, distractors = self.prompts.answers, self.prompts.distractors
        direction = weight[answers].float() - weight[distractors].float()
        return direction, 0.0 if bias is None else bias[answers].float() - bias[distractors].float()
