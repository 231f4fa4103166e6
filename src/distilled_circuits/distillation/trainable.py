"""Which weights training may change: those of some heads, slice by slice, or all."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import nn

from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

KeyValues = Literal["any", "none"]
"""Whether a key-value block is trained: if `any` of the query heads that share it is chosen, or never."""


class Masked(NamedTuple):
    """A parameter of which heads own a part, and where it is theirs (a mask of its shape)."""

    parameter: nn.Parameter
    mask: torch.Tensor


def head_masks(lens: HookLens, heads: Collection[Component], kv: KeyValues = "any") -> list[Masked]:
    """Return the parameters that heads own a part of (CD: "only matched circuit head parameters").

    Theirs are the outputs of W_Q, W_K, W_V with their biases, and the inputs of W_O, whose bias is nobody's. Under
    grouped queries several heads share one block of W_K and W_V: see KeyValues.
    """
    return [masked for layer in sorted({head.layer for head in heads}) for masked in _of_layer(lens, layer, heads, kv)]


def trained_parameters(lens: HookLens, heads: Collection[Component] | None, kv: KeyValues = "any") -> int:
    """Return how many numbers are trained: those of some heads, or of the whole model for None."""
    if heads is None:
        return sum(parameter.numel() for parameter in lens.model.parameters())
    return sum(int(mask.sum()) for _, mask in head_masks(lens, heads, kv))


@contextmanager
def trainable(lens: HookLens, heads: Collection[Component] | None, kv: KeyValues = "any") -> Iterator[None]:
    """Let gradients reach all weights (None), or only the slices of some heads; freeze everything again afterwards.

    Outside the slices gradients are exactly zero, so that momentum and clipping leave the weights there bit-equal, as
    long as there is no weight decay.
    """
    lens.model.requires_grad_(heads is None)
    hooks = []
    for parameter, mask in [] if heads is None else head_masks(lens, heads, kv):
        parameter.requires_grad_(requires_grad=True)
        hooks.append(parameter.register_hook(lambda gradient, frozen=~mask: gradient.masked_fill(frozen, 0)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        lens.model.requires_grad_(requires_grad=False)


def _of_layer(lens: HookLens, layer: int, heads: Collection[Component], kv: KeyValues) -> list[Masked]:
    sizes, architecture = lens.dimensions, lens.architecture
    own = [head.head for head in heads if head.layer == layer]
    shared = [head * sizes.kv_heads // sizes.heads for head in own] if kv == "any" else []
    queries, keys = _numbers(own, sizes.heads, lens), _numbers(shared, sizes.kv_heads, lens)
    if architecture.fused_qkv:
        parts = [(architecture.fused_qkv, torch.cat([queries, keys, keys]))]
    else:
        parts = [(architecture.taps[name].path, queries if name == "q" else keys) for name in "qkv"]
    found = []
    for path, outputs in parts:
        module = operator.attrgetter(path)(lens.blocks[layer])
        found.append(_masked(module.weight, outputs, 1 if architecture.conv1d else 0))
        if module.bias is not None:
            found.append(Masked(module.bias, outputs))
    output = operator.attrgetter(architecture.taps["z"].path)(lens.blocks[layer])
    found.append(_masked(output.weight, queries, 0 if architecture.conv1d else 1))
    return [masked for masked in found if masked.mask.any()]


def _numbers(heads: Collection[int], total: int, lens: HookLens) -> torch.Tensor:
    """Return which numbers of all heads side by side (head x d_head,) belong to some heads."""
    chosen = torch.zeros(total, lens.dimensions.d_head, dtype=torch.bool, device=lens.device)
    chosen[list(heads)] = True
    return chosen.flatten()


def _masked(weight: nn.Parameter, chosen: torch.Tensor, axis: int) -> Masked:
    return Masked(weight, (chosen if axis == 1 else chosen[:, None]).expand_as(weight))
