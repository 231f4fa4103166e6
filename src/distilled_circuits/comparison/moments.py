"""Second moments between two sets of channels, for many weightings of the prompts at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
AT_ONCE = 1_000_000_000
"""Bytes of single prompts' products in memory at a time."""


def weighted_moments(x: Array, y: Array, weights: Array) -> Array:
    """Return E[x yᵀ] (row, c, d) over prompts and tokens, from x (prompt, pos, c), y (prompt, pos, d).

    `weights` (row, prompt) sum to one in each row; tokens count alike. Two ways to the same sum, and the cheaper is
    taken: for few rows each is one product; for many, each prompt's product is made once and then summed by weights.
    """
    prompts, tokens = x.shape[:2]
    if len(weights) <= 2 or tokens == 1:
        flat = y.reshape(prompts * tokens, -1)
        products = [(x * row[:, None, None]).reshape(prompts * tokens, -1).T @ flat for row in weights]
        return np.array(products) / tokens
    width = (x.shape[2], y.shape[2])
    step = max(1, AT_ONCE // (x.itemsize * width[0] * width[1]))
    total: Array | float = 0.0
    for start in range(0, prompts, step):
        rows = slice(start, start + step)
        each = x[rows].transpose(0, 2, 1) @ y[rows] / tokens
        total = total + weights[:, rows] @ each.reshape(len(each), -1)
    return np.asarray(total).reshape(len(weights), *width)
