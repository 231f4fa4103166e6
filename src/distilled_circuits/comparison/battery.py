"""The battery: pairs whose answer is known, scored by every variant, and how each variant orders them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.alignment import aligned
from distilled_circuits.comparison.nulls import shuffled_influence, shuffled_matching
from distilled_circuits.comparison.similarity import Similarities, problem
from distilled_circuits.comparison.variants import Variant

Array = NDArray[np.floating]

CANDIDATES = {
    "itself": "the teacher: 1 by definition",
    "permuted": "the teacher, heads in another order within each layer: the same function, so 1",
    "rotated": "the teacher, residual stream in another basis: the same function, so 1",
    "distilled": "the pair's student",
    "copied": "the student before distillation: some of the teacher's layers, which do not do the task",
    "other": "a student distilled from a second teacher, of another seed",
    "alone": "the student's shape, trained as the teacher was, without a teacher",
    "untrained": "the same before training: random weights",
    "mismatched": "a Llama trained as the teacher was",
}
"""Whom a teacher is compared with, and what is known of the answer."""
KNOWN_ORDER = ("distilled", "alone", "untrained")
"""What a score of shared mechanism should put in this order, the first highest."""


def battery_scores(
    found: Mapping[str, Similarities], variants: Mapping[str, Variant], advance: Callable[[], None] = lambda: None
) -> Array:
    """Return scores (candidate, variant, row) of similarities by candidate; NaN where a variant does not apply.

    `advance` is called after each candidate.
    """
    rows = next(iter(found.values())).teacher.rows
    scores = np.full((len(found), len(variants), rows), np.nan)
    for place, each in enumerate(found.values()):
        for index, variant in enumerate(variants.values()):
            if not any(
                problem(part, getattr(variant, part), each.teacher.record, each.student.record)
                for part in ("heads", "mlps")
            ):
                scores[place, index] = aligned(each, variant).score.score
        advance()
    return scores


def null_scores(
    found: Similarities, variants: Mapping[str, Variant], draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return scores (variant, draw) under shuffled matching and under shuffled influence."""
    matching, influence = [], []
    for variant in variants.values():
        result = aligned(found, variant)
        matching.append(shuffled_matching(found, result, variant, draws, rng))
        influence.append(shuffled_influence(found, result, draws, rng))
    return np.array(matching), np.array(influence)


def in_order(scores: Array, candidates: Sequence[str], order: Sequence[str] = KNOWN_ORDER) -> NDArray[np.bool_]:
    """Return whether scores (candidate, ...) fall along `order`, each above the next."""
    values = scores[[candidates.index(name) for name in order]]
    return (np.diff(values, axis=0) < 0).all(0)
