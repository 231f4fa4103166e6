"""What heads write, read as words: how often the answer or another token is among the first that a head promotes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens


@torch.no_grad()
def promoted(
    lens: HookLens, ids: torch.Tensor, targets: Mapping[str, torch.Tensor], first: int, batch_size: int
) -> dict[str, np.ndarray]:
    """Return for each target (prompt,) whether it is among the `first` tokens that a head promotes.

    Shape (layer, head, prompt), bool. What a head writes where the answer is read, z W_O without the bias that all
    heads of a layer share, is sent through the final norm and the unembedding as if it were the whole stream (DC J.3,
    after Gould et al.). On sequences the mean over prompts is the *successor score* for the answer, and for the last
    element, which is the distractor, the *copy score*.
    """
    blocks = Blocks(lens)
    parts = []
    start = 0
    for batch in ids.split(batch_size):
        rows = slice(start, start + len(batch))
        resid, found = lens.embed(batch), []
        for layer in range(blocks.dimensions.layers):
            z, _, resid = blocks.block(layer, resid)
            found.append([_among(blocks, layer, head, z, targets, rows, first) for head in range(z.shape[-2])])
        parts.append(np.array([[[hit.cpu().numpy() for hit in head] for head in layer] for layer in found]))
        start += len(batch)
    joined = np.concatenate(parts, axis=-1)
    return {name: joined[:, :, index] for index, name in enumerate(targets)}


def _among(
    blocks: Blocks,
    layer: int,
    head: int,
    z: torch.Tensor,
    targets: Mapping[str, torch.Tensor],
    rows: slice,
    first: int,
) -> list[torch.Tensor]:
    written = blocks.head_output(layer, z[:, blocks.read_at, [head]], [head])
    logits = blocks.unembedding(blocks.final(written)).float()
    # A token is among the first when fewer than that many others have a larger logit.
    return [(logits > logits.gather(1, target[rows, None])).sum(1) < first for target in targets.values()]
