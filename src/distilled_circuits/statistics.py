"""Intervals and tests that every comparison shares: the bootstrap, Student's t, and McNemar's exact test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

Array = NDArray[np.floating]


def bootstrap_weights(number: int, resamples: int, rng: np.random.Generator) -> Array:
    """Return weights (resample, prompt) that sum to one: how often each prompt is drawn, over their number."""
    counts = rng.multinomial(number, np.full(number, 1 / number), size=resamples)
    return (counts / number).astype(np.float32)


def subset_weights(number: int, size: int, draws: int, rng: np.random.Generator) -> Array:
    """Return weights (draw, prompt) that sum to one: `size` different prompts each time, which count alike."""
    order = rng.permuted(np.tile(np.arange(number), (draws, 1)), axis=1)
    return ((order < size) / size).astype(np.float32)


def percentile_interval(samples: Array) -> tuple[float, float]:
    """Return the central 95 % of bootstrap samples."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def recentred_interval(value: float, samples: Array) -> tuple[float, float]:
    """Return the central 95 % of samples, moved so that their mean is `value`.

    Resampled prompts repeat themselves, which moves a similarity by itself: the spread is theirs, the place is not.
    """
    low, high = percentile_interval(samples)
    shift = value - float(samples.mean())
    return low + shift, high + shift


def weighted_mean(values: Array, weights: Array) -> dict[str, Any]:
    """Return a mean over prompts (prompt,) with its 95 % interval, from weights (resample, prompt)."""
    return {"value": float(values.mean()), "interval95": list(percentile_interval(weights @ values))}


def weighted_ratio(part: Array, whole: Array, weights: Array) -> dict[str, Any]:
    """Return the ratio of two means over prompts, resampled together, with its 95 % interval."""
    samples = (weights @ part) / (weights @ whole)
    return {"value": float(part.mean() / whole.mean()), "interval95": list(percentile_interval(samples))}


def mean_interval(values: Array, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over its values."""
    return percentile_interval(resampled_means(values, resamples, rng))


def resampled_means(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the mean (resample,) of as many values as there are, drawn with repetition."""
    return values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)


def interval_of_mean(values: Array) -> list[float] | None:
    """Return the 95 % interval of the mean of independent values (value,) by Student's t; None for a single one."""
    if len(values) < 2:
        return None
    mean, reach = values.mean(), t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(mean - reach), float(mean + reach)]


def interval_over_splits(values: Array, tested: float = 0.2) -> tuple[Array, Array, Array]:
    """Return the mean over at least two random splits (..., split) and its 95 % interval by Student's t.

    `tested` is the share of the prompts that each split tests. Splits share most of what they are fitted on; their
    variance is widened for that by the correction of Nadeau and Bengio (2003).
    """
    number = values.shape[-1]
    mean = values.mean(-1)
    reach = t.ppf(0.975, number - 1) * values.std(-1, ddof=1) * np.sqrt(1 / number + tested / (1 - tested))
    return mean, mean - reach, mean + reach


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test from the two counts of discordant pairs; 1 when there are none."""
    discordant = only_first + only_second
    return 1.0 if discordant == 0 else float(binomtest(only_first, discordant, 0.5).pvalue)
