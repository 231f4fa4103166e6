"""What alignment reads of a model, measured: one sweep and one cached pass, under the same noise if there is any."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from distilled_circuits.circuits.ablation import PromptTensors, Replacement
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.comparison.noise import added
from distilled_circuits.comparison.representations import ModelRecord
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Site
from distilled_circuits.stages.inputs import to_numpy


@torch.no_grad()
def measured_record(
    lens: HookLens,
    prompts: PromptTensors,
    replaced: Replacement,
    batch_size: int,
    shifts: Mapping[Site, torch.Tensor] | None = None,
) -> ModelRecord:
    """Return a model's record on prompts; `shifts` are added to activations in every pass."""
    shifts = dict(shifts or {})
    layers = range(lens.dimensions.layers)
    sweep = influence_sweep(lens, prompts, replaced, batch_size, shifts=shifts)
    after = [("resid_pre", layer) for layer in layers[1:]] + [("resid_post", layers[-1])]
    sites = [(site, layer) for site in ("z", "mlp_out", "pattern") for layer in layers]
    _, cache = lens.cache(prompts.ids, [*sites, *after], added(shifts))

    def stacked(name: str) -> torch.Tensor:
        return torch.stack([cache[name, layer] for layer in layers], dim=1)

    return ModelRecord(
        unablated=to_numpy(sweep.unablated),
        ablated=to_numpy(sweep.ablated),
        z=to_numpy(stacked("z")),
        output_weights=to_numpy(torch.stack([lens.output_weights(layer) for layer in layers])),
        mlp_out=to_numpy(stacked("mlp_out")),
        pattern=to_numpy(stacked("pattern")),
        stream=to_numpy(torch.stack([cache[site].mean(1) for site in after], dim=1)),
        read_at=lens.read_at,
    )
