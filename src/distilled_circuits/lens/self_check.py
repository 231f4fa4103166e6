"""A few short passes that show, at every load, that a lens reads and edits what it says."""

from __future__ import annotations

import torch

from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Lens

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.bfloat16: 0.1}
"""Largest difference that counts as rounding; in bfloat16, of three digits, as a share of what is compared."""


@torch.no_grad()
def self_check(lens: Lens) -> dict[str, float]:
    """Return the largest error of each check; raise UserError that names those above the tolerance.

    Checks: the stream adds up, block to block; attention rows sum to one; heads write z W_O and a constant; the
    read-out equals the logits; an edit changes the logits; a restarted pass equals the full one, and so does one that
    is put together from the parts of the blocks.
    """
    sizes, relative = lens.dimensions, lens.model.dtype == torch.bfloat16
    layers = range(sizes.layers)
    tokens = torch.arange(2 * 5, device=lens.device).reshape(2, 5) * 7 % sizes.vocabulary
    names = ("resid_pre", "resid_post", "attn_out", "mlp_out", "pattern", "z")
    logits, cache = lens.cache(tokens, [(name, layer) for layer in layers for name in names])
    stream = [cache["resid_pre", layer] for layer in layers]
    stream.append(cache["resid_post", sizes.layers - 1])

    def apart(found: torch.Tensor, expected: torch.Tensor, *, scaled: bool = relative) -> float:
        return _largest(found - expected) / (max(1.0, _largest(expected)) if scaled else 1.0)

    errors = {
        "read-out": apart(lens.unembed(stream[-1])[:, lens.read_at], logits),
        "chain": max(apart(cache["resid_post", n], stream[n + 1]) for n in layers),
        "attention rows": max(_largest(cache["pattern", n].float().sum(-1) - 1) for n in layers),
        "output weights": max(
            _bias_spread(lens, n, cache["z", n], cache["attn_out", n])
            / (max(1.0, _largest(cache["attn_out", n])) if relative else 1.0)
            for n in layers
        ),
    }
    if not lens.architecture.post_ln:
        errors["sum of outputs"] = max(
            apart(stream[n] + cache["attn_out", n] + cache["mlp_out", n], stream[n + 1]) for n in layers
        )
    without_heads = [(("z", sizes.layers - 1), torch.zeros_like)]
    edited = lens.run(tokens, without_heads)
    errors["edit without effect"] = float(torch.equal(edited, logits))
    if isinstance(lens, HookLens):
        errors["restart"] = max(apart(lens.run_from(n, stream[n], without_heads), edited) for n in layers)
        # Another order of sums: its rounding grows with the size of what is added up.
        errors["blocks"] = apart(_from_blocks(Blocks(lens), lens.embed(tokens)), logits, scaled=True)
    wrong = {name: error for name, error in errors.items() if not error <= TOLERANCE[lens.model.dtype]}
    if wrong:
        found = ", ".join(f"{name}: {error:.2g}" for name, error in wrong.items())
        raise UserError(
            f"{type(lens).__name__} does not read this {lens.architecture.model_type} model correctly ({found}); "
            "install the versions in constraints.txt"
        )
    return errors


def _from_blocks(blocks: Blocks, resid: torch.Tensor) -> torch.Tensor:
    """Return logits of a pass that calls every part of every block by itself."""
    for layer in range(blocks.dimensions.layers):
        attention = blocks.head_output(layer, blocks.heads(layer, resid)) + blocks.attention_bias(layer)
        mid = blocks.add_attention(layer, resid, attention)
        resid = blocks.add_mlp(layer, mid, blocks.mlp(layer, mid))
    return blocks.unembedding(blocks.final(blocks.read(resid)))


def _bias_spread(lens: Lens, layer: int, z: torch.Tensor, attn_out: torch.Tensor) -> float:
    """Return how far attn_out - z W_O is from one constant vector, the bias."""
    bias = attn_out - torch.einsum("nphd,hdm->npm", z, lens.output_weights(layer))
    return _largest(bias - bias.mean((0, 1)))


def _largest(difference: torch.Tensor) -> float:
    return difference.abs().max().item()
