"""Linear centred kernel alignment (CD equations 1, 2 and 6), as a loss and as a debiased measurement."""

from __future__ import annotations

import torch


def biased_cka(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return CKA of activations x (..., row, p) and y (..., row, q), differentiable, in [0, 1] (CD eq. 1-2).

    In this cheap form HSIC's prefactors cancel. By chance alone it is high when rows are few: independent Gaussians
    reach sqrt(p q / ((m + p)(m + q))) on m rows. Where either side is constant the value is 0, with gradient 0.
    """
    x, y = (side - side.mean(-2, keepdim=True) for side in (x, y))
    cross = (x.mT @ y).square().sum((-2, -1))
    norms = [(side.mT @ side).square().sum((-2, -1)) for side in (x, y)]
    scale = (norms[0] * norms[1]).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    return torch.where(norms[0] * norms[1] > 0, cross / scale, torch.zeros_like(cross))


def debiased_cka(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return CKA of x (..., row, p) and y (..., row, q) with the unbiased HSIC of Song et al.; 0 by chance.

    Needs at least 4 rows, else raises ValueError. Can be slightly negative.
    """
    rows = x.shape[-2]
    if rows < 4:
        raise ValueError(f"debiased CKA needs at least 4 rows, not {rows}")
    hsic = [_unbiased_hsic(a, b) for a, b in ((x, y), (x, x), (y, y))]
    return hsic[0] / (hsic[1] * hsic[2]).clamp_min(torch.finfo(x.dtype).tiny).sqrt()


def _unbiased_hsic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    m = x.shape[-2]
    off_diagonal = 1 - torch.eye(m, dtype=x.dtype, device=x.device)
    k, l = ((side @ side.mT) * off_diagonal for side in (x, y))  # noqa: E741 - K and L are the kernels' names
    trace = (k * l).sum((-2, -1))
    totals = k.sum((-2, -1)) * l.sum((-2, -1)) / ((m - 1) * (m - 2))
    mixed = 2 / (m - 2) * (k.sum(-2) * l.sum(-2)).sum(-1)
    return (trace + totals - mixed) / (m * (m - 3))
