"""What patches and outputs come to: recoveries of the logit difference, and how far a head is from its layer."""

from __future__ import annotations

import numpy as np

NOTHING = 1e-6
"""Differences of logits below this are rounding."""


def recovery(patched: np.ndarray, clean: np.ndarray, corrupted: np.ndarray) -> np.ndarray:
    """Return how much of the mean logit difference between corrupted and clean a patch brings back, (...).

    `patched` is (..., prompt). 0 where it changes nothing, 1 where it brings back all; 0 everywhere where clean and
    corrupted prompts give the same, so that there is nothing to bring back.
    """
    gap = clean.mean() - corrupted.mean()
    gained = patched.mean(-1) - corrupted.mean()
    return gained / gap if abs(gap) > NOTHING else np.zeros(gained.shape)


def within_layer(recovered: np.ndarray) -> np.ndarray:
    """Return recoveries (layer, ...) as shares of the sum of absolute recoveries in their layer (DC 3.1.3).

    The paper does not say how it normalises within a layer. Shares keep the sign, and say what J.1 reads off: how
    concentrated a recovery is. A layer that recovers nothing has zeros.
    """
    axes = tuple(range(1, recovered.ndim))
    total = np.abs(recovered).sum(axes, keepdims=True)
    return np.divide(recovered, total, out=np.zeros_like(recovered), where=total > 1e-12)


def z_within_layer(scores: np.ndarray) -> np.ndarray:
    """Return how many standard deviations each score (layer, head) is from the mean of its layer; 0 where all agree."""
    spread = scores.std(1, keepdims=True)
    return np.divide(scores - scores.mean(1, keepdims=True), spread, out=np.zeros_like(scores), where=spread > 1e-12)
