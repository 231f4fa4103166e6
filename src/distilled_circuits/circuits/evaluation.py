"""What a circuit is worth: the model reduced to it, and the model without it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from distilled_circuits.circuits.ablation import Means, PromptTensors, ablate, logit_differences
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.interface import Lens


@dataclass(frozen=True)
class CircuitEvaluation:
    """Logit differences (prompt,) of the full model, of the circuit alone and of the model without it.

    The paper's words: *completeness* keeps only the circuit, *faithfulness* removes it. Elsewhere in the field the
    words are used the other way round, so reports name what was done.
    """

    full: torch.Tensor
    only_circuit: torch.Tensor
    without_circuit: torch.Tensor


@torch.no_grad()
def evaluate_circuit(
    lens: Lens, prompts: PromptTensors, means: Means, nodes: Collection[Component], batch_size: int
) -> CircuitEvaluation:
    """Run the full model, the circuit alone and the rest alone on every prompt."""
    outside = [component for component in lens.components if component not in nodes]
    return CircuitEvaluation(
        *(
            ablated_differences(lens, prompts, means, components, batch_size)
            for components in ([], outside, list(nodes))
        )
    )


@torch.no_grad()
def ablated_differences(
    lens: Lens, prompts: PromptTensors, means: Means, components: Collection[Component], batch_size: int
) -> torch.Tensor:
    """Return logit differences (prompt,) with all of `components` ablated together."""
    edits = ablate(components, means)
    parts = []
    for start in range(0, len(prompts), batch_size):
        part = prompts.rows(start, start + batch_size)
        parts.append(logit_differences(lens.run(part.ids, edits), part))
    return torch.cat(parts)
