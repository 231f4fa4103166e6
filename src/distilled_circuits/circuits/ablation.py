"""Mean ablation as edits: what a component's output is replaced by, one component or many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from distilled_circuits.lens.components import Component
from distilled_circuits.lens.interface import Change, Edit, Lens


@dataclass(frozen=True)
class PromptTensors:
    """Prompts of one length: ids (prompt, pos), answer and distractor token ids (prompt,)."""

    ids: torch.Tensor
    answers: torch.Tensor
    distractors: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> PromptTensors:
        """Return the prompts from `start` up to `stop`."""
        return PromptTensors(self.ids[start:stop], self.answers[start:stop], self.distractors[start:stop])


@dataclass(frozen=True)
class Means:
    """Replacement values: z (layer, pos, head, d_head) and mlp_out (layer, pos, d_model), means over prompts.

    "Independent" in the sense of the audit of the released code: taken from the unablated model.
    """

    z: torch.Tensor
    mlp_out: torch.Tensor


@torch.no_grad()
def mean_activations(lens: Lens, ids: torch.Tensor, batch_size: int) -> Means:
    """Return the per-position means over prompts (prompt, pos), `batch_size` of them in memory at a time."""
    layers = range(lens.dimensions.layers)
    sites = [(name, layer) for layer in layers for name in ("z", "mlp_out")]
    sums: dict[tuple[str, int], torch.Tensor] = {}
    for batch in ids.split(batch_size):
        _, cache = lens.cache(batch, sites)
        for site, values in cache.items():
            total = values.double().sum(0)
            sums[site] = sums[site] + total if site in sums else total
    mean = {site: (total / len(ids)).float() for site, total in sums.items()}
    return Means(
        z=torch.stack([mean["z", layer] for layer in layers]),
        mlp_out=torch.stack([mean["mlp_out", layer] for layer in layers]),
    )


def ablate(components: Iterable[Component], means: Means) -> list[Edit]:
    """Return edits that replace the components by their means in every prompt, all at once."""
    heads: dict[int, list[int]] = defaultdict(list)
    edits: list[Edit] = []
    for component in components:
        if component.head is None:
            edits.append((("mlp_out", component.layer), _set_all(means.mlp_out[component.layer])))
        else:
            heads[component.layer].append(component.head)
    edits += [(("z", layer), _set_heads(means.z[layer], chosen)) for layer, chosen in heads.items()]
    return edits


def ablate_one_each(layer: int, components: list[Component], means: Means, prompts: int) -> list[Edit]:
    """Return edits for a batch of stacked copies of the prompts, in which copy k ablates the k-th component.

    All components are of `layer`; the batch has `len(components) * prompts` rows, copies outermost.
    """

    def edit_z(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        for copy, component in enumerate(components):
            if component.head is not None:
                z[copy * prompts : (copy + 1) * prompts, :, component.head] = means.z[layer, :, component.head]
        return z

    def edit_mlp(mlp_out: torch.Tensor) -> torch.Tensor:
        mlp_out = mlp_out.clone()
        for copy, component in enumerate(components):
            if component.head is None:
                mlp_out[copy * prompts : (copy + 1) * prompts] = means.mlp_out[layer]
        return mlp_out

    return [(("z", layer), edit_z), (("mlp_out", layer), edit_mlp)]


def logit_differences(logits: torch.Tensor, prompts: PromptTensors) -> torch.Tensor:
    """Return answer logit minus distractor logit, (prompt,), from logits (prompt, vocabulary)."""
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, prompts.answers] - logits[rows, prompts.distractors]


def _set_all(mean: torch.Tensor) -> Change:
    return lambda activation: mean.to(activation.dtype).expand_as(activation)


def _set_heads(mean: torch.Tensor, heads: list[int]) -> Change:
    def edit(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        z[:, :, heads] = mean[:, heads].to(z.dtype)
        return z

    return edit
