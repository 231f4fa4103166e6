"""The influence sweep: the logit difference of every prompt with every component ablated, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from distilled_circuits.circuits.ablation import Means, PromptTensors, ablate_one_each, logit_differences
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Edit, Lens


@dataclass(frozen=True)
class Sweep:
    """Logit differences: `unablated` (prompt,), `ablated` (component, prompt) in the order of `lens.components`."""

    unablated: torch.Tensor
    ablated: torch.Tensor


@torch.no_grad()
def influence_sweep(
    lens: Lens,
    prompts: PromptTensors,
    means: Means,
    batch_size: int,
    edits: Sequence[Edit] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> Sweep:
    """Ablate every component by its mean, on top of `edits`, and return the logit differences of each run.

    Restarted where the lens can: the stream is cached once, and ablating layer l runs only the blocks from l on, with
    as many components stacked into one batch as `batch_size` rows allow. `advance` is told the components done.
    """
    # An edit may hold one value for each prompt (noise does), so with edits the prompts stay together.
    prompts_at_once = len(prompts) if edits else min(len(prompts), batch_size)
    parts = []
    for start in range(0, len(prompts), prompts_at_once):
        part = prompts.rows(start, start + prompts_at_once)
        share = len(part) / len(prompts)
        parts.append(_sweep_rows(lens, part, means, batch_size, edits, lambda n, share=share: advance(n * share)))
    return Sweep(torch.cat([p.unablated for p in parts]), torch.cat([p.ablated for p in parts], dim=1))


def _sweep_rows(
    lens: Lens,
    prompts: PromptTensors,
    means: Means,
    batch_size: int,
    edits: Sequence[Edit],
    advance: Callable[[float], None],
) -> Sweep:
    layers = range(lens.dimensions.layers)
    logits, stream = lens.cache(prompts.ids, [("resid_pre", layer) for layer in layers], edits)
    ablated = []
    for layer in layers:
        of_layer = [component for component in lens.components if component.layer == layer]
        at_once = max(1, batch_size // len(prompts))
        for start in range(0, len(of_layer), at_once):
            chosen = of_layer[start : start + at_once]
            ablated.append(_ablate(lens, prompts, layer, chosen, means, edits, stream["resid_pre", layer]))
            advance(len(chosen))
    return Sweep(logit_differences(logits, prompts), torch.cat(ablated))


def _ablate(
    lens: Lens,
    prompts: PromptTensors,
    layer: int,
    chosen: list[Component],
    means: Means,
    edits: Sequence[Edit],
    resid: torch.Tensor,
) -> torch.Tensor:
    """Return logit differences (component, prompt) of one layer's components in one stacked pass."""
    copies = len(chosen)
    stacked = [*(_repeated(edit, copies) for edit in edits), *ablate_one_each(layer, chosen, means, len(prompts))]
    if isinstance(lens, HookLens):
        logits = lens.run_from(layer, resid.repeat(copies, 1, 1), stacked)
    else:
        logits = lens.run(prompts.ids.repeat(copies, 1), stacked)
    return torch.stack([logit_differences(part, prompts) for part in logits.chunk(copies)])


def _repeated(edit: Edit, copies: int) -> Edit:
    """Return an edit of stacked copies of the prompts that does in each copy what `edit` does."""
    site, change = edit
    return site, lambda activation: torch.cat([change(part) for part in activation.chunk(copies)])
