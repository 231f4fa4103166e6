"""Influence and robustness as numbers, from stored logit differences: no model needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.statistics import resampled_means

Array = NDArray[np.floating]


SCORES = {
    "clamp_max": "the drop clamped at zero, over the largest drop (DC eq. 5)",
    "abs_l1": "the absolute change, over the sum of all absolute changes (the released code)",
    "abs_max": "the absolute change, over the largest absolute change",
    "l2": "the change with its sign, over the root of the sum of squares",
}
"""Influence scores by name; all are made from the mean drop of the logit difference."""
SMALLEST_BASELINE = 0.01
"""A mean logit difference (in logits) below which shares of it mean nothing: the odds differ by less than 1 %."""


def baseline_problem(unablated: Array) -> str | None:
    """Say why percentages of a logit difference (prompt,) mean nothing, and what to do; None if they do mean something.

    The mean must stand apart from zero: by two standard errors over prompts, and by SMALLEST_BASELINE logits.
    """
    mean = float(unablated.mean())
    error = float(unablated.std(ddof=1) / np.sqrt(len(unablated))) if len(unablated) > 1 else 0.0
    if abs(mean) >= SMALLEST_BASELINE and abs(mean) > 2 * error:
        return None
    return (
        f"the mean logit difference of the unablated model is {mean:.3g} with a standard error of {error:.2g}, too "
        "near zero for shares of it to mean anything; take a task that the model can do, or raise prompts.number"
    )


def influence_scores(unablated: Array, ablated: Array, kind: str = "clamp_max") -> Array:
    """Return influence scores (..., component) of a kind (see SCORES), from stored logit differences alone.

    `unablated` is (..., prompt), `ablated` (..., component, prompt). All scores of a row are zero when no ablation
    changes anything (for clamp_max: when none costs anything).
    """
    drop = unablated.mean(-1)[..., None] - ablated.mean(-1)
    if kind == "clamp_max":
        return scale_to_largest(np.maximum(drop, 0))
    if kind == "abs_max":
        return scale_to_largest(np.abs(drop))
    size = {"abs_l1": np.abs(drop).sum(-1, keepdims=True), "l2": np.linalg.norm(drop, axis=-1, keepdims=True)}[kind]
    values = np.abs(drop) if kind == "abs_l1" else drop
    return np.divide(values, size, out=np.zeros_like(values), where=size > 0)


def scale_to_largest(drop: Array) -> Array:
    """Divide not-negative drops (..., component) by the largest of each row; rows of zeros stay zero."""
    largest = drop.max(-1, keepdims=True)
    return np.divide(drop, largest, out=np.zeros_like(drop), where=largest > 0)


def retained_percent(unablated: Array, ablated: Array) -> Array:
    """Return what is left of the mean logit difference, in percent of the unablated one, one a component.

    A ratio of means with its sign, as the first paper's code computes it; DC eq. 4 divides by the absolute value.
    """
    return 100 * ablated.mean(-1) / unablated.mean()


def clipped_drop(retained: Array) -> Array:
    """Return drops in percent (..., component), each clipped to [0, 100], from what is retained (DC Table 2)."""
    return np.clip(100 - retained, 0, 100)


def resampled_components(retained: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the mean clipped drop for each resample of the components: the bootstrap of the paper's Table 2."""
    return resampled_means(clipped_drop(retained), resamples, rng)


def resampled_prompts(unablated: Array, ablated: Array, weights: Array) -> Array:
    """Return the mean clipped drop for each row of prompt weights (resample, prompt), over all components."""
    retained = 100 * (weights @ ablated.T) / (weights @ unablated)[:, None]
    return clipped_drop(retained).mean(1)
