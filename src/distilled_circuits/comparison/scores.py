"""Influence and robustness as numbers, from stored logit differences: no model needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.statistics import mean_interval

Array = NDArray[np.floating]


def influence_scores(unablated: Array, ablated: Array) -> Array:
    """Return influence scores in [0, 1], one a component (DC eq. 5, "clamp_max").

    `unablated` (..., prompt) and `ablated` (..., component, prompt) are logit differences. The drop of the mean is
    clamped at zero and divided by the largest drop; all scores are zero when no component's ablation costs anything.
    """
    drop = np.maximum(unablated.mean(-1)[..., None] - ablated.mean(-1), 0)
    return scale_to_largest(drop)


def scale_to_largest(drop: Array) -> Array:
    """Divide not-negative drops (..., component) by the largest of each row; rows of zeros stay zero."""
    largest = drop.max(-1, keepdims=True)
    return np.divide(drop, largest, out=np.zeros_like(drop), where=largest > 0)


def retained_percent(unablated: Array, ablated: Array) -> Array:
    """Return what is left of the mean logit difference, in percent of the unablated one, one a component.

    A ratio of means with its sign, as the first paper's code computes it; DC eq. 4 divides by the absolute value.
    """
    return 100 * ablated.mean(-1) / unablated.mean()


def mean_clipped_drop(retained: Array, resamples: int, rng: np.random.Generator) -> tuple[float, tuple[float, float]]:
    """Return the mean drop in percent over components, each clipped to [0, 100], with its 95 % interval (DC Table 2).

    The interval is the paper's: a percentile bootstrap over *components*, not over prompts.
    """
    drop = np.clip(100 - retained, 0, 100)
    return float(drop.mean()), mean_interval(drop, resamples, rng)
