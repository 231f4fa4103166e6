"""Intervals and tests that every comparison shares: the bootstrap, Student's t, McNemar's exact test, and Holm's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, t

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


def least_mcnemar_difference(prompts: int, discordant: int, alpha: float = 0.05) -> float | None:
    """Return the smallest difference of two accuracies on the same prompts whose exact McNemar p is below `alpha`.

    `discordant` of the prompts are answered by one model only; None when they are too few for any difference.
    """
    rarer = np.arange(discordant // 2 + 1)
    (significant,) = np.nonzero(2 * binom.cdf(rarer, discordant, 0.5) < alpha)
    return float((discordant - 2 * significant[-1]) / prompts) if len(significant) else None


def two_level_bootstrap(differences: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Return the mean (resample,) of paired differences (seed, prompt), seeds and prompts drawn with repetition.

    All seeds of one resample answer the same drawn prompts, because they share one test set: a prompt that is hard is
    hard for every seed. Prompts drawn for each seed anew would pass for seeds x prompts independent ones, and the
    interval would be too narrow. Sums of whole numbers are exact, so that no difference is exactly zero.
    """
    seeds, prompts = differences.shape
    rows = max(1, 2**21 // prompts)  # a few tens of MB at a time
    sums = []
    for start in range(0, resamples, rows):
        number = min(rows, resamples - start)
        drawn_seeds = _drawn_counts(seeds, number, rng)
        sums.append((drawn_seeds * (_drawn_counts(prompts, number, rng) @ differences.T)).sum(1))
    return np.concatenate(sums) / (seeds * prompts)


def _drawn_counts(number: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each of `number` things is drawn with repetition, (resample, thing)."""
    drawn = rng.integers(number, size=(resamples, number)) + number * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=number * resamples).reshape(resamples, number)


def bootstrap_p(samples: Array) -> float:
    """Return the two-sided p of a mean against zero: twice the share of resamples on the rarer side, at most 1.

    A resample at zero is on both sides, and the observed one counts as one more: p is never below 2 / (1 + resamples).
    """
    rarer = min((samples <= 0).sum(), (samples >= 0).sum())
    return float(min(1.0, 2 * (1 + rarer) / (1 + len(samples))))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p values of one family adjusted by Holm's step-down method, in their order."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted.tolist()
