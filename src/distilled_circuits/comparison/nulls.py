"""What a score is worth by chance: partners or influences dealt out anew, eigenvectors with other signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.alignment import Alignment, alignment_score, match_and_score, rescaled
from distilled_circuits.comparison.mlps import signed_mean_similarity
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import Variant

Array = NDArray[np.floating]


def shuffled_matching(
    found: Similarities, result: Alignment, variant: Variant, draws: int, rng: np.random.Generator
) -> Array:
    """Return scores (draw,) with the partners of the first row dealt out anew within each kind.

    A pair's similarity is then that of its new partner: what is left is what any two components have in common.
    """
    heads, mlps = found.heads(variant.heads)[:1], found.mlps(variant.mlps)[:1]
    similarity = (heads, rescaled(mlps, heads) if variant.rescale else mlps)
    teacher, student = result.teacher[0], result.student[0]
    order = _dealt(found.teacher.record.is_head[teacher], draws, rng)
    places = [_places(side.record.is_head) for side in (found.teacher, found.student)]
    is_head = found.teacher.record.is_head[teacher]
    own, other = places[0][teacher], places[1][student[order]]
    values = np.empty(order.shape)
    for kind, matrix in ((is_head, similarity[0][0]), (~is_head, similarity[1][0])):
        values[:, kind] = matrix[own[kind], other[:, kind]]
    influences = result.student_influence[0][order], np.broadcast_to(result.teacher_influence[0], order.shape)
    return alignment_score(*influences, values, np.broadcast_to(result.weight[0], order.shape)).score


def shuffled_influence(found: Similarities, result: Alignment, draws: int, rng: np.random.Generator) -> Array:
    """Return scores (draw,) with the student's influences of the first row dealt out anew within each kind."""
    order = _dealt(found.teacher.record.is_head[result.teacher[0]], draws, rng)
    shape = order.shape
    return alignment_score(
        result.student_influence[0][order],
        np.broadcast_to(result.teacher_influence[0], shape),
        np.broadcast_to(result.similarity[0], shape),
        np.broadcast_to(result.weight[0], shape),
    ).score


def other_signs(found: Similarities, variant: Variant, draws: int, rng: np.random.Generator) -> Array:
    """Return scores (draw,) of a variant with `signed_mean` MLPs when eigenvectors come with random signs.

    The signs are arbitrary, so all these scores are of the same two models.
    """
    directions = [side.uncentred_directions[:1] for side in (found.teacher, found.student)]
    turned = [side * rng.choice([-1, 1], size=(draws, *side.shape[1:3], 1)) for side in directions]
    sides = (found.teacher, found.student)
    return match_and_score(
        tuple(np.repeat(side.drop[:1], draws, 0) for side in sides),
        tuple(side.record.is_head for side in sides),
        np.repeat(found.heads(variant.heads)[:1], draws, 0),
        signed_mean_similarity(*turned),
        variant,
    ).score.score


def _dealt(is_head: NDArray[np.bool_], draws: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """Return orders (draw, pair) of the pairs in which heads change places with heads and MLPs with MLPs."""
    order = np.tile(np.arange(len(is_head)), (draws, 1))
    for kind in (is_head, ~is_head):
        order[:, kind] = rng.permuted(order[:, kind], axis=1)
    return order


def _places(is_head: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Return each component's index among those of its kind."""
    return np.where(is_head, np.cumsum(is_head), np.cumsum(~is_head)) - 1
