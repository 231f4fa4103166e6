"""Path patching: what a sender does to one receiver directly, everything between them held fixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Edit


@dataclass(frozen=True)
class Receiver:
    """The end of a path: an input of a component (`q`, `k`, `v` of a head, `mlp`), or `logits`."""

    part: str
    component: Component | None = None


@torch.no_grad()
def patch_path(
    lens: HookLens, ids: torch.Tensor, sender: Component, change: torch.Tensor, receiver: Receiver
) -> torch.Tensor:
    """Return logits (prompt, vocabulary) when only `receiver` sees `sender`'s output changed.

    `change` (prompt, pos, d_model) is what the sender's contribution to the residual stream changes by. All other
    components that read the stream see it unchanged; what follows the receiver is recomputed. A sender must stand
    before the receiver; a head and the MLP of its own layer are such a path too. Raises ValueError for a path that does
    not exist, or where norms stand after the additions (a direct path is not a sum there).
    """
    if lens.architecture.post_ln:
        raise ValueError(f"direct paths are not defined by sums on {lens.architecture.model_type} (post-norm)")
    if receiver.part == "logits":
        last = ("resid_post", lens.dimensions.layers - 1)
        return lens.run(ids, [(last, lambda resid: resid + change)])
    if receiver.component is None or not _stands_before(sender, receiver.component):
        raise ValueError(f"there is no path from {sender} to {receiver.component}")
    return lens.run(ids, [_edit(lens, ids, change, receiver)])


def contribution_change(lens: HookLens, sender: Component, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return the change of a sender's contribution (prompt, pos, d_model) from its activations.

    For a head these are z (prompt, pos, d_head), which W_O takes to the stream; for an MLP its outputs.
    """
    difference = after - before
    if sender.head is None:
        return difference
    return difference @ lens.output_weights(sender.layer)[sender.head]


def _stands_before(sender: Component, receiver: Component) -> bool:
    same_layer_to_mlp = sender.head is not None and receiver.head is None
    return sender.layer < receiver.layer or (sender.layer == receiver.layer and same_layer_to_mlp)


def _edit(lens: HookLens, ids: torch.Tensor, change: torch.Tensor, receiver: Receiver) -> Edit:
    layer = receiver.component.layer
    if receiver.part == "mlp":
        _, clean = lens.cache(ids, [("resid_mid", layer)])
        outputs = lens.mlp(layer, clean["resid_mid", layer] + change)
        return ("mlp_out", layer), lambda _: outputs
    _, clean = lens.cache(ids, [("resid_pre", layer)])
    # Grouped queries: the key and value of a group are one tensor, so a path to one of its heads reaches all.
    index = receiver.component.head
    if receiver.part in ("k", "v"):
        index = index * lens.dimensions.kv_heads // lens.dimensions.heads
    patched = lens.project(layer, receiver.part, clean["resid_pre", layer] + change)

    def edit(activation: torch.Tensor) -> torch.Tensor:
        activation = activation.clone()
        activation[:, :, index] = patched[:, :, index]
        return activation

    return (receiver.part, layer), edit
