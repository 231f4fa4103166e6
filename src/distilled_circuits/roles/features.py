"""What probes are given: activations at the places of their targets, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from distilled_circuits.lens.interface import Lens
from distilled_circuits.roles.targets import Target


@dataclass(frozen=True)
class Features:
    """Activations at a target's places.

    `residual` is (stage, prompt, place, d_model) with the embedding first, then the stream after each layer's attention
    and after its MLP; `z` is (layer, prompt, place, head, d_head).
    """

    residual: np.ndarray
    z: np.ndarray


def stage_names(layers: int) -> list[str]:
    """Return the names of the residual stages, in the order of `Features.residual`."""
    return ["embedding", *(f"L{layer} after {part}" for layer in range(layers) for part in ("attention", "MLP"))]


@torch.no_grad()
def probe_features(
    lens: Lens,
    ids: Mapping[str, torch.Tensor],
    targets: Mapping[str, Target],
    batch_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Features]:
    """Return the features of each target; `ids` has clean and corrupted prompts (prompt, pos)."""
    layers = range(lens.dimensions.layers)
    stream = [("resid_pre", 0), *((site, layer) for layer in layers for site in ("resid_mid", "resid_post"))]
    heads = [("z", layer) for layer in layers]
    read: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for run, rows in ids.items():
        wanted = [
            (name, column, target.places[:, column])
            for name, target in targets.items()
            for column, of in enumerate(target.runs)
            if of == run
        ]
        start = 0
        for batch in rows.split(batch_size):
            _, cache = lens.cache(batch, [*stream, *heads])
            every = np.arange(len(batch))
            both = [torch.stack([cache[site] for site in sites]).float().cpu().numpy() for sites in (stream, heads)]
            for name, column, place in wanted:
                here = place[start : start + len(batch)]
                read.setdefault((name, column), []).append((both[0][:, every, here], both[1][:, every, here]))
            start += len(batch)
            advance(len(batch))
    found = {}
    for name, target in targets.items():
        columns = [
            [np.concatenate(part, axis=1) for part in zip(*read[name, column], strict=True)]
            for column in range(len(target.runs))
        ]
        found[name] = Features(*(np.stack(part, axis=2) for part in zip(*columns, strict=True)))
    return found
