"""Path patching: what a sender does to one receiver directly, everything between the two held fixed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut
from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.circuits.edges import Edge
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.interface import Site


@dataclass(frozen=True)
class Trace:
    """One pass through an ablated model: all that a patched pass reuses.

    By layer: the stream that attention reads, `z` (..., pos, kept head, d_head), what attention adds, the stream that
    the MLP reads, the MLP's output (None where it is ablated: its stand-in is in the model). `end` is the last stream.
    """

    resid: list[torch.Tensor]
    z: list[torch.Tensor | None]
    attention: list[torch.Tensor]
    resid_mid: list[torch.Tensor]
    mlp_out: list[torch.Tensor]
    end: torch.Tensor

    def output(self, model: AblatedModel, sender: Component) -> torch.Tensor:
        """Return what a kept component adds to the stream (prompt, pos, d_model), without the constant of its layer."""
        if sender.head is None:
            return self.mlp_out[sender.layer]
        kept = model.kept(sender.layer).index(sender.head)
        return model.blocks.head_output(sender.layer, self.z[sender.layer][..., [kept], :], [sender.head])


def trace(model: AblatedModel, resid: torch.Tensor) -> Trace:
    """Run an ablated model from the embedding (prompt, pos, d_model) on and keep every intermediate."""
    blocks = model.blocks
    found = Trace([], [], [], [], [], resid)
    for layer in range(blocks.dimensions.layers):
        left = model.layer(layer)
        z = None if left.kept_heads == [] else blocks.heads(layer, resid, left.kept_heads)
        attention = left.attention if z is None else blocks.head_output(layer, z, left.kept_heads) + left.attention
        mid = blocks.add_attention(layer, resid, attention)
        output = blocks.mlp(layer, mid) if left.mlp_out is None else left.mlp_out
        for values, value in zip(
            (found.resid, found.z, found.attention, found.resid_mid, found.mlp_out),
            (resid, z, attention, mid, output),
            strict=True,
        ):
            values.append(value)
        resid = blocks.add_mlp(layer, mid, output)
    return Trace(found.resid, found.z, found.attention, found.resid_mid, found.mlp_out, resid)


def frozen_streams(
    model: AblatedModel, clean: Trace, sender: Component, change: torch.Tensor
) -> dict[Site, torch.Tensor]:
    """Return the stream after a sender whose output is changed, while every other component does what it did.

    `change` (prompt, pos, d_model) is added to the sender's output. The result has `resid_pre` and `resid_mid` of the
    layers that the sender stands before, and `end`. Where norms stand before the additions this is the clean stream
    plus the change; where they stand after them, the change passes through every norm on its way.
    """
    blocks = model.blocks
    streams: dict[Site, torch.Tensor] = {}
    start = sender.layer
    mid = clean.resid_mid[start]
    if sender.head is not None:
        mid = blocks.add_attention(start, clean.resid[start], clean.attention[start] + change)
        streams["resid_mid", start] = mid
    output = clean.mlp_out[start] + (change if sender.head is None else 0)
    stream = blocks.add_mlp(start, mid, output)
    for layer in range(start + 1, blocks.dimensions.layers):
        streams["resid_pre", layer] = stream
        mid = blocks.add_attention(layer, stream, clean.attention[layer])
        streams["resid_mid", layer] = mid
        stream = blocks.add_mlp(layer, mid, clean.mlp_out[layer])
    streams["end", blocks.dimensions.layers] = stream
    return streams


@torch.no_grad()
def patch_edges(
    model: AblatedModel,
    prompts: PromptTensors,
    clean: Trace,
    corrupted: Trace,
    edges: Sequence[Edge],
    copies: int,
    advance: Callable[[int], None] = lambda _: None,
) -> torch.Tensor:
    """Return logit differences (edge, prompt), each with one edge of `model` carrying its sender's corrupted output.

    `clean` and `corrupted` are traces of the model on the prompts and on their corrupted partners. The receiver alone
    sees the change, in one input; what follows it is recomputed, and nothing else is. `copies` passes are stacked.
    Under grouped queries a key or value is shared: a path into it reaches every kept head of the group.
    """
    out = ReadOut(model.blocks, prompts)
    found: dict[Edge, torch.Tensor] = {}
    by_sender: dict[Component, list[Edge]] = defaultdict(list)
    for edge in edges:
        by_sender[edge.sender].append(edge)
    for sender, own in by_sender.items():
        change = corrupted.output(model, sender) - clean.output(model, sender)
        streams = frozen_streams(model, clean, sender, change)
        by_layer: dict[int, list[Edge]] = defaultdict(list)
        for edge in own:
            by_layer[model.blocks.dimensions.layers if edge.receiver is None else edge.receiver.layer].append(edge)
        for layer, entering in by_layer.items():
            for start in range(0, len(entering), copies):
                chosen = entering[start : start + copies]
                ends = torch.stack([_after_receiver(model, clean, streams, edge, layer) for edge in chosen])
                found.update(zip(chosen, out.differences(model.finish(layer + 1, ends)), strict=True))
                advance(len(chosen))
    return torch.stack([found[edge] for edge in edges])


def _after_receiver(
    model: AblatedModel, clean: Trace, streams: dict[Site, torch.Tensor], edge: Edge, layer: int
) -> torch.Tensor:
    """Return the stream after the receiver's block (for the logits: the last stream) with one input changed."""
    blocks = model.blocks
    if edge.part == "logits":
        return streams["end", layer]
    if edge.part == "mlp":
        return blocks.add_mlp(layer, clean.resid_mid[layer], blocks.mlp(layer, streams["resid_mid", layer]))
    heads, z = patched_heads(model, clean, edge, streams["resid_pre", layer])
    kept = model.kept(layer)
    before = clean.z[layer][..., [kept.index(head) for head in heads], :]
    attention = clean.attention[layer] + blocks.head_output(layer, z - before, heads)
    return model.after_attention(layer, blocks.add_attention(layer, clean.resid[layer], attention))


def patched_heads(
    model: AblatedModel, clean: Trace, edge: Edge, stream: torch.Tensor
) -> tuple[list[int], torch.Tensor]:
    """Return the kept heads that an edge reaches, and their z when q, k or v is projected from `stream` instead."""
    blocks, layer, head = model.blocks, edge.receiver.layer, edge.receiver.head
    group = blocks.kv_head(head)
    heads = [head]
    if edge.part != "q":
        heads = [other for other in model.kept(layer) if blocks.kv_head(other) == group]
    read = dict.fromkeys("qkv", clean.resid[layer]) | {edge.part: stream}
    inputs = {part: blocks.attention_input(layer, resid) for part, resid in read.items()}
    q = blocks.project(layer, "q", inputs["q"], heads)
    k, v = (blocks.project(layer, part, inputs[part], [group]).expand_as(q) for part in "kv")
    return heads, blocks.attend(layer, q, k, v)
