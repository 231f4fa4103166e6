"""What alignment reads of a model, and its summaries over prompts under many weightings of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.mlps import leading_directions
from distilled_circuits.comparison.moments import weighted_moments

Array = NDArray[np.floating]


@dataclass(frozen=True)
class ModelRecord:
    """What alignment reads of one model on one task.

    `unablated` (prompt,), `ablated` (component, prompt) logit differences, components ordered by layer, heads then MLP;
    `z` (prompt, layer, pos, head, d_head); `output_weights` W_O (layer, head, d_head, d_model); `mlp_out` (prompt,
    layer, pos, d_model); `pattern` (prompt, layer, head, query pos, key pos); `stream` (prompt, layer, d_model), the
    residual stream behind each block averaged over tokens, None where it was not cached; `read_at` counts the position
    of the answer from the end.
    """

    unablated: Array
    ablated: Array
    z: Array
    output_weights: Array
    mlp_out: Array
    pattern: Array
    stream: Array | None = None
    read_at: int = -1

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.z.shape[1]

    @property
    def heads(self) -> int:
        """Number of heads a layer."""
        return self.z.shape[3]

    @property
    def width(self) -> int:
        """Channels of the residual stream (d_model)."""
        return self.mlp_out.shape[-1]

    @property
    def tokens(self) -> int:
        """Tokens of a prompt."""
        return self.mlp_out.shape[2]

    @property
    def is_head(self) -> NDArray[np.bool_]:
        """Which components are heads (component,)."""
        return np.arange(self.layers * (self.heads + 1)) % (self.heads + 1) < self.heads


def equal_weights(prompts: int) -> Array:
    """Return the one weighting (1, prompt) in which every prompt counts alike."""
    return np.full((1, prompts), 1 / prompts, dtype=np.float32)


class Summary:
    """One model's representations for each row of prompt weights (row, prompt); each is made when first asked for.

    Products over prompts are done once for all rows: resampling then costs a weighted sum.
    """

    def __init__(self, record: ModelRecord, weights: Array, directions: int) -> None:
        self.record = record
        self.weights = weights
        self._directions = directions

    @property
    def rows(self) -> int:
        """Number of weightings."""
        return len(self.weights)

    @cached_property
    def drop(self) -> Array:
        """Mean drops of the logit difference (row, component), in float64: they are differences of large means."""
        drops = self.record.unablated.astype(np.float64) - self.record.ablated
        return self.weights.astype(np.float64) @ drops.T

    @cached_property
    def patterns(self) -> Array:
        """Mean attention patterns (row, head, query pos, key pos), heads of all layers in order."""
        pattern = self.record.pattern
        mean = self.weights @ pattern.reshape(len(pattern), -1)
        return mean.reshape(self.rows, -1, *pattern.shape[3:])

    def head_outputs(self) -> Iterator[Array]:
        """Yield for each row the mean head outputs in the residual basis (head, pos, d_model).

        The coordinates of z itself are arbitrary in each head, so those of two models cannot be compared.
        """
        for mean in self._mean_z:
            outputs = np.einsum("lphd,lhdm->lhpm", mean, self.record.output_weights, optimize=True)
            yield outputs.reshape(-1, *outputs.shape[2:])

    @cached_property
    def directions(self) -> Array:
        """Leading eigenvectors of the covariance of MLP outputs over prompts and tokens (row, mlp, k, d_model)."""
        return self._mlp_directions[0]

    @cached_property
    def uncentred_directions(self) -> Array:
        """Leading eigenvectors of the second moment, as the released code has it (row, mlp, k, d_model)."""
        return self._mlp_directions[1]

    @cached_property
    def stream_directions(self) -> Array:
        """Leading eigenvectors of the covariance of token-averaged streams over prompts (row, layer, k, d_model)."""
        if self.record.stream is None:
            raise ValueError("this record has no residual stream")
        streams = self.record.stream - self.record.stream.mean(0)
        means = np.einsum("rp,pld->rld", self.weights, streams)
        moments = [
            weighted_moments(streams[:, [layer]], streams[:, [layer]], self.weights)
            for layer in range(self.record.layers)
        ]
        return self._leading(np.stack(moments, 1), means, np.zeros_like(means))

    @cached_property
    def _mean_z(self) -> Array:
        return (self.weights @ self.record.z.reshape(len(self.record.z), -1)).reshape(-1, *self.record.z.shape[1:])

    @cached_property
    def _mlp_directions(self) -> tuple[Array, Array]:
        """Both kinds of directions, layer by layer: the second moments of one are all that is in memory."""
        # Centred once over everything, so that no large common mean cancels in the second moments.
        common = self.record.mlp_out.mean((0, 2))
        centred, uncentred = [], []
        for layer in range(self.record.layers):
            outputs = self.record.mlp_out[:, layer] - common[layer]
            means = (self.weights @ outputs.mean(1))[:, None]
            moments = weighted_moments(outputs, outputs, self.weights)[:, None]
            centred.append(self._leading(moments, means, np.zeros_like(means)))
            uncentred.append(self._leading(moments, means, means + common[layer]))
        return np.concatenate(centred, 1), np.concatenate(uncentred, 1)

    def _leading(self, moments: Array, means: Array, origin: Array) -> Array:
        """Return leading eigenvectors of moments less their means' share, plus that of `origin`, all (row, mlp, ...).

        With an origin of zero that is the covariance; with the mean of what was measured, the uncentred moment.
        """
        found = np.empty((*means.shape[:2], self._directions, self.record.width))
        for place in np.ndindex(means.shape[:2]):
            mean, base = means[place].astype(np.float64), origin[place].astype(np.float64)
            matrix = moments[place].astype(np.float64) - np.outer(mean, mean) + np.outer(base, base)
            found[place] = leading_directions(matrix, self._directions)[0]
        return found
