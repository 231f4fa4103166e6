"""The battery: pairs whose answer is known, scored by every variant, and how each variant orders them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.alignment import PARTS, aligned, applies
from distilled_circuits.comparison.nulls import shuffled_influence, shuffled_matching
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import Variant

Array = NDArray[np.floating]

CANDIDATES = {
    "itself": "the teacher: 1 by definition",
    "permuted": "the teacher, heads in another order within each layer: the same function, so 1",
    "rotated": "the teacher, residual stream in another basis: the same function, so 1",
    "distilled": "the pair's student",
    "copied": "the student before distillation: some of the teacher's layers and nothing learned",
    "other": "a student distilled from a second teacher, of another seed",
    "alone": "the student's shape, trained by the teacher's recipe, without a teacher",
    "untrained": "the same before training: random weights",
    "mismatched": "a Llama trained by the teacher's recipe",
}
"""Whom a teacher is compared with, and what is known of it."""
SAME_FUNCTION = ("itself", "permuted", "rotated")
"""Candidates that are the teacher itself in other clothes: every score but 1 is a failure of the variant."""
KNOWN_ORDER = ("distilled", "alone", "untrained")
"""What a score of shared mechanism should put in this order, the first highest."""
EXPECTED = (
    ("distilled", "other"),
    ("distilled", "alone"),
    ("distilled", "copied"),
    ("distilled", "untrained"),
    ("alone", "copied"),
    ("alone", "untrained"),
)
"""Pairs of students of which the first should score higher: what has learned the task, and from this teacher."""


def battery_scores(
    found: Mapping[str, Similarities], variants: Mapping[str, Variant], advance: Callable[[], None] = lambda: None
) -> Array:
    """Return score and its parts (part, candidate, variant, row) of similarities by candidate.

    NaN where a variant does not apply. `advance` is called after each candidate.
    """
    rows = next(iter(found.values())).teacher.rows
    scores = np.full((len(PARTS), len(found), len(variants), rows), np.nan)
    for place, each in enumerate(found.values()):
        for index, variant in enumerate(variants.values()):
            if applies(variant, each.teacher.record, each.student.record):
                result = aligned(each, variant).score
                scores[:, place, index] = [getattr(result, part) for part in PARTS]
        advance()
    return scores


def null_scores(
    found: Similarities, variants: Mapping[str, Variant], draws: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return scores (variant, draw) under shuffled matching and shuffled influence; NaN where one does not apply."""
    matching, influence = np.full((2, len(variants), draws), np.nan)
    for index, variant in enumerate(variants.values()):
        if applies(variant, found.teacher.record, found.student.record):
            result = aligned(found, variant)
            matching[index] = shuffled_matching(found, result, variant, draws, rng)
            influence[index] = shuffled_influence(found, result, draws, rng)
    return matching, influence


def in_order(scores: Array, candidates: Sequence[str], order: Sequence[str] = KNOWN_ORDER) -> NDArray[np.bool_]:
    """Return whether scores (candidate, ...) fall along `order`, each above the next."""
    values = scores[[candidates.index(name) for name in order]]
    return (np.diff(values, axis=0) < 0).all(0)
