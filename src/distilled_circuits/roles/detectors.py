"""Role detectors: which head puts its attention where a role's head would, and whether that stands out from chance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation, norm

from distilled_circuits.roles.cells import Cells

Array = NDArray[np.floating]


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

    `score` and `chance` are those of RoleScores; `excess` is what a score has above chance, 1 at most.
    `shuffled_p` is the share of shuffles in which any head scores as much. `outlier` is the score's distance from the
    other heads' median in robust standard deviations.
    """

    score: Array
    chance: float
    excess: Array
    shuffled_p: Array
    outlier: Array
    plays: NDArray[np.bool_]


def role_scores(patterns: Array, cells: Cells, draws: int, rng: np.random.Generator, *, causal: bool) -> RoleScores:
    """Return how much attention every head puts on a role's cells, and on as many cells that are drawn.

    `patterns` is (prompt, layer, head, query, key). The score is the attention inside the cells, averaged over the
    queries that have any and then over prompts. In a draw each key of a query is replaced by one that it may read, the
    same for all prompts: what a head pays to as many places elsewhere. There are at least `draws` draws.
    """
    weights = _weights(cells)
    # Attention at key c when the role's cell is at key k: all that any permutation of keys can ask for.
    meeting = np.einsum("pqk,plhqc->lhqkc", weights, patterns, optimize=True)
    length = cells.shape[-1]
    rows, keys = np.arange(length)[:, None], np.arange(length)[None, :]
    score = meeting[:, :, rows, keys, keys].sum((-1, -2))
    places = _shuffled_keys(length, draws, causal, rng)
    shuffled = np.stack([meeting[:, :, rows, keys, place].sum((-1, -2)) for place in places])
    allowed = np.arange(1, length + 1) if causal else np.full(length, length)
    chance = float((weights.sum((0, 2)) / allowed).sum())
    return RoleScores(score, shuffled, chance)


def _weights(cells: Cells) -> Array:
    """Return the weight of each cell: one over the prompt's queries that have cells, and over prompts that have any."""
    queries = cells.any(-1).sum(-1)
    prompts = (queries > 0).sum()
    return cells / np.maximum(queries, 1)[:, None, None] / prompts


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

    Three counts: the excess over chance is at least `minimum`; in less than `level` of the shuffles any head of the
    model scores as much; and among the heads the score is an outlier, beyond the normal quantile that `level` leaves
    for all of them together (Bonferroni), by median and MAD. The second holds false positives at `level` for the model
    as a whole, the third keeps off what most heads do. A head alone in its model has no others to stand out from.
    """
    excess = (scores.score - scores.chance) / (1 - scores.chance)
    strongest = scores.shuffled.max((1, 2))[:, None, None]
    shuffled_p = (1 + (strongest >= scores.score - 1e-12).sum(0)) / (1 + len(scores.shuffled))
    spread = median_abs_deviation(scores.score, axis=None, scale="normal")
    outlier = (scores.score - np.median(scores.score)) / max(float(spread), 1e-12)
    beyond = norm.isf(level / scores.score.size) if scores.score.size > 1 else -np.inf
    plays = (excess >= minimum) & (shuffled_p < level) & (outlier > beyond)
    return Verdict(scores.score, scores.chance, excess, shuffled_p, outlier, plays)


def best_head(found: Verdict) -> tuple[int, int]:
    """Return layer and head of the highest score, the first of equals; of those that play the role, if any do."""
    candidates = np.where(found.plays, found.score, -1.0) if found.plays.any() else found.score
    layer, head = np.unravel_index(int(candidates.argmax()), candidates.shape)
    return int(layer), int(head)
