"""Linear centred kernel alignment (CD equations 1, 2 and 6): biased, debiased, over batches, and by chance."""

from __future__ import annotations

import math

import torch


def biased_cka(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return CKA of activations x (..., row, p) and y (..., row, q), differentiable, in [0, 1] (CD eq. 1-2).

    In this cheap form HSIC's prefactors cancel. By chance alone it is high when rows are few: see `chance_cka`. Where
    either side is constant the value is 0, with gradient 0.
    """
    x, y = _centred(x), _centred(y)
    cross = (x.mT @ y).square().sum((-2, -1))
    return _ratio(cross, *((side.mT @ side).square().sum((-2, -1)) for side in (x, y)))


def debiased_cka(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return CKA of x (..., row, p) and y (..., row, q) with the unbiased HSIC of Song et al., differentiable.

    In [-1, 1], and 0 by chance; 0 with gradient 0 where either side is constant. Raises ValueError below 4 rows.
    """
    return _ratio(*_unbiased_hsic(x, y))


def chance_cka(p: int, q: int, rows: int) -> float:
    """Return what biased CKA of independent isotropic Gaussians of widths p and q is on so many rows, about."""
    return math.sqrt(p * q / ((rows + p) * (rows + q)))


def _unbiased_hsic(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return unbiased HSIC of x with y, of x with itself and of y with itself, from U-centred kernels.

    Their inner product is the estimator of Song et al. (2012); in this form HSIC(x, x) cannot come out negative.
    """
    m = x.shape[-2]
    if m < 4:
        raise ValueError(f"debiased CKA needs at least 4 rows, not {m}")
    k, l = (_u_centred(side) for side in (x, y))  # noqa: E741 - K and L are the kernels' names
    cross, own, other = ((a * b).sum((-2, -1)) / (m * (m - 3)) for a, b in ((k, l), (k, k), (l, l)))
    return cross, own, other


def _u_centred(x: torch.Tensor) -> torch.Tensor:
    m = x.shape[-2]
    # The columns' means would drop out below; without them the sums are exact where activations sit far from zero.
    x = _centred(x)
    off_diagonal = 1 - torch.eye(m, dtype=x.dtype, device=x.device)
    kernel = (x @ x.mT) * off_diagonal
    rows = kernel.sum(-1, keepdim=True) / (m - 2)
    total = kernel.sum((-2, -1), keepdim=True) / ((m - 1) * (m - 2))
    return (kernel - rows - rows.mT + total) * off_diagonal


def _centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-2, keepdim=True)


def _ratio(cross: torch.Tensor, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    scale = (own * other).clamp_min(torch.finfo(cross.dtype).tiny).sqrt()
    return torch.where(own * other > 0, cross / scale, torch.zeros_like(cross))
