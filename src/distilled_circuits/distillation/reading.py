"""What a model answers and what single heads do, in one differentiable pass that computes no more than that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch

from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

Site = Literal["z", "write", "pattern"]
"""Of one head at one position: z before W_O (d_head), z W_O (d_model), or its attention over the keys (pos)."""
Reading = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Logits at the last position (prompt, vocabulary), and by site (head, prompt, width)."""


def read_heads(
    lens: HookLens,
    ids: torch.Tensor,
    heads: Sequence[Component],
    sites: Collection[Site],
    positions: torch.Tensor | None = None,
) -> Reading:
    """Return logits at the last position of prompts (prompt, pos), and what heads do at a position of each prompt.

    `positions` is (head, prompt), the last position by default. Heads may occur more than once. Gradients reach all
    weights that ask for one. Equal to a pass of the model itself but for rounding (`self_check` compares them); faster
    by a quarter or more, because above the last keys and values only what is read is computed.
    """
    # Built anew in each pass: its views of the weights know whether these want gradients.
    blocks = Blocks(lens)
    if positions is None:
        positions = torch.full((len(heads), len(ids)), ids.shape[1] - 1, device=ids.device)
    resid = lens.embed(ids)
    found: dict[str, list[torch.Tensor]] = {site: [torch.empty(0)] * len(heads) for site in sites}
    for layer in range(blocks.dimensions.layers):
        own = [n for n, head in enumerate(heads) if head.layer == layer]
        at_last = bool((positions[own] == ids.shape[1] - 1).all())
        top = layer == blocks.dimensions.layers - 1
        z = blocks.heads(layer, resid, read_only=top and at_last)
        read = _read_layer(lens, blocks, resid, z, [heads[n] for n in own], None if at_last else positions[own], sites)
        for site, values in read.items():
            for n, value in zip(own, values, strict=True):
                found[site][n] = value
        if top:
            resid, z = resid[:, -1:], z[:, -1:]
        attention = blocks.head_output(layer, z) + blocks.attention_bias(layer)
        mid = blocks.add_attention(layer, resid, attention)
        resid = blocks.add_mlp(layer, mid, blocks.mlp(layer, mid))
    logits = blocks.unembedding(blocks.final(resid[:, -1]))
    return logits, {site: torch.stack(values) for site, values in found.items() if values}


@torch.no_grad()
def read_in_batches(
    lens: HookLens,
    ids: torch.Tensor,
    heads: Sequence[Component],
    sites: Collection[Site],
    batch_size: int,
    positions: torch.Tensor | None = None,
) -> Reading:
    """Return what `read_heads` does, `batch_size` prompts at a time and without gradients: a teacher's targets."""
    starts = range(0, len(ids), batch_size)
    found = [
        read_heads(
            lens,
            ids[start : start + batch_size],
            heads,
            sites,
            None if positions is None else positions[:, start : start + batch_size],
        )
        for start in starts
    ]
    logits = torch.cat([logits for logits, _ in found])
    return logits, {site: torch.cat([read[site] for _, read in found], 1) for site in found[0][1]}


def _read_layer(
    lens: HookLens,
    blocks: Blocks,
    resid: torch.Tensor,
    z: torch.Tensor,
    heads: Sequence[Component],
    positions: torch.Tensor | None,
    sites: Collection[Site],
) -> dict[str, list[torch.Tensor]]:
    """Return for each site what heads of one layer do, (prompt, width) each; None stands for the last position."""
    if not heads:
        return {}
    layer = heads[0].layer
    rows = torch.arange(len(z), device=z.device)

    def at_positions(values: torch.Tensor, index: Sequence[int]) -> list[torch.Tensor]:
        places = [-1] * len(heads) if positions is None else positions
        return [values[rows, place, head] for place, head in zip(places, index, strict=True)]

    taken = at_positions(z, [head.head for head in heads])
    found = {"z": taken}
    if "write" in sites:
        weights = lens.output_weights(layer)
        found["write"] = [value @ weights[head.head] for value, head in zip(taken, heads, strict=True)]
    if "pattern" in sites:
        found["pattern"] = at_positions(_patterns(blocks, resid, heads, last=positions is None), range(len(heads)))
    return {site: found[site] for site in sites}


def _patterns(blocks: Blocks, resid: torch.Tensor, heads: Sequence[Component], *, last: bool) -> torch.Tensor:
    """Return attention (prompt, query pos, head, key pos) of heads of one layer, from all queries or the last alone."""
    layer, keys = heads[0].layer, resid.shape[1]
    normed = blocks.attention_input(layer, resid)
    q = blocks.project(layer, "q", normed[:, -1:] if last else normed, [head.head for head in heads])
    k = blocks.project(layer, "k", normed, [blocks.kv_head(head.head) for head in heads])
    # Values that name their own position: their mean is the attention itself.
    names = torch.eye(keys, dtype=k.dtype, device=k.device)[None, :, None].expand(len(k), -1, len(heads), -1)
    return blocks.attend(layer, q, k, names)
