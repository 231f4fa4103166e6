"""All edges of a circuit, batch by batch: ranked by attribution patching, the best ones patched exactly."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut
from distilled_circuits.circuits.ablation import PromptTensors, Replacement, check_finite
from distilled_circuits.circuits.attribution import attribute_edges
from distilled_circuits.circuits.edges import possible_edges
from distilled_circuits.circuits.paths import Trace, patch_edges, trace
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


@dataclass(frozen=True)
class PatchedEdges:
    """Logit differences of a circuit with each of its edges patched, in the order of `possible_edges`.

    `patched` (edge, prompt) is NaN for edges that were screened out; `attribution` (edge, prompt) estimates
    patched - circuit for all; `circuit` and `full` (prompt,) are the circuit alone and the whole model.
    """

    patched: np.ndarray
    attribution: np.ndarray
    circuit: np.ndarray
    full: np.ndarray


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch of prompts, the circuit alone on it, and its passes on the prompts and their corrupted partners."""

    prompts: PromptTensors
    model: AblatedModel
    clean: Trace
    corrupted: Trace

    def full(self) -> torch.Tensor:
        return self._read(self.model.without(()).finish(0, self.clean.resid[0]))

    def circuit(self) -> torch.Tensor:
        return self._read(self.model.blocks.final(self.clean.end[:, -1]))

    def _read(self, read: torch.Tensor) -> torch.Tensor:
        return ReadOut(self.model.blocks, self.prompts).differences(read)


@torch.no_grad()
def patch_circuit(
    lens: HookLens,
    prompts: PromptTensors,
    replacement: Replacement,
    nodes: Collection[Component],
    *,
    batch_size: int,
    exact_share: float = 1.0,
    advance: Callable[[int], None] = lambda _: None,
) -> PatchedEdges:
    """Patch the edges between `nodes` in the model in which everything else is ablated.

    A sender's changed output is that of the same ablated model on the prompt's corrupted partner. With `exact_share`
    below 1 only that share of the edges, those with the largest estimated effect on the mean, is patched exactly.
    """
    edges = possible_edges(nodes)
    batches = _batches(lens, prompts, replacement, nodes, batch_size)
    circuit, full = (
        _numpy(torch.cat(values))
        for values in zip(*((batch.circuit(), batch.full()) for batch in batches), strict=True)
    )
    if not edges:
        nothing = np.zeros((0, len(prompts)))
        return PatchedEdges(nothing, nothing, circuit, full)
    estimates = [attribute_edges(batch.model, batch.prompts, batch.clean, batch.corrupted, edges) for batch in batches]
    attribution = _numpy(torch.cat(estimates, dim=1))
    strongest = np.argsort(-np.abs(attribution.mean(1)), kind="stable")[: max(1, round(exact_share * len(edges)))]
    chosen = sorted(strongest.tolist())
    parts = []
    for batch in batches:
        share = len(batch.prompts) / len(prompts)
        parts.append(
            patch_edges(
                batch.model,
                batch.prompts,
                batch.clean,
                batch.corrupted,
                [edges[index] for index in chosen],
                max(1, batch_size // len(batch.prompts)),
                lambda count, share=share: advance(count * share),
            )
        )
    together = torch.cat(parts, dim=1)
    check_finite(together, "logit differences of patched circuits")
    patched = np.full(attribution.shape, np.nan)
    patched[chosen] = _numpy(together)
    return PatchedEdges(patched, attribution, circuit, full)


def _batches(
    lens: HookLens, prompts: PromptTensors, replacement: Replacement, nodes: Collection[Component], batch_size: int
) -> list[_Batch]:
    blocks = Blocks(lens)
    removed = frozenset(component for component in lens.components if component not in nodes)
    found = []
    for batch in prompts.batches(batch_size):
        model = AblatedModel(blocks, replacement(batch).to(blocks.dtype), removed)
        found.append(_Batch(batch, model, *(trace(model, lens.embed(ids)) for ids in (batch.ids, batch.corrupted))))
    return found


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
