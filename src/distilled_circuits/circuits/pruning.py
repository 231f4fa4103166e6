"""Circuit extraction by iterative node pruning, with every decision on record (DC section 3.1; Lan et al.)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from distilled_circuits.circuits.ablation import Means, PromptTensors, ablate, logit_differences
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


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


def visiting_order(layers: int, heads: int, direction: str) -> Iterator[Component]:
    """Yield all components: backward, last layer first, its MLP before its heads; forward, heads before MLP."""
    for layer in reversed(range(layers)) if direction == "backward" else range(layers):
        of_heads = [Component(layer, head) for head in range(heads)]
        yield from [Component(layer), *of_heads] if direction == "backward" else [*of_heads, Component(layer)]


@torch.no_grad()
def prune_nodes(
    lens: HookLens,
    prompts: PromptTensors,
    means: Means,
    threshold: float,
    batch_size: int,
    note: Callable[[str], None] = lambda _: None,
) -> Pruned:
    """Remove nodes while the ablated model keeps more than `1 - threshold` of the full mean logit difference.

    Start with everything; visit all nodes backward, then forward, in turn, and remove a node for good when the *total*
    loss with it stays below the threshold; stop after a sweep that removes nothing. The threshold is cumulative: nodes
    that cost little alone are kept once the budget is spent. Raises NoCircuitError when the full model has no logit
    difference to lose.
    """
    state = _AblatedModel(lens, prompts, means, batch_size)
    full = state.mean_difference(())
    if not full > 0:
        raise NoCircuitError(
            f"the mean logit difference of the unablated model is {full:.3g}, shares of it mean nothing, so there is "
            "no circuit to look for"
        )
    removed: set[Component] = set()
    trace: list[Decision] = []
    sweep = 0
    while True:
        sweep += 1
        direction = "backward" if sweep % 2 else "forward"
        before = len(removed)
        candidates = [
            component
            for component in visiting_order(lens.dimensions.layers, lens.dimensions.heads, direction)
            if component not in removed
        ]
        for component in candidates:
            retained = state.mean_difference({*removed, component}, changed=component.layer) / full
            remove = 1 - retained < threshold
            trace.append(Decision(sweep, direction, component, retained, remove))
            if remove:
                removed.add(component)
                state.remove(component)
            note(f"sweep {sweep} {direction}, {len(lens.components) - len(removed)} nodes left")
        if len(removed) == before:
            return Pruned(tuple(node for node in lens.components if node not in removed), tuple(trace))


class _AblatedModel:
    """The model with the removed nodes ablated, its stream cached so that a visit restarts at the node's layer."""

    def __init__(self, lens: HookLens, prompts: PromptTensors, means: Means, batch_size: int) -> None:
        self._lens = lens
        self._means = means
        self._batches = [prompts.rows(start, start + batch_size) for start in range(0, len(prompts), batch_size)]
        self._number = len(prompts)
        self._removed: set[Component] = set()
        self._streams: list[dict] = []
        self._valid_up_to = -1  # the cached stream holds for layers up to this one
        self._refresh()

    def mean_difference(self, ablated: set[Component] | tuple, changed: int = 0) -> float:
        """Return the mean logit difference; `ablated` differs from what is removed at layer `changed` only."""
        if changed > self._valid_up_to:
            self._refresh()
        edits = ablate(ablated, self._means)
        total = torch.zeros((), dtype=torch.float64)
        for batch, stream in zip(self._batches, self._streams, strict=True):
            logits = self._lens.run_from(changed, stream["resid_pre", changed], edits)
            total += logit_differences(logits, batch).double().sum().cpu()
        return (total / self._number).item()

    def remove(self, component: Component) -> None:
        """Take a node out for good: the stream changes above its layer."""
        self._removed.add(component)
        self._valid_up_to = min(self._valid_up_to, component.layer)

    def _refresh(self) -> None:
        layers = range(self._lens.dimensions.layers)
        sites = [("resid_pre", layer) for layer in layers]
        edits = ablate(self._removed, self._means)
        self._streams = [self._lens.cache(batch.ids, sites, edits)[1] for batch in self._batches]
        self._valid_up_to = layers[-1]
