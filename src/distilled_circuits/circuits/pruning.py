"""Circuit extraction by iterative node pruning, with every decision on record (DC section 3.1; Lan et al.)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.comparison.scores import baseline_problem
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component


class NoCircuitError(UserError):
    """There is no logit difference that a circuit could carry."""


@dataclass(frozen=True)
class Decision:
    """One visit: `retained` is the share of the full model's logit difference that is left if it is removed."""

    sweep: int
    direction: str
    component: Component
    retained: float
    removed: bool


@dataclass(frozen=True)
class Pruned:
    """The nodes that are left, in the order of components, and the trace that led there."""

    nodes: tuple[Component, ...]
    trace: tuple[Decision, ...]

    @property
    def problem(self) -> str | None:
        """What is wrong with an empty circuit, and what to do about it; None where there are nodes."""
        if self.nodes:
            return None
        left = self.trace[-1].retained
        return (
            f"every component could be removed: with all of them ablated the model keeps {100 * left:.1f} % of its "
            "logit difference, which then comes from the embedding and biases alone; lower circuit.threshold or choose "
            "another circuit.ablation"
        )


def visiting_order(layers: int, heads: int, direction: str) -> Iterator[Component]:
    """Yield all components: backward, last layer first, its MLP before its heads; forward, heads before MLP."""
    for layer in reversed(range(layers)) if direction == "backward" else range(layers):
        of_heads = [Component(layer, head) for head in range(heads)]
        yield from [Component(layer), *of_heads] if direction == "backward" else [*of_heads, Component(layer)]


def prune_nodes(
    sets: NodeSets,
    threshold: float,
    weights: np.ndarray | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Pruned:
    """Remove nodes while the ablated model keeps more than `1 - threshold` of the full mean logit difference.

    Start with everything; visit all nodes backward, then forward, in turn, and remove a node for good when the *total*
    loss with it stays below the threshold; stop after a sweep that removes nothing. The threshold is cumulative: nodes
    that cost little alone are kept once the budget is spent. Means over prompts are weighted by `weights` (prompt,),
    which sum to one (a bootstrap's). Raises NoCircuitError when the full model has no logit difference to lose.
    """
    full = _mean(sets.differences(()), weights)
    problem = why_no_circuit(sets.differences(()), weights)
    if problem:
        raise NoCircuitError(problem)
    removed: set[Component] = set()
    trace: list[Decision] = []
    sizes = sets.dimensions
    sets.hold(removed)
    sweep, before = 0, -1
    while len(removed) != before:
        before = len(removed)
        sweep += 1
        direction = "backward" if sweep % 2 else "forward"
        for component in visiting_order(sizes.layers, sizes.heads, direction):
            if component in removed:
                continue
            retained = _mean(sets.differences(removed | {component}), weights) / full
            remove = 1 - retained < threshold
            trace.append(Decision(sweep, direction, component, retained, remove))
            if remove:
                removed.add(component)
                sets.hold(removed)
            note(f"sweep {sweep} {direction}, {len(sets.components) - len(removed)} nodes left")
    return Pruned(tuple(node for node in sets.components if node not in removed), tuple(trace))


def why_no_circuit(differences: np.ndarray, weights: np.ndarray | None = None) -> str | None:
    """Say why the full model's logit differences (prompt,) leave nothing for a circuit to carry; None if they do."""
    problem = baseline_problem(differences)
    mean = _mean(differences, weights)
    if problem is None and not mean > 0:
        problem = f"the mean logit difference is {mean:.3g}, the model prefers the distractor"
    return problem and f"there is no circuit to look for: {problem}"


def _mean(differences: np.ndarray, weights: np.ndarray | None) -> float:
    return float(differences.mean() if weights is None else weights @ differences)
