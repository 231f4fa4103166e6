"""The blocks of a model as functions of the stream: what a pass needs that computes only what has changed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from distilled_circuits.lens.interface import Lens

Heads = Sequence[int] | None
"""Which heads of a layer; None stands for all of them."""


class Projection(NamedTuple):
    """Weight (out, in) and bias (out,) of a linear map, as views of the model's parameters."""

    weight: torch.Tensor
    bias: torch.Tensor | None


class Pass(NamedTuple):
    """What a block computes: z of all heads, the stream after attention, the stream after the block."""

    z: torch.Tensor
    resid_mid: torch.Tensor
    resid_post: torch.Tensor


class Blocks:
    """Each part of a forward pass, callable alone, on the model's own weights and modules.

    Streams are (..., pos, d_model), heads (..., pos, head, d_head), with any number of axes in front, so that copies of
    the prompts can be stacked without a thought for them. Nothing here knows of hooks: what a module would return is
    computed from the tensors that are handed in. Differs from the model's own pass by rounding; `self_check` compares.
    """

    def __init__(self, lens: Lens) -> None:
        self.dimensions = lens.dimensions
        self.components = lens.components
        self.architecture = lens.architecture
        self.read_at = lens.read_at
        self._model = lens.model
        self._layers = lens.blocks
        # The default scale of attention; configurations may have another.
        modules = [operator.attrgetter(self.architecture.attention)(block) for block in lens.blocks]
        self._scales = [getattr(module, "scaling", self.dimensions.d_head**-0.5) for module in modules]
        self._projections = [
            {which: self._find(block, which) for which in ("q", "k", "v", "o")} for block in self._layers
        ]
        *self._final, head = self.architecture.unembed
        self.unembedding: nn.Module = operator.attrgetter(head)(self._model)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.unembedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return self.unembedding.weight.dtype

    @property
    def read_out(self) -> slice:
        """The position that answers are read at, as a slice that keeps the axis."""
        return slice(self.read_at, self.read_at + 1 or None)

    def read(self, resid: torch.Tensor) -> torch.Tensor:
        """Return a stream (..., pos, d_model) at the position that answers are read at; it may have that one alone."""
        return resid[..., 0 if resid.shape[-2] == 1 else self.read_at, :]

    @property
    def final_norm(self) -> nn.Module:
        """The module that stands between the last stream and the unembedding, where it is one alone."""
        (path,) = self._final
        return operator.attrgetter(path)(self._model)

    def attention_input(self, layer: int, resid: torch.Tensor) -> torch.Tensor:
        """Return what q, k and v are projected from: the stream, normed where the norm stands before."""
        norm = self.architecture.qkv_norm
        return operator.attrgetter(norm)(self._layers[layer])(resid) if norm else resid

    def project(self, layer: int, which: str, normed: torch.Tensor, heads: Heads = None) -> torch.Tensor:
        """Return `q`, `k` or `v` (..., pos, head, d_head) of some heads; for k and v these are key-value heads."""
        weight, bias = self._projections[layer][which]
        size = self.dimensions.d_head
        if heads is not None:
            chosen = torch.tensor(list(heads), dtype=torch.long, device=weight.device)
            weight = weight.unflatten(0, (-1, size))[chosen].flatten(0, 1)
            bias = None if bias is None else bias.unflatten(0, (-1, size))[chosen].flatten()
        return linear(normed, weight, bias).unflatten(-1, (-1, size))

    def kv_head(self, head: int) -> int:
        """Return the key-value head that a head reads; several heads share one under grouped queries."""
        return head * self.dimensions.kv_heads // self.dimensions.heads

    def attend(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return z (..., query pos, head, d_head) of heads whose q, k and v (before rotation) are given one to one.

        Queries are at all positions or at the one that is read alone.
        """
        front = q.shape[:-3]
        q, k, v = (part.reshape(-1, *part.shape[-3:]).transpose(1, 2) for part in (q, k, v))
        if self.architecture.rotary:
            q, k = self._rotate(q, k)
        causal = self.architecture.causal and q.shape[2] > 1
        z = scaled_dot_product_attention(q, k, v, is_causal=causal, scale=self._scales[layer])
        return z.transpose(1, 2).reshape(*front, -1, z.shape[1], z.shape[3])

    def heads(self, layer: int, resid: torch.Tensor, heads: Heads = None, *, read_only: bool = False) -> torch.Tensor:
        """Return z (..., pos, head, d_head) of some heads, at all positions or at the one that is read alone."""
        normed = self.attention_input(layer, resid)
        q = self.project(layer, "q", normed[..., self.read_out, :] if read_only else normed, heads)
        if heads is None and self.dimensions.kv_heads == self.dimensions.heads:
            return self.attend(layer, q, self.project(layer, "k", normed), self.project(layer, "v", normed))
        wanted = [self.kv_head(head) for head in (range(self.dimensions.heads) if heads is None else heads)]
        needed = sorted(set(wanted))
        spread = torch.tensor([needed.index(group) for group in wanted], device=resid.device)
        k, v = (self.project(layer, which, normed, needed).index_select(-2, spread) for which in ("k", "v"))
        return self.attend(layer, q, k, v)

    def head_output(self, layer: int, z: torch.Tensor, heads: Heads = None) -> torch.Tensor:
        """Return z W_O (..., pos, d_model) of some heads, added up, without the bias."""
        weight = self._projections[layer]["o"].weight
        if heads is not None:
            chosen = torch.tensor(list(heads), dtype=torch.long, device=weight.device)
            weight = weight.unflatten(1, (-1, self.dimensions.d_head))[:, chosen].flatten(1)
        return linear(z.flatten(-2), weight)

    def attention_bias(self, layer: int) -> torch.Tensor:
        """Return the constant (d_model,) that attention adds whatever its heads do."""
        weight, bias = self._projections[layer]["o"]
        return torch.zeros(len(weight), dtype=weight.dtype, device=weight.device) if bias is None else bias

    def add_attention(self, layer: int, resid: torch.Tensor, attn_out: torch.Tensor) -> torch.Tensor:
        """Return the stream after attention, which the MLP reads (`resid_mid`)."""
        return self._norm_after(layer, 0, resid + attn_out)

    def mlp(self, layer: int, resid_mid: torch.Tensor) -> torch.Tensor:
        """Return the MLP's output (..., pos, d_model) from the stream after attention."""
        for path in self.architecture.mlp:
            resid_mid = operator.attrgetter(path)(self._layers[layer])(resid_mid)
        return resid_mid

    def add_mlp(self, layer: int, resid_mid: torch.Tensor, mlp_out: torch.Tensor) -> torch.Tensor:
        """Return the stream after the block."""
        return self._norm_after(layer, 1, resid_mid + mlp_out)

    def block(self, layer: int, resid: torch.Tensor) -> Pass:
        """Return a whole block's z and streams, at all positions."""
        z = self.heads(layer, resid)
        mid = self.add_attention(layer, resid, self.head_output(layer, z) + self.attention_bias(layer))
        return Pass(z, mid, self.add_mlp(layer, mid, self.mlp(layer, mid)))

    def final(self, resid: torch.Tensor) -> torch.Tensor:
        """Return what the unembedding reads (..., d_model) from the last stream."""
        for path in self._final:
            resid = operator.attrgetter(path)(self._model)(resid)
        return resid

    def _norm_after(self, layer: int, which: int, stream: torch.Tensor) -> torch.Tensor:
        if not self.architecture.post_norms:
            return stream
        return operator.attrgetter(self.architecture.post_norms[which])(self._layers[layer])(stream)

    def _rotate(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from transformers.models.llama.modeling_llama import rotate_half

        positions = torch.arange(k.shape[2], device=k.device)[None]
        cos, sin = operator.attrgetter(self.architecture.rotary)(self._model)(k, positions)
        rotated = [part * cos[:, -part.shape[2] :] + rotate_half(part) * sin[:, -part.shape[2] :] for part in (q, k)]
        return rotated[0], rotated[1]

    def _find(self, block: nn.Module, which: str) -> Projection:
        fused = self.architecture.fused_qkv if which in "qkv" else None
        module = operator.attrgetter(fused or self.architecture.taps["z" if which == "o" else which].path)(block)
        weight = module.weight.T if self.architecture.conv1d else module.weight
        if not fused:
            return Projection(weight, module.bias)
        part = "qkv".index(which)
        return Projection(weight.chunk(3)[part], None if module.bias is None else module.bias.chunk(3)[part])
