"""Intervals and tests that every comparison shares: the bootstrap, and McNemar's exact test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Array = NDArray[np.floating]


def bootstrap_weights(number: int, resamples: int, rng: np.random.Generator) -> Array:
    """Return weights (resample, prompt) that sum to one: how often each prompt is drawn, over their number."""
    counts = rng.multinomial(number, np.full(number, 1 / number), size=resamples)
    return (counts / number).astype(np.float32)


def percentile_interval(samples: Array) -> tuple[float, float]:
    """Return the central 95 % of bootstrap samples."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: Array, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over its values."""
    return percentile_interval(resampled_means(values, resamples, rng))


def resampled_means(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the mean (resample,) of as many values as there are, drawn with repetition."""
    return values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test from the two counts of discordant pairs; 1 when there are none."""
    discordant = only_first + only_second
    return 1.0 if discordant == 0 else float(binomtest(only_first, discordant, 0.5).pvalue)
