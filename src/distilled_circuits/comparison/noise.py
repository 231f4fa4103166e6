"""Gaussian noise on a student's activations, for the validation of the alignment score (DC section 4.2.1, Fig. 3)."""

from __future__ import annotations

import torch

from distilled_circuits.lens.interface import Change, Edit, Lens

NOISED_SITES = {"components": ("z", "mlp_out"), "residual": ("resid_pre",)}
"""The readings of "the student's activations": what each component writes, or what each block reads."""


def noise_edits(lens: Lens, site: str, level: float, prompts: int, positions: int, seed: int) -> list[Edit]:
    """Return edits that add noise of standard deviation `level`, drawn afresh for each prompt, position and channel.

    The draw belongs to the seed and is the same for every level and every ablated run of a prompt: an influence is then
    a difference under one noise, and a curve over levels moves by the level alone. Level 0 gives no edits at all.
    """
    if level == 0:
        return []
    generator = torch.Generator().manual_seed(seed)
    sizes = lens.dimensions
    shapes = {"z": (sizes.heads, sizes.d_head), "mlp_out": (sizes.d_model,), "resid_pre": (sizes.d_model,)}
    edits: list[Edit] = []
    for layer in range(sizes.layers):
        for name in NOISED_SITES[site]:
            noise = level * torch.randn(prompts, positions, *shapes[name], generator=generator)
            edits.append(((name, layer), _add(noise.to(lens.device))))
    return edits


def _add(noise: torch.Tensor) -> Change:
    return lambda activation: activation + noise.to(activation.dtype)
