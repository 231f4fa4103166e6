"""What a circuit is worth: the model reduced to it, without it, less one node; random and smaller circuits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.lens.components import Component


@dataclass(frozen=True)
class CircuitEvaluation:
    """Logit differences of every prompt under the ablations that judge a circuit.

    `full`, `only_circuit`, `without_circuit` (prompt,); `without_node` (node, prompt): the circuit alone less one node;
    `random` (draw, prompt): as many heads and MLPs as the circuit has, drawn at random, and nothing else.

    The paper's words: *completeness* keeps only the circuit, *faithfulness* removes it, *minimality* removes one of its
    nodes. Elsewhere in the field the first two are used the other way round, so reports name what was done.
    """

    full: np.ndarray
    only_circuit: np.ndarray
    without_circuit: np.ndarray
    without_node: np.ndarray
    random: np.ndarray


def evaluate_circuit(
    sets: NodeSets, nodes: Sequence[Component], draws: int, rng: np.random.Generator
) -> CircuitEvaluation:
    """Run the full model, the circuit alone, the rest alone, the circuit without each node, and random circuits."""
    prompts = len(sets.differences(()))
    without_node = [sets.only([node for node in nodes if node != removed]) for removed in nodes]
    random = [sets.only(random_circuit(sets.components, nodes, rng)) for _ in range(draws)]
    return CircuitEvaluation(
        full=sets.differences(()),
        only_circuit=sets.only(nodes),
        without_circuit=sets.differences(nodes),
        without_node=np.array(without_node).reshape(-1, prompts),
        random=np.array(random).reshape(-1, prompts),
    )


def random_circuit(
    components: Sequence[Component], nodes: Collection[Component], rng: np.random.Generator
) -> list[Component]:
    """Return as many heads and as many MLPs as `nodes` has, drawn without repetition from all components."""
    drawn: list[Component] = []
    for is_head in (True, False):
        kind = [component for component in components if (component.head is not None) == is_head]
        number = sum((node.head is not None) == is_head for node in nodes)
        drawn += [kind[index] for index in rng.choice(len(kind), number, replace=False)]
    return sorted(drawn, key=list(components).index)


def size_curve(sets: NodeSets, drop: Sequence[float] | np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes (point,) and logit differences (point, prompt) of circuits of the k nodes that cost most alone.

    `drop` has the cost of each component's single ablation, in the order of `sets.components`; sizes go from nothing to
    everything in about equal steps.
    """
    order = np.argsort(-np.asarray(drop), kind="stable")
    sizes = np.unique(np.linspace(0, len(order), min(points, len(order) + 1)).round().astype(int))
    return sizes, np.array([sets.only({sets.components[index] for index in order[:size]}) for size in sizes])
