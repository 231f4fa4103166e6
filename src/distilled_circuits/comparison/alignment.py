"""The alignment score in every variant (DC equations 5 to 8 and the released code): arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.matching import Pairs, greedy, hungarian, soft, top
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.scores import influence_scores, influence_size
from distilled_circuits.comparison.similarity import Similarities, problem
from distilled_circuits.comparison.variants import DOUBLED_BELOW, Variant

Array = NDArray[np.floating]


PARTS = ("score", "mean_similarity", "mean_agreement")
"""What is always reported of a score, besides the number of pairs."""


@dataclass(frozen=True)
class Score:
    """A score with its two parts, each (...,): the mean similarity alone and the mean influence agreement alone."""

    score: Array
    mean_similarity: Array
    mean_agreement: Array


@dataclass(frozen=True)
class Alignment:
    """A score with the pairs behind it.

    `pairs` (row,) is their number |M|, pairs that count twice counted twice; all others are (row, pair): components,
    similarity, influence in each model, and the weight in the means.
    """

    score: Score
    pairs: Array
    teacher: NDArray[np.integer]
    student: NDArray[np.integer]
    similarity: Array
    teacher_influence: Array
    student_influence: Array
    weight: Array


def alignment_score(
    student_influence: Array, teacher_influence: Array, similarity: Array, weight: Array | None = None
) -> Score:
    """Return the score of lists of matched pairs (..., pair): the mean of S (1 - |I_T - I_S|) (DC eq. 8).

    Influences are normalised as a variant has it (`influence_scores`), similarities are those of the pairs. `weight`
    says how much each pair counts in the means (alike by default). Needs no model.
    """
    similarity = np.asarray(similarity, dtype=float)
    weight = np.ones_like(similarity) if weight is None else np.asarray(weight, dtype=float)
    agreement = 1 - np.abs(np.asarray(teacher_influence, dtype=float) - np.asarray(student_influence, dtype=float))
    total = weight.sum(-1)
    return Score(
        score=(weight * similarity * agreement).sum(-1) / total,
        mean_similarity=(weight * similarity).sum(-1) / total,
        mean_agreement=(weight * agreement).sum(-1) / total,
    )


def align(teacher: ModelRecord, student: ModelRecord, variant: Variant, directions: int) -> Alignment:
    """Return the alignment of two models on the prompts of their records, as one row."""
    weights = equal_weights(len(teacher.unablated))
    return aligned(Similarities(*(Summary(record, weights, directions) for record in (teacher, student))), variant)


def aligned(found: Similarities, variant: Variant) -> Alignment:
    """Return the alignment for each row of prompt weights.

    Raises UserError when the two models cannot be compared by the variant's representations.
    """
    sides = (found.teacher, found.student)
    return match_and_score(
        (sides[0].drop, sides[1].drop),
        (sides[0].record.is_head, sides[1].record.is_head),
        found.heads(variant.heads),
        found.mlps(variant.mlps),
        variant,
    )


def applies(variant: Variant, teacher: ModelRecord, student: ModelRecord) -> bool:
    """Return whether two models can be compared by a variant's representations."""
    return not any(problem(part, getattr(variant, part), teacher, student) for part in ("heads", "mlps"))


def match_and_score(
    drops: tuple[Array, Array],
    is_head: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    heads: Array,
    mlps: Array,
    variant: Variant,
) -> Alignment:
    """Match components and score them, row by row (DC eq. 5, 7, 8, or what the variant has in their place).

    From the mean drops (row, component) of teacher and student, which of their components are heads, and the
    similarities of heads and of MLPs, each (row, teacher, student).
    """
    drops = drops[0].astype(np.float64), drops[1].astype(np.float64)
    if variant.rescale:
        mlps = rescaled(mlps, heads)
    parts = []
    for similarity, own, other in ((heads, *is_head), (mlps, ~is_head[0], ~is_head[1])):
        places = np.flatnonzero(own), np.flatnonzero(other)
        sizes = drops[0][:, places[0]], drops[1][:, places[1]]
        pairs = _match(similarity, *sizes, variant)
        parts.append(Pairs(places[0][pairs.teacher], places[1][pairs.student], pairs.similarity, pairs.weight))
    if variant.doubled:
        low = parts[0].similarity < DOUBLED_BELOW
        parts[0] = Pairs(parts[0].teacher, parts[0].student, parts[0].similarity, parts[0].weight * (1 + low))
    teacher, student, similarity, weight = (
        np.concatenate([getattr(part, name) for part in parts], 1)
        for name in ("teacher", "student", "similarity", "weight")
    )
    influence = [
        _influence(drop, index, weight, variant) for drop, index in zip(drops, (teacher, student), strict=True)
    ]
    pairs = weight.sum(1)
    if variant.weighting == "teacher":
        weight = _by_influence(weight, influence_size(np.take_along_axis(drops[0], teacher, 1), variant.influence))
    score = alignment_score(influence[1], influence[0], similarity, weight)
    return Alignment(score, pairs, teacher, student, similarity, *influence, weight)


def rescaled(mlps: Array, heads: Array) -> Array:
    """Move MLP similarities (row, a, b) to the mean and spread of the heads', then divide by their largest.

    As released: the spread of MLPs divides by their number, that of heads by one less, and MLP similarities that are
    not above zero stay as they are. The most similar MLPs get 1, whatever they are like.
    """
    shape = (len(mlps), -1)
    inside = mlps > 0
    mean, spread = (
        np.array([measure(row[keep]) if keep.any() else 0.0 for row, keep in zip(mlps, inside, strict=True)])
        for measure in (np.mean, np.std)
    )
    scale = np.divide(heads.reshape(shape).std(1, ddof=1), spread, out=np.zeros_like(spread), where=spread > 0)
    moved = (mlps - mean[:, None, None]) * scale[:, None, None] + heads.reshape(shape).mean(1)[:, None, None]
    moved = np.where(inside, moved, mlps)
    largest = moved.max((1, 2), keepdims=True)
    return np.divide(moved, largest, out=moved.copy(), where=largest > 0)


def _match(similarity: Array, teacher_drop: Array, student_drop: Array, variant: Variant) -> Pairs:
    backwards = variant.direction == "student_to_teacher"
    if backwards:
        similarity, teacher_drop, student_drop = similarity.swapaxes(1, 2), student_drop, teacher_drop
    if variant.matching == "hungarian":
        pairs = hungarian(similarity)
    elif variant.matching == "soft":
        pairs = soft(similarity, variant.neighbours, variant.temperature)
    elif variant.matching == "top":
        # Unclamped drops: components that cost nothing would all tie, and be ranked by where they stand.
        drops = (teacher_drop, student_drop)
        sizes = drops if variant.influence == "clamp_max" else tuple(np.abs(drop) for drop in drops)
        pairs = top(similarity, *sizes, variant.top)
    else:
        pairs = greedy(similarity)
    return pairs.reversed() if backwards else pairs


def _by_influence(weight: Array, size: Array) -> Array:
    """Return weights in proportion to influence; where nothing has any, all pairs count as before."""
    weighted = weight * size
    return np.where(weighted.sum(1, keepdims=True) > 0, weighted, weight)


def _influence(drop: Array, index: NDArray[np.integer], weight: Array, variant: Variant) -> Array:
    """Return influence scores of matched components (row, pair), normalised over all components or over the pairs."""
    if variant.over == "pairs":
        return influence_scores(np.take_along_axis(drop, index, 1), variant.influence, weight)
    return np.take_along_axis(influence_scores(drop, variant.influence), index, 1)
