"""Gaussian noise on a student's activations, for the validation of the alignment score (DC section 4.2.1, Fig. 3)."""

from __future__ import annotations

import torch

from distilled_circuits.lens.interface import Change, Edit, Lens, Site

NOISED_SITES = {"components": ("z", "mlp_out"), "residual": ("resid_pre",)}
"""The readings of "the student's activations": what each component writes, or what each block reads."""


def noise_shifts(
    lens: Lens, site: str, level: float, prompts: int, positions: int, seed: int
) -> dict[Site, torch.Tensor]:
    """Return noise of standard deviation `level`, by site (prompt, pos, ...), drawn for each prompt and channel.

    The draw belongs to the seed and is the same for every level and every ablated run of a prompt: an influence is then
    a difference under one noise, and a curve over levels moves by the level alone. Level 0 gives none at all.
    """
    if level == 0:
        return {}
    generator = torch.Generator().manual_seed(seed)
    sizes = lens.dimensions
    shapes = {"z": (sizes.heads, sizes.d_head), "mlp_out": (sizes.d_model,), "resid_pre": (sizes.d_model,)}
    return {
        (name, layer): (level * torch.randn(prompts, positions, *shapes[name], generator=generator)).to(lens.device)
        for layer in range(sizes.layers)
        for name in NOISED_SITES[site]
    }


def added(shifts: dict[Site, torch.Tensor]) -> list[Edit]:
    """Return shifts as edits of a lens."""
    return [(site, _add(shift)) for site, shift in shifts.items()]


def _add(noise: torch.Tensor) -> Change:
    return lambda activation: activation + noise.to(activation.dtype)
