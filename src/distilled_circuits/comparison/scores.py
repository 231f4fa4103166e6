"""Influence and robustness as numbers, from stored logit differences: no model needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.variants import INFLUENCES
from distilled_circuits.statistics import percentile_interval, resampled_means

Array = NDArray[np.floating]

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


def mean_drop(unablated: Array, ablated: Array) -> Array:
    """Return mean drops of the logit difference (..., component) from stored ones.

    `unablated` is (..., prompt), `ablated` (..., component, prompt).
    """
    return unablated.mean(-1)[..., None] - ablated.mean(-1)


def influence_scores(drop: Array, kind: str = "clamp_max", weight: Array | None = None) -> Array:
    """Return influence scores (..., component) of a kind (see INFLUENCES) from mean drops alone (DC eq. 5).

    A drop is what ablation takes from the logit difference, in logits or in percent: units cancel. `weight` says how
    often each entry counts in sums, for lists in which a component stands more than once. All scores of a row are
    zero when no ablation changes anything (for clamp_max: when none costs anything).
    """
    drop = np.asarray(drop, dtype=float)
    size = influence_size(drop, kind)
    weight = np.ones_like(size) if weight is None else weight
    if kind in ("clamp_max", "abs_max"):
        norm = np.where(weight > 0, size, 0).max(-1, keepdims=True)
    elif kind == "abs_l1":
        norm = (weight * size).sum(-1, keepdims=True)
    else:
        norm = np.sqrt((weight * size**2).sum(-1, keepdims=True))
    values = drop if kind == "l2" else size
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)


def influence_size(drop: Array, kind: str) -> Array:
    """Return how much each component counts for a kind, before normalisation: its drop clamped at zero, or its size."""
    if kind not in INFLUENCES:
        raise ValueError(f"influence {kind!r}, allowed: {', '.join(INFLUENCES)}")
    return np.maximum(drop, 0) if kind == "clamp_max" else np.abs(drop)


def retained_percent(unablated: Array, ablated: Array) -> Array:
    """Return what is left of the mean logit difference, in percent of the unablated one, one a component.

    A ratio of means with its sign, as the first paper's code computes it; DC eq. 4 divides by the absolute value.
    """
    return 100 * ablated.mean(-1) / unablated.mean()


def clipped_drop(retained: Array) -> Array:
    """Return drops in percent (..., component), each clipped to [0, 100], from what is retained (DC Table 2)."""
    return np.clip(100 - retained, 0, 100)


def mean_clipped_drop(retained: Array, resamples: int = 10000, seed: int = 42) -> tuple[float, tuple[float, float]]:
    """Return the mean clipped drop in percent and its 95 % interval over components (DC Table 2).

    `retained` (component,) is what each ablation leaves, in percent of the unablated logit difference. The interval is
    the paper's: percentiles of the means of as many components, drawn with repetition (NumPy's default generator).
    """
    samples = resampled_components(np.asarray(retained, dtype=float), resamples, np.random.default_rng(seed))
    return float(clipped_drop(np.asarray(retained, dtype=float)).mean()), percentile_interval(samples)


def resampled_components(retained: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the mean clipped drop for each resample of the components: the bootstrap of the paper's Table 2."""
    return resampled_means(clipped_drop(retained), resamples, rng)


def resampled_prompts(unablated: Array, ablated: Array, weights: Array) -> Array:
    """Return the mean clipped drop for each row of prompt weights (resample, prompt), over all components."""
    retained = 100 * (weights @ ablated.T) / (weights @ unablated)[:, None]
    return clipped_drop(retained).mean(1)
