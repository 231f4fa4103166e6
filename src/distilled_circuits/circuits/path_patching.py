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
        return self._read(self.model.blocks.final(self.model.blocks.read(self.clean.end)))

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
    batches = prompts.batches(batch_size)
    bases, estimates = [], []
    for batch in (_traced(lens, part, replacement, nodes) for part in batches):
        bases.append((batch.circuit(), batch.full()))
        if edges:
            estimates.append(attribute_edges(batch.model, batch.prompts, batch.clean, batch.corrupted, edges))
    circuit, full = (_numpy(torch.cat(values)) for values in zip(*bases, strict=True))
    if not edges:
        nothing = np.zeros((0, len(prompts)))
        return PatchedEdges(nothing, nothing, circuit, full)
    attribution = _finite(estimates, "estimates of attribution patching")
    strongest = np.argsort(-np.abs(attribution.mean(1)), kind="stable")[: max(1, round(exact_share * len(edges)))]
    chosen = sorted(strongest.tolist())
    # Traces are made again rather than kept: memory is that of one batch.
    parts = []
    for batch in (_traced(lens, part, replacement, nodes) for part in batches):
        share = len(batch.prompts) / len(prompts)
        copies = max(1, batch_size // len(batch.prompts))
        exact = [edges[index] for index in chosen]
        parts.append(
            patch_edges(
                batch.model,
                batch.prompts,
                batch.clean,
                batch.corrupted,
                exact,
                copies,
                lambda count, share=share: advance(count * share),
            )
        )
    patched = np.full(attribution.shape, np.nan)
    patched[chosen] = _finite(parts, "logit differences of patched circuits")
    return PatchedEdges(patched, attribution, circuit, full)


def _traced(lens: HookLens, prompts: PromptTensors, replacement: Replacement, nodes: Collection[Component]) -> _Batch:
    blocks = Blocks(lens)
    removed = frozenset(component for component in lens.components if component not in nodes)
    model = AblatedModel(blocks, replacement(prompts).to(blocks.dtype), removed)
    return _Batch(prompts, model, *(trace(model, lens.embed(ids)) for ids in (prompts.ids, prompts.corrupted)))


def _finite(parts: list[torch.Tensor], what: str) -> np.ndarray:
    """Return parts (edge, prompt) as one array; raise UserError at NaN or infinite values."""
    together = torch.cat(parts, dim=1)
    check_finite(together, what)
    return _numpy(together)


def _numpy(values: torch.Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
