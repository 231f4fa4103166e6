"""Differences of accuracy between conditions, paired by prompt, and how far seeds and prompts leave them open."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.statistics import (
    bootstrap_p,
    exact_mcnemar,
    holm,
    interval_of_mean,
    percentile_interval,
    two_level_bootstrap,
)

Array = NDArray[np.floating]

PRIMARY = {
    "C1": ("ce_aligned", "ce_circuit"),
    "C2": ("ce_aligned", "ce_full"),
    "C3": ("ce_aligned", "ce_random"),
    "C4": ("ce_random", "base"),
}
"""What the second paper rests on; first less second. These four are one family for Holm's correction."""
SECONDARY = {
    "shuffled": ("ce_aligned", "ce_shuffled"),
    "hungarian": ("ce_aligned", "ce_hungarian"),
    "outside": ("ce_aligned", "ce_outside"),
    "soft_labels": ("ce_aligned", "soft_labels"),
    "direct": ("ce_aligned", "direct"),
    "align_only": ("align_only", "base"),
    "random_less_ce": ("ce_random", "ce_circuit"),
}
"""Controls and rivals that the paper has not or does not discuss: teacher rows shuffled within the batch, one-to-one
pairs, heads outside the circuit, soft labels, tuning on the teacher's own data; and each term alone."""
CONTRASTS = PRIMARY | SECONDARY
LEAST_GAP = 0.05
"""A teacher that is nearer to the base student has no gap to close: the share of it would be noise."""


@dataclass(frozen=True)
class Answers:
    """Which test prompts are answered right, 1 or 0; the same prompts in the same order for all.

    `conditions` has (seed, prompt) by name, or (seed, map, prompt) where a seed trains one student for each of several
    mappings; `base` and `teacher` are one model each, (prompt,). Raises ValueError where seeds or prompts differ.
    """

    conditions: Mapping[str, Array]
    base: Array
    teacher: Array

    def __post_init__(self) -> None:
        sizes = {(len(correct), correct.shape[-1]) for correct in self.conditions.values()}
        if len(sizes) != 1 or not len(self.base) == len(self.teacher) == self.prompts:
            raise ValueError(f"seeds or prompts differ: {sorted(sizes)}, {len(self.base)} and {len(self.teacher)}")

    @property
    def seeds(self) -> int:
        """Return how many seeds every condition has."""
        return len(next(iter(self.conditions.values())))

    @property
    def prompts(self) -> int:
        """Return how many test prompts there are."""
        return next(iter(self.conditions.values())).shape[-1]

    def models(self, name: str) -> Array:
        """Return the answers (seed, map, prompt) of a condition, or of `base` or `teacher` for every seed alike."""
        single = {"base": self.base, "teacher": self.teacher}
        if name in single:
            return np.broadcast_to(single[name].astype(float), (self.seeds, 1, self.prompts))
        correct = self.conditions[name].astype(float)
        return correct[:, None] if correct.ndim == 2 else correct

    def has(self, name: str) -> bool:
        """Return whether there are answers of that name."""
        return name in ("base", "teacher") or name in self.conditions

    def accuracy(self, name: str) -> float:
        """Return the share of right answers over seeds and maps."""
        return float(self.models(name).mean())


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test of two models: prompts that only the first, that only the second answers, of how many."""

    only_first: int
    only_second: int
    prompts: int
    p: float


@dataclass(frozen=True)
class SeedDifference:
    """One seed's difference of accuracy, mean over maps, and a test for each two models that it compares."""

    difference: float
    tests: tuple[PairedTest, ...]


@dataclass(frozen=True)
class Contrast:
    """First less second, in shares of prompts, mean over seeds.

    `interval95` is from the two-level bootstrap over seeds and prompts, `interval95_seeds` is Student's t over the
    seeds' differences (None for one seed); `p` is the bootstrap's, `p_holm` is None for a secondary contrast, which
    belongs to no family. `same_sign` counts the seeds whose difference has the sign of `value`.
    """

    name: str
    first: str
    second: str
    value: float
    interval95: tuple[float, float]
    interval95_seeds: tuple[float, float] | None
    p: float
    p_holm: float | None
    seeds: tuple[SeedDifference, ...]
    same_sign: int


def measure_contrast(
    answers: Answers, name: str, first: str, second: str, resamples: int, rng: np.random.Generator
) -> Contrast:
    """Return the contrast of two conditions.

    Maps of one seed are averaged before anything is resampled: they share its prompts, order and start, so they are no
    seeds of their own. McNemar's test compares two models, so each map has its own, and no seeds are pooled.
    """
    ours, theirs = answers.models(first), answers.models(second)
    scale = ours.shape[1] * theirs.shape[1]
    # Whole numbers up to here: a tie is exactly zero also between means over three maps.
    differences = theirs.shape[1] * ours.sum(1) - ours.shape[1] * theirs.sum(1)
    by_seed = differences.mean(1) / scale
    samples = two_level_bootstrap(differences, resamples, rng) / scale
    over_seeds = interval_of_mean(by_seed)
    return Contrast(
        name,
        first,
        second,
        value=float(by_seed.mean()),
        interval95=percentile_interval(samples),
        interval95_seeds=None if over_seeds is None else (over_seeds[0], over_seeds[1]),
        p=bootstrap_p(samples),
        p_holm=None,
        seeds=tuple(
            SeedDifference(float(difference), _tests(*models))
            for difference, *models in zip(by_seed, ours, theirs, strict=True)
        ),
        same_sign=int((np.sign(by_seed) == np.sign(by_seed.mean())).sum()),
    )


def measure_contrasts(answers: Answers, resamples: int, seed: int) -> dict[str, Contrast]:
    """Return by name all primary and secondary contrasts whose conditions are there, the primary ones after Holm.

    All are resampled by the same draws: a condition more or less changes no other contrast's interval.
    """
    found = {
        name: measure_contrast(answers, name, first, second, resamples, np.random.default_rng(seed))
        for name, (first, second) in CONTRASTS.items()
        if answers.has(first) and answers.has(second)
    }
    family = [contrast for name, contrast in found.items() if name in PRIMARY]
    adjusted = holm([contrast.p for contrast in family])
    return {**found, **{c.name: replace(c, p_holm=p) for c, p in zip(family, adjusted, strict=True)}}


def gap_closed(answers: Answers, condition: str) -> float | None:
    """Return (accuracy - base) / (teacher - base); None where the teacher is less than LEAST_GAP ahead."""
    base, teacher = answers.accuracy("base"), answers.accuracy("teacher")
    return (answers.accuracy(condition) - base) / (teacher - base) if teacher - base >= LEAST_GAP else None


def _tests(ours: Array, theirs: Array) -> tuple[PairedTest, ...]:
    """Return McNemar's test of each of our models (map, prompt) with each of theirs."""
    counts = [(int((a > b).sum()), int((b > a).sum())) for a, b in itertools.product(ours, theirs)]
    return tuple(PairedTest(*each, ours.shape[1], exact_mcnemar(*each)) for each in counts)
