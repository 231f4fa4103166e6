"""The numbers of one task with their intervals: logit differences, robustness, circuit distillation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.scores import (
    baseline_problem,
    clipped_drop,
    resampled_components,
    resampled_prompts,
    retained_percent,
)
from distilled_circuits.statistics import bootstrap_weights, mean_interval, percentile_interval

Array = NDArray[np.floating]


def estimate(values: Array, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return a mean over prompts with its 95 % bootstrap interval."""
    return {"value": float(values.mean()), "interval95": list(mean_interval(values, resamples, rng))}


def logit_difference_summary(
    teacher: Array, student: Array, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the models' mean logit differences, their difference (paired by prompt) and mean (DC Tables 3 and 4)."""
    return {
        "teacher": estimate(teacher, resamples, rng),
        "student": estimate(student, resamples, rng),
        "difference": estimate(teacher - student, resamples, rng),
        "mean": estimate((teacher + student) / 2, resamples, rng),
    }


def robustness_summary(
    unablated: dict[str, Array],
    ablated: dict[str, Array],
    parameters: dict[str, int],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return mean clipped drops (DC Table 2) and their growth with compression (Appendix L), with two intervals each.

    `interval95` is the paper's, over *components*: would other ones have given the same mean? `interval95_prompts` is
    over prompts, drawn for both models alike: would other prompts? `why_none` says why there are no percentages.
    """
    problems = {model: baseline_problem(unablated[model]) for model in ("teacher", "student")}
    weights = bootstrap_weights(len(unablated["teacher"]), resamples, rng)
    summary: dict[str, Any] = {}
    samples: dict[str, tuple[Array, Array]] = {}
    for model, problem in problems.items():
        if problem:
            summary[model] = {"value": None, "interval95": None, "interval95_prompts": None, "why_none": problem}
            continue
        retained = retained_percent(unablated[model], ablated[model])
        samples[model] = (
            resampled_components(retained, resamples, rng),
            resampled_prompts(unablated[model], ablated[model], weights),
        )
        above = {f"share_above_{level}": float((100 - retained > level).mean()) for level in (10, 20)}
        summary[model] = {**_with_two_intervals(float(clipped_drop(retained).mean()), samples[model]), **above}
        summary[model]["why_none"] = None
    compression = 1 - parameters["student"] / parameters["teacher"]
    summary["compression"] = compression
    summary["difference"] = summary["brittleness"] = None
    if len(samples) == len(problems):
        value = summary["student"]["value"] - summary["teacher"]["value"]
        both = tuple(theirs - ours for ours, theirs in zip(samples["teacher"], samples["student"], strict=True))
        summary["difference"] = _with_two_intervals(value, both)
        if compression > 0:
            per_tenth = 0.1 / compression
            summary["brittleness"] = _with_two_intervals(value * per_tenth, tuple(part * per_tenth for part in both))
    return summary


def _with_two_intervals(value: float, samples: tuple[Array, ...]) -> dict[str, Any]:
    components, prompts = (list(percentile_interval(part)) for part in samples)
    return {"value": value, "interval95": components, "interval95_prompts": prompts}
