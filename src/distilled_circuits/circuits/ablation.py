"""What an ablated component is replaced by, and ablations as edits of a lens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.interface import Change, Edit, Lens

ABLATIONS = {
    "corrupted_mean": "the per-position mean over the corrupted prompts (DC 3.1)",
    "clean_mean": "the per-position mean over the clean prompts",
    "zero": "zeros; z has no bias of W_O, an MLP's output includes its own",
    "resample": "the value that the component has on the prompt's own corrupted partner",
}
"""What each kind of ablation puts in place of z (before W_O) or of an MLP's output, at every position."""


@dataclass(frozen=True)
class PromptTensors:
    """Prompts of one length: ids (prompt, pos), answer and distractor token ids (prompt,).

    `corrupted` (prompt, pos) has the corrupted partner of each prompt, where one is known. The answer is read at the
    position that `read_at` counts from the end, which a lens on these prompts is told.
    """

    ids: torch.Tensor
    answers: torch.Tensor
    distractors: torch.Tensor
    corrupted: torch.Tensor | None = None
    read_at: int = -1

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, start: int, stop: int) -> PromptTensors:
        """Return the prompts from `start` up to `stop`."""
        corrupted = None if self.corrupted is None else self.corrupted[start:stop]
        return PromptTensors(
            self.ids[start:stop], self.answers[start:stop], self.distractors[start:stop], corrupted, self.read_at
        )

    def batches(self, size: int) -> list[PromptTensors]:
        """Return the prompts in parts of at most `size`."""
        return [self.rows(start, start + size) for start in range(0, len(self), size)]


@dataclass(frozen=True)
class Values:
    """Replacement values: z (layer, row, pos, head, d_head) and mlp_out (layer, row, pos, d_model).

    `row` is 1 where all prompts are given the same, or one row a prompt.
    """

    z: torch.Tensor
    mlp_out: torch.Tensor

    def to(self, dtype: torch.dtype) -> Values:
        """Return the values in another type."""
        return Values(self.z.to(dtype), self.mlp_out.to(dtype))


Replacement = Callable[[PromptTensors], Values]
"""What components are replaced by in a batch of prompts."""


def replacement(lens: Lens, kind: str, prompts: PromptTensors, batch_size: int) -> Replacement:
    """Return the replacement of a kind of ablation (see ABLATIONS), with means over all of `prompts`."""
    if kind == "resample":
        return lambda batch: activations(lens, _corrupted(batch))
    if kind == "zero":
        return constant(_zeros(lens, prompts.ids.shape[1]))
    ids = prompts.ids if kind == "clean_mean" else _corrupted(prompts)
    return constant(mean_activations(lens, ids, batch_size))


def constant(values: Values) -> Replacement:
    """Return the replacement of every prompt by the same values."""
    return lambda _: values


@torch.no_grad()
def mean_activations(lens: Lens, ids: torch.Tensor, batch_size: int) -> Values:
    """Return the per-position means over prompts (prompt, pos), `batch_size` of them in memory at a time.

    They are taken from the unablated model: "independent" means in the words of the audit of the released code.
    """
    layers = range(lens.dimensions.layers)
    sites = [(name, layer) for layer in layers for name in ("z", "mlp_out")]
    sums: dict[tuple[str, int], torch.Tensor] = {}
    for batch in ids.split(batch_size):
        _, cache = lens.cache(batch, sites)
        for site, values in cache.items():
            total = values.double().sum(0, keepdim=True)
            sums[site] = sums[site] + total if site in sums else total
    mean = {site: (total / len(ids)).float() for site, total in sums.items()}
    return Values(
        z=torch.stack([mean["z", layer] for layer in layers]),
        mlp_out=torch.stack([mean["mlp_out", layer] for layer in layers]),
    )


@torch.no_grad()
def activations(lens: Lens, ids: torch.Tensor) -> Values:
    """Return what every component does on each prompt (prompt, pos)."""
    layers = range(lens.dimensions.layers)
    _, cache = lens.cache(ids, [(name, layer) for layer in layers for name in ("z", "mlp_out")])
    return Values(*(torch.stack([cache[name, layer] for layer in layers]) for name in ("z", "mlp_out")))


def ablate(components: Iterable[Component], values: Values) -> list[Edit]:
    """Return edits that replace the components in every prompt, all at once."""
    heads: dict[int, list[int]] = defaultdict(list)
    edits: list[Edit] = []
    for component in components:
        if component.head is None:
            edits.append((("mlp_out", component.layer), _set_all(values.mlp_out[component.layer])))
        else:
            heads[component.layer].append(component.head)
    edits += [(("z", layer), _set_heads(values.z[layer], chosen)) for layer, chosen in heads.items()]
    return edits


def logit_differences(logits: torch.Tensor, prompts: PromptTensors) -> torch.Tensor:
    """Return answer logit minus distractor logit, (prompt,), from logits (prompt, vocabulary)."""
    rows = torch.arange(len(prompts), device=logits.device)
    return logits[rows, prompts.answers].float() - logits[rows, prompts.distractors].float()


def check_finite(values: torch.Tensor, what: str) -> None:
    """Raise UserError when a result is NaN or infinite: such a number would go through every table unseen."""
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise UserError(
            f"{what}: {wrong} of {values.numel()} are NaN or infinite; check that the checkpoint's weights "
            "are finite, and that influence.dtype is float32"
        )


def _corrupted(prompts: PromptTensors) -> torch.Tensor:
    if prompts.corrupted is None:
        raise UserError("this ablation needs corrupted prompts, and these have none: choose zero or clean_mean")
    return prompts.corrupted


def _zeros(lens: Lens, positions: int) -> Values:
    sizes = lens.dimensions
    return Values(
        torch.zeros(sizes.layers, 1, positions, sizes.heads, sizes.d_head, device=lens.device),
        torch.zeros(sizes.layers, 1, positions, sizes.d_model, device=lens.device),
    )


def _set_all(value: torch.Tensor) -> Change:
    return lambda activation: value.to(activation.dtype).expand_as(activation)


def _set_heads(value: torch.Tensor, heads: list[int]) -> Change:
    def edit(z: torch.Tensor) -> torch.Tensor:
        z = z.clone()
        z[:, :, heads] = value[:, :, heads].to(z.dtype)
        return z

    return edit
