"""How far a circuit depends on the prompts that it was found with: pruning and edge selection on resampled prompts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from distilled_circuits.circuits.edges import edge_drop
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.pruning import NoCircuitError, prune_nodes
from distilled_circuits.lens.components import Component
from distilled_circuits.statistics import bootstrap_weights


@dataclass(frozen=True)
class NodeStability:
    """Circuits on resampled prompts against the one on all of them.

    `reference` is the circuit on all prompts; `selected` (resample, component) says what each resample kept, in the
    order of all components, with no row where the resample has no logit difference to lose (`failed` of them).
    """

    reference: tuple[Component, ...]
    selected: np.ndarray
    jaccard: np.ndarray
    failed: int


def resampled_circuits(
    sets: NodeSets,
    threshold: float,
    resamples: int,
    rng: np.random.Generator,
    advance: Callable[[], None] = lambda: None,
) -> NodeStability:
    """Prune on prompts drawn with repetition, as many as there are, and compare with pruning on all of them.

    A set of nodes that several resamples come by is run once. Raises NoCircuitError when all prompts have none.
    """
    reference = prune_nodes(sets, threshold).nodes
    selected, failed = [], 0
    for weights in bootstrap_weights(len(sets.differences(())), resamples, rng):
        try:
            nodes = prune_nodes(sets, threshold, weights).nodes
            selected.append([component in nodes for component in sets.components])
        except NoCircuitError:
            failed += 1
        advance()
    kept = np.array(selected, dtype=bool).reshape(-1, len(sets.components))
    return NodeStability(reference, kept, jaccard_to([c in reference for c in sets.components], kept), failed)


def resampled_edges(
    patched: np.ndarray,
    circuit: np.ndarray,
    full: np.ndarray,
    threshold: float,
    relative_to: str,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return which edges (resample, edge) the threshold keeps on resampled prompts, the nodes being given."""
    weights = bootstrap_weights(len(full), resamples, rng)
    return np.array([edge_drop(patched, circuit, full, relative_to, row) > threshold for row in weights])


def jaccard_to(reference: Collection[bool], selected: np.ndarray) -> np.ndarray:
    """Return |A and B| / |A or B| of a selection (item,) and each row of (resample, item); two empty ones agree."""
    chosen = np.asarray(reference, dtype=bool)
    both, either = (selected & chosen).sum(1), (selected | chosen).sum(1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)
