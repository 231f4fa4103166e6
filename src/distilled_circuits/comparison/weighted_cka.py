"""Linear CKA between all components of two models, for many weightings of the prompts at once (CD eq. 1-2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.moments import weighted_moments

Array = NDArray[np.floating]
CENTRINGS = ("all", "by_position")
"""Over prompts and tokens with one mean; with a mean at each position, so that only what varies between prompts
counts."""


def weighted_cka(teacher: Array, student: Array, weights: Array, centring: str) -> Array:
    """Return biased linear CKA (row, teacher component, student component), in [0, 1]; 0 where either is constant.

    Values are (prompt, layer, pos, part, channel), a component being a part of a layer, with widths of their own;
    `weights` (row, prompt) sum to one in each row. By chance alone it is above zero when rows are few (see
    `distillation.cka.biased_cka`, the same on equal weights).
    """
    own, other = ([_Layer(side[:, n], weights) for n in range(side.shape[1])] for side in (teacher, student))
    norms = [
        np.concatenate([np.sqrt(_squares(a, a, weights, centring, same=True)) for a in side], 1)
        for side in (own, other)
    ]
    cross = np.concatenate([np.concatenate([_squares(a, b, weights, centring) for b in other], 2) for a in own], 1)
    scale = norms[0][:, :, None] * norms[1][:, None, :]
    return np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0)


class _Layer:
    """A layer's values (prompt, pos, part, channel), centred once over everything, and their weighted means."""

    def __init__(self, values: Array, weights: Array) -> None:
        # A large common mean would cancel in the moments.
        centred = values - values.mean((0, 1))
        self.parts, self.channels = values.shape[2:]
        self.flat = centred.reshape(*values.shape[:2], -1)
        self.at_positions = (weights @ self.flat.reshape(len(values), -1)).reshape(len(weights), values.shape[1], -1)


def _squares(a: _Layer, b: _Layer, weights: Array, centring: str, *, same: bool = False) -> Array:
    """Return squared Frobenius norms of cross-covariances (row, part, part); of each part with itself if `same`."""
    tokens = a.flat.shape[1]
    covariance = weighted_moments(a.flat, b.flat, weights)
    if centring == "all":
        covariance -= a.at_positions.mean(1)[:, :, None] * b.at_positions.mean(1)[:, None, :]
    else:
        covariance -= a.at_positions.transpose(0, 2, 1) @ b.at_positions / tokens
    blocks = covariance.reshape(len(weights), a.parts, a.channels, b.parts, b.channels)
    squares = np.einsum("racbd,racbd->rab", blocks, blocks, optimize=True).astype(np.float64)
    return np.diagonal(squares, axis1=1, axis2=2) if same else squares
