"""What the mean ablation of each head alone costs a model: the impacts that heads are paired by (CD 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Collection

from distilled_circuits.circuits.head_sets import HeadSets, Place
from distilled_circuits.distillation.mapping import HeadImpact, ModelImpacts


def measure_impacts(sets: HeadSets, advance: Callable[[], None] = lambda: None) -> ModelImpacts:
    """Ablate each head alone by its per-position mean, at all positions, and measure what is left."""
    last = max(1, *(head.layer for head in sets.heads))
    heads = []
    for head in sets.heads:
        rest = sets.everything - sets.at_all_positions([head])
        heads.append(HeadImpact(head, head.layer / last, *_performance(sets, rest)))
        advance()
    return ModelImpacts(*_performance(sets, sets.everything), tuple(heads))


def _performance(sets: HeadSets, kept: Collection[Place]) -> tuple[float, float]:
    """Return accuracy and the mean log-probability of the answer."""
    return sets.accuracy(kept), sets.answers(kept).log_probability.mean().item()
