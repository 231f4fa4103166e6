"""Role detectors: which head puts its attention where a role's head would, and whether that stands out from chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation, norm

from distilled_circuits.roles.cells import Cells

Array = NDArray[np.floating]
TINY = 1e-9
"""Differences of attention below this are rounding."""


@dataclass(frozen=True)
class RoleScores:
    """How far every head (layer, head) plays one role, in [0, 1]; its null, by shuffled positions (draw, layer, head).

    `chance` is the score of a head that spreads its attention evenly over the keys that it may read.
    """

    score: Array
    shuffled: Array
    chance: float


@dataclass(frozen=True)
class Verdict:
    """Heads (layer, head) that play a role: those that stand out on all three counts.

    `score` and `chance` are those of RoleScores; `expected` is a head's mean score under its null, and `excess` what
    its score has above that, 1 at most. `shuffled_p` is the share of shuffles in which any head of the model exceeds
    its own expectation by as much. `outlier` is the excess' distance from the heads' median in robust standard
    deviations.
    """

    score: Array
    chance: float
    expected: Array
    excess: Array
    shuffled_p: Array
    outlier: Array
    plays: NDArray[np.bool_]


def role_scores(patterns: Array, cells: Cells, draws: int, rng: np.random.Generator, *, causal: bool) -> RoleScores:
    """Return how much attention every head puts on a role's cells, and on cells that are not its own.

    `patterns` is (prompt, layer, head, query, key). The score is the attention inside the cells, averaged over the
    queries that have any and then over prompts. In a draw each prompt is given the cells of another: what a head pays
    for habit, to places as such. Where all prompts have the same cells that says nothing; there the keys of each query
    change places instead, the same for all prompts, in at least `draws` draws.
    """
    weights = _weights(cells)
    length = cells.shape[-1]
    allowed = np.arange(1, length + 1) if causal else np.full(length, length)
    chance = float((weights.sum((0, 2)) / allowed).sum())
    if (cells == cells[0]).all():
        return RoleScores(*_by_places(patterns, weights, draws, rng, causal), chance)
    return RoleScores(*_by_prompts(patterns, weights, draws, rng), chance)


def _weights(cells: Cells) -> Array:
    """Return the weight of each cell: one over the prompt's queries that have cells, and over prompts that have any."""
    queries = cells.any(-1).sum(-1)
    prompts = (queries > 0).sum()
    return cells / np.maximum(queries, 1)[:, None, None] / prompts


def _by_prompts(patterns: Array, weights: Array, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return scores, and those with cells dealt out anew among prompts."""
    prompts, layers, heads = patterns.shape[:3]
    # What each prompt's pattern pays to each prompt's cells: all that any dealing can ask for.
    paid = patterns.reshape(prompts, layers, heads, -1) @ weights.reshape(prompts, -1).T.astype(patterns.dtype)
    rows = np.arange(prompts)
    shuffled = np.stack([paid[rows, :, :, rng.permutation(prompts)].sum(0) for _ in range(draws)])
    return paid[rows, :, :, rows].sum(0).astype(float), shuffled.astype(float)


def _by_places(
    patterns: Array, weights: Array, draws: int, rng: np.random.Generator, causal: bool
) -> tuple[Array, Array]:
    """Return scores, and those with other keys in place of each query's keys."""
    length = patterns.shape[-1]
    mean, weight = patterns.mean(0).astype(float), weights.sum(0)
    rows = np.arange(length)[:, None]
    places = _shuffled_keys(length, draws, causal, rng)
    return (mean * weight).sum((-1, -2)), np.stack(
        [(mean[:, :, rows, place] * weight).sum((-1, -2)) for place in places]
    )


def _shuffled_keys(length: int, draws: int, causal: bool, rng: np.random.Generator) -> Iterator[NDArray[np.integer]]:
    """Yield for each query (row) the key in place of each key that it may read.

    In as many draws as there are places each key comes to each place once (a random Latin square), its own included: so
    a role that is one fixed cell among n never gets a p below 1 / n.
    """
    allowed = [query + 1 if causal else length for query in range(length)]
    for _ in range(-(-draws // length)):
        squares = [(rng.permutation(number), rng.permutation(number)) for number in allowed]
        for step in range(length):
            places = np.tile(np.arange(length), (length, 1))
            for row, (order, place) in zip(places, squares, strict=True):
                row[: len(order)] = place[(order + step) % len(order)]
            yield places


def verdict(scores: RoleScores, minimum: float, level: float) -> Verdict:
    """Say which heads play a role.

    Three counts: the excess over the head's own expectation is at least `minimum`; in less than `level` of the shuffles
    any head of the model goes as far beyond its own; and among the heads the excess is an outlier, beyond the normal
    quantile that `level` leaves for all of them together (Bonferroni), by median and MAD. The second holds false
    positives at `level` for the model as a whole, the third keeps off what most heads do. A head alone in its model has
    no others to stand out from.
    """
    expected = scores.shuffled.mean(0)
    excess = (scores.score - expected) / np.maximum(1 - expected, TINY)
    farthest = (scores.shuffled - expected).max((1, 2))[:, None, None]
    shuffled_p = (1 + (farthest >= scores.score - expected - TINY).sum(0)) / (1 + len(scores.shuffled))
    spread = median_abs_deviation(excess, axis=None, scale="normal")
    outlier = (excess - np.median(excess)) / max(float(spread), TINY)
    beyond = norm.isf(level / excess.size) if excess.size > 1 else -np.inf
    plays = (excess >= minimum) & (shuffled_p < level) & (outlier > beyond)
    return Verdict(scores.score, scores.chance, expected, excess, shuffled_p, outlier, plays)


def best_head(found: Verdict) -> tuple[int, int]:
    """Return layer and head of the largest excess, the first of equals; of those that play the role, if any do."""
    candidates = np.where(found.plays, found.excess, -np.inf) if found.plays.any() else found.excess
    layer, head = np.unravel_index(int(candidates.argmax()), candidates.shape)
    return int(layer), int(head)
