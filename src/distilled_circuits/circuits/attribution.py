"""Edge attribution patching: gradient times difference, a fast estimate of what path patching measures exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut
from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.circuits.edges import Edge
from distilled_circuits.circuits.paths import Trace, frozen_streams

Input = tuple[int, int | None, str]
"""An input of a component: layer, head (None for MLP and logits), part."""


def attribute_edges(
    model: AblatedModel, prompts: PromptTensors, clean: Trace, corrupted: Trace, edges: Sequence[Edge]
) -> torch.Tensor:
    """Return estimates (edge, prompt) of how much each patched edge changes the logit difference, to first order.

    One pass forward and one backward serve all edges: the gradient of the logit difference by each input of each node,
    times the change that the sender alone makes there. Where norms stand after the additions, that change is the one
    that has passed through them.
    """
    gradients = input_gradients(model, prompts, clean)
    found = {}
    with torch.no_grad():
        for sender in dict.fromkeys(edge.sender for edge in edges):
            change = corrupted.output(model, sender) - clean.output(model, sender)
            streams = frozen_streams(model, clean, sender, change)
            differences = {
                site: stream - (clean.end if site[0] == "end" else _clean(clean, site))
                for site, stream in streams.items()
            }
            for edge in edges:
                if edge.sender == sender:
                    site, key = _input_of(model, edge)
                    found[edge] = (differences[site] * gradients[key]).sum((-1, -2))
    return torch.stack([found[edge] for edge in edges])


def input_gradients(model: AblatedModel, prompts: PromptTensors, clean: Trace) -> dict[Input, torch.Tensor]:
    """Return the gradient (prompt, pos, d_model) of the summed logit differences by each input of each kept node."""
    blocks, layers = model.blocks, model.blocks.dimensions.layers
    gradients: dict[Input, torch.Tensor] = {}
    with torch.enable_grad():
        end = clean.end.detach().requires_grad_()
        total = ReadOut(blocks, prompts).differences(blocks.final(blocks.read(end))).sum()
        (down,) = torch.autograd.grad(total, end)
        gradients[layers, None, "logits"] = down
        for layer in reversed(range(layers)):
            down = _through_block(model, layer, clean, down, gradients)
    return gradients


def _through_block(
    model: AblatedModel, layer: int, clean: Trace, down: torch.Tensor, gradients: dict[Input, torch.Tensor]
) -> torch.Tensor:
    """Take the gradient by the stream after a block to the one before it; keep those by the inputs of its nodes."""
    blocks = model.blocks
    left = model.layer(layer)
    resid = clean.resid[layer].detach().requires_grad_()
    kept = model.kept(layer)
    attention, readers = left.attention.detach(), {}
    if kept:
        normed = blocks.attention_input(layer, resid)
        groups = sorted({blocks.kv_head(head) for head in kept})
        spread = torch.tensor([groups.index(blocks.kv_head(head)) for head in kept], device=resid.device)
        projected = {
            "q": blocks.project(layer, "q", normed, kept),
            **{part: blocks.project(layer, part, normed, groups) for part in "kv"},
        }
        leaves = {part: value.detach().requires_grad_() for part, value in projected.items()}
        k, v = (leaves[part].index_select(-2, spread) for part in "kv")
        attention = blocks.head_output(layer, blocks.attend(layer, leaves["q"], k, v), kept) + attention
    mid = blocks.add_attention(layer, resid, attention)
    read = mid.detach().requires_grad_()
    through_mlp = left.mlp_out is None
    output = blocks.mlp(layer, read) if through_mlp else left.mlp_out
    # The stream that goes past the MLP and the one that it reads are told apart.
    past = mid.detach().requires_grad_()
    after = blocks.add_mlp(layer, past, output)
    by_past, *by_read = torch.autograd.grad(after, [past, read] if through_mlp else [past], down)
    if through_mlp:
        gradients[layer, None, "mlp"] = by_read[0]
    at_mid = by_past + sum(by_read)
    if not kept:
        return torch.autograd.grad(mid, resid, at_mid)[0]
    by_resid, *by_leaf = torch.autograd.grad(mid, [resid, *leaves.values()], at_mid, retain_graph=True)
    for (part, leaf), gradient in zip(leaves.items(), by_leaf, strict=True):
        for index, head in enumerate(kept):
            which = index if part == "q" else int(spread[index])
            alone = torch.zeros_like(leaf)
            alone[..., which, :] = gradient[..., which, :]
            (readers[head, part],) = torch.autograd.grad(projected[part], resid, alone, retain_graph=True)
    seen = set()
    for (head, part), gradient in readers.items():
        gradients[layer, head, part] = gradient
        once = (part, head if part == "q" else blocks.kv_head(head))
        if once not in seen:  # the heads of a group share one key and one value
            seen.add(once)
            by_resid = by_resid + gradient
    return by_resid


def _clean(clean: Trace, site: tuple[str, int]) -> torch.Tensor:
    name, layer = site
    return (clean.resid if name == "resid_pre" else clean.resid_mid)[layer]


def _input_of(model: AblatedModel, edge: Edge) -> tuple[tuple[str, int], Input]:
    layers = model.blocks.dimensions.layers
    if edge.part == "logits":
        return ("end", layers), (layers, None, "logits")
    site = "resid_mid" if edge.part == "mlp" else "resid_pre"
    return (site, edge.receiver.layer), (edge.receiver.layer, edge.receiver.head, edge.part)
