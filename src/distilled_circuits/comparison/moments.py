"""Second moments between two sets of channels, for many weightings of the prompts at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


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
    each = x.transpose(0, 2, 1) @ y / tokens
    return (weights @ each.reshape(prompts, -1)).reshape(len(weights), *each.shape[1:])
