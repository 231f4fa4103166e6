"""How unlike a student head and its teacher head are, as losses: CKA (CD eq. 6), a learned projection, attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from distilled_circuits.distillation.cka import biased_cka, debiased_cka

Alignment = Literal["none", "cka", "cka_debiased", "projection", "attention_kl"]

ALIGNMENTS = {
    "none": "the heads are left alone",
    "cka": "1 - CKA with the biased HSIC (CD eq. 6)",
    "cka_debiased": "1 - CKA with the unbiased HSIC",
    "projection": "error of a learned linear map from student to teacher (FitNets)",
    "attention_kl": "KL(teacher || student) of the attention of one query position (MiniLM)",
}
"""Losses of a pair of heads, by name."""

DEGENERATE = 1e-6
"""A head's spread, as a share of the median over heads, below which it has no geometry to compare."""


def projection_maps(pairs: int, p: int, q: int, seed: int) -> torch.Tensor:
    """Return linear maps (pair, p, q) to train along, at random to start with; they keep the variance of rows."""
    return torch.randn(pairs, p, q, generator=torch.Generator().manual_seed(seed)) / p**0.5


def pair_losses(
    alignment: Alignment, x: torch.Tensor, y: torch.Tensor, maps: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the loss of each pair (pair,) from student activations x (pair, row, p) and teacher's y (pair, row, q).

    For `attention_kl` these are attention patterns over the same keys. `projection` needs `maps` (pair, p, q).
    """
    if alignment == "projection":
        if maps is None:
            raise ValueError("the projection loss needs its maps")
        return unexplained_share(x, y, maps)
    losses: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
        "cka": lambda x, y: 1 - biased_cka(x, y),
        "cka_debiased": lambda x, y: 1 - debiased_cka(x, y),
        "attention_kl": attention_divergence,
    }
    return losses[alignment](x, y)


def unexplained_share(x: torch.Tensor, y: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error (pair,) of y predicted as x `maps`, both centred and of unit mean square.

    It is the share of the teacher's variance that is not explained: 0 at best, 1 for a map to nothing.
    """
    x, y = _normalised(x), _normalised(y)
    return (x @ maps - y).square().mean((-2, -1))


def attention_divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher || student) of attention patterns (pair, row, key), mean over rows (pair,)."""
    # The floor keeps the gradient of a key that the student does not look at within float32.
    log_student = student.clamp_min(1e-30).log()
    return (torch.xlogy(teacher, teacher) - teacher * log_student).sum(-1).mean(-1)


def degenerate_pairs(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return which pairs (pair,) have a side (pair, row, width) that is as good as constant.

    That is a centred norm of no more than DEGENERATE of the median over the pairs: heads that rest on the first token
    have no geometry, and CKA of their rounding errors would be noise.
    """
    norms = [(side - side.mean(-2, keepdim=True)).detach().norm(dim=(-2, -1)) for side in (x, y)]
    own, other = (norm <= DEGENERATE * norm.median() for norm in norms)
    return own | other


def mean_over_pairs(
    values: torch.Tensor, weights: torch.Tensor | None = None, skipped: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the weighted mean of values (pair,) over the pairs that are not skipped, 0 where all are.

    Weights are made to sum to one over the pairs that remain; alike by default.
    """
    weights = torch.ones_like(values) if weights is None else weights
    if skipped is not None:
        weights = weights.masked_fill(skipped, 0)
    return (weights * values).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


def _normalised(x: torch.Tensor) -> torch.Tensor:
    x = x - x.mean(-2, keepdim=True)
    scale = x.square().mean((-2, -1), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    return x / scale
