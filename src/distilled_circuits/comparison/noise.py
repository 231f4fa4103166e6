"""Gaussian noise on a student's activations, for the validation of the alignment score (DC section 4.2.1, Fig. 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from distilled_circuits.errors import UserError
from distilled_circuits.lens.interface import Change, Edit, Lens, Site

NOISED_SITES = {"components": ("z", "mlp_out"), "z": ("z",), "mlp_out": ("mlp_out",), "residual": ("resid_pre",)}
"""What "the student's activations" may mean: what every component writes, heads or MLPs alone, what a block reads."""


@dataclass(frozen=True)
class Reading:
    """One reading of the paper's experiment: a site of NOISED_SITES, a layer or all, and the unit of the levels.

    `absolute` levels are in the activation's own units, `relative` ones are multiples of the standard deviation that
    the site has in that layer over prompts, tokens and channels.
    """

    site: str
    layer: int | None
    relative: bool

    def places(self, layers: int) -> list[Site]:
        """Return the noised sites of a model; raise UserError for a layer that it does not have."""
        if self.layer is not None and self.layer >= layers:
            raise UserError(
                f"params.yaml: noise.reading or noise.readings: layer {self.layer}, allowed: all, or the student's "
                f"layers 0 to {layers - 1}"
            )
        chosen = range(layers) if self.layer is None else [self.layer]
        return [(name, layer) for layer in chosen for name in NOISED_SITES[self.site]]

    def __str__(self) -> str:
        layers = "all layers" if self.layer is None else f"layer {self.layer}"
        return f"{self.site}, {layers}, {'relative' if self.relative else 'absolute'}"


def unit_noise(
    lens: Lens, reading: Reading, prompts: int, positions: int, seed: int, spreads: Mapping[Site, float]
) -> dict[Site, torch.Tensor]:
    """Return noise of level 1 by site (prompt, pos, ...), drawn afresh for each prompt, token and channel.

    The draw belongs to the seed and is the same for every level and every ablated run of a prompt: an influence is then
    a difference under one noise, and a curve over levels moves by the level alone. `spreads` are the standard
    deviations of the sites, of which relative levels are multiples.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = lens.dimensions
    shapes = {"z": (sizes.heads, sizes.d_head), "mlp_out": (sizes.d_model,), "resid_pre": (sizes.d_model,)}
    return {
        site: (
            (spreads[site] if reading.relative else 1.0)
            * torch.randn(prompts, positions, *shapes[site[0]], generator=generator)
        ).to(lens.device)
        for site in reading.places(sizes.layers)
    }


@torch.no_grad()
def spreads(lens: Lens, ids: torch.Tensor) -> dict[Site, float]:
    """Return the standard deviation of every site that can be noised, over prompts, tokens and channels."""
    sites = [(name, layer) for layer in range(lens.dimensions.layers) for name in ("z", "mlp_out", "resid_pre")]
    _, cache = lens.cache(ids, sites)
    return {site: float(values.std()) for site, values in cache.items()}


def added(shifts: Mapping[Site, torch.Tensor]) -> list[Edit]:
    """Return shifts as edits of a lens."""
    return [(site, _add(shift)) for site, shift in shifts.items()]


def _add(noise: torch.Tensor) -> Change:
    return lambda activation: activation + noise.to(activation.dtype)
