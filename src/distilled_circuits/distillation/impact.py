"""Accuracy of a model, of its circuit, and with single heads ablated, on prompts with one answer token."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch

from distilled_circuits.circuits.ablation import PromptTensors, Values, ablate
from distilled_circuits.distillation.mapping import HeadImpact, ModelImpacts
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


@torch.no_grad()
def measure_impacts(
    lens: HookLens, prompts: PromptTensors, means: Values, advance: Callable[[], None] = lambda: None
) -> ModelImpacts:
    """Ablate each head alone by its per-position mean, at all positions, and measure what is left."""
    layers = [("resid_pre", layer) for layer in range(lens.dimensions.layers)]
    logits, stream = lens.cache(prompts.ids, layers)
    accuracy, log_probability = _performance(logits, prompts.answers)
    heads = []
    for head in lens.components:
        if head.head is None:
            continue
        ablated = lens.run_from(head.layer, stream["resid_pre", head.layer], ablate([head], means))
        depth = head.layer / max(1, lens.dimensions.layers - 1)
        heads.append(HeadImpact(head, depth, *_performance(ablated, prompts.answers)))
        advance()
    return ModelImpacts(accuracy, log_probability, tuple(heads))


@torch.no_grad()
def correct_answers(
    lens: HookLens, prompts: PromptTensors, means: Values, circuit: Collection[Component] | None = None
) -> torch.Tensor:
    """Return which prompts (prompt,) are answered right, by the model or by its circuit.

    The answer must be the most likely token of the whole vocabulary. With a circuit all heads outside it are replaced
    by their means; MLPs stay (CD: "circuit accuracy").
    """
    outside = [] if circuit is None else [c for c in lens.components if c.head is not None and c not in circuit]
    return lens.run(prompts.ids, ablate(outside, means)).argmax(-1) == prompts.answers


def _performance(logits: torch.Tensor, answers: torch.Tensor) -> tuple[float, float]:
    accuracy = (logits.argmax(-1) == answers).double().mean().item()
    chosen = logits.double().log_softmax(-1).gather(1, answers[:, None])
    return accuracy, chosen.mean().item()
