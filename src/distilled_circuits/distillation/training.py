"""Training a student on the task and on its teacher's circuit (CD equation 7), all of it or only its circuit heads."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from distilled_circuits.distillation.cka import biased_cka, debiased_cka
from distilled_circuits.distillation.mapping import Mapping
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


@dataclass(frozen=True)
class Recipe:
    """Losses and schedule: `cka_weight` is the paper's λ, here on the mean over pairs and not on their sum."""

    cross_entropy_weight: float
    cka_weight: float
    steps: int
    batch_size: int
    learning_rate: float
    warmup: int


@dataclass(frozen=True)
class Step:
    """One optimiser step's losses; `cka` is the biased CKA of the loss, mean over pairs, and NaN without pairs."""

    step: int
    cross_entropy: float
    cka: float
    debiased_cka: float


def train_on_circuit(
    student: HookLens,
    ids: torch.Tensor,
    labels: torch.Tensor,
    teacher_z: dict[Component, torch.Tensor],
    mapping: Mapping,
    trained_heads: Collection[Component] | None,
    recipe: Recipe,
    seed: int,
    label: str,
    advance: Callable[[], None] = lambda: None,
) -> list[Step]:
    """Train a student in place on prompts (prompt, pos) with hard labels (prompt,) and return each step's losses.

    `teacher_z` has the teacher heads' z at the last position, (prompt, d_head): fixed targets. `trained_heads` limits
    training to those heads' slices of W_Q, W_K, W_V and W_O; None trains everything. Every batch draws prompts without
    repetition until all have been seen. Raises UserError at a loss that is no number.
    """
    parameters = list(student.model.parameters())
    with _trainable(student, trained_heads):
        # No weight decay: it would move the frozen slices of a matrix whose gradient is masked.
        chosen = [p for p in parameters if p.requires_grad]
        optimiser = torch.optim.AdamW(chosen, lr=recipe.learning_rate, weight_decay=0.0)
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / recipe.warmup))
        log = []
        for step, rows in enumerate(_batches(len(ids), recipe.batch_size, recipe.steps, random.Random(seed)), 1):
            entropy, aligned = _losses(student, ids[rows], labels[rows], teacher_z, rows, mapping)
            loss = recipe.cross_entropy_weight * entropy
            if mapping.pairs:
                loss = loss + recipe.cka_weight * (1 - aligned[0])
            if not math.isfinite(loss.item()):
                raise UserError(f"{label}: the loss is {loss.item()} at step {step}: lower distillation.learning_rate")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            rate.step()
            log.append(Step(step, entropy.item(), *(value.item() for value in aligned)))
            advance()
    return log


def _losses(
    student: HookLens,
    ids: torch.Tensor,
    labels: torch.Tensor,
    teacher_z: dict[Component, torch.Tensor],
    rows: torch.Tensor,
    mapping: Mapping,
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Return the cross entropy at the last position, and biased and debiased CKA, means over pairs."""
    layers = sorted({own.layer for own, _ in mapping.pairs})
    logits, cache = student.cache(ids, [("z", layer) for layer in layers])
    entropy = cross_entropy(logits, labels)
    if not mapping.pairs:
        return entropy, (torch.tensor(math.nan), torch.tensor(math.nan))
    own = torch.stack([cache["z", head.layer][:, -1, head.head] for head, _ in mapping.pairs])
    other = torch.stack([teacher_z[head][rows] for _, head in mapping.pairs])
    return entropy, (biased_cka(own, other).mean(), debiased_cka(own.detach(), other).mean())


def _batches(number: int, size: int, steps: int, rng: random.Random) -> Iterator[torch.Tensor]:
    """Yield `steps` batches of row numbers; every pass over the prompts is shuffled anew, its remainder dropped."""
    order: list[int] = []
    for _ in range(steps):
        if len(order) < size:
            order = rng.sample(range(number), number)
        yield torch.tensor(order[:size])
        order = order[size:]


@contextmanager
def _trainable(lens: HookLens, heads: Collection[Component] | None) -> Iterator[None]:
    """Let gradients reach all weights, or only the slices of some heads; freeze everything again afterwards."""
    lens.model.requires_grad_(heads is None)
    hooks = []
    for parameter, mask in [] if heads is None else head_masks(lens, heads):
        parameter.requires_grad_(requires_grad=True)
        hooks.append(parameter.register_hook(lambda gradient, mask=mask: gradient * mask))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        lens.model.requires_grad_(requires_grad=False)


def head_masks(lens: HookLens, heads: Collection[Component]) -> Sequence[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Return each parameter that the heads own a part of, with ones where it is theirs.

    Theirs are the columns of W_Q, W_K, W_V with their biases, and the rows of W_O. Only GPT-2's fused projection is
    known so far; other architectures raise UserError.
    """
    if not lens.architecture.fused_qkv:
        raise UserError(f"circuit distillation of {lens.architecture.model_type} models is not supported: use GPT-2's")
    d_head = lens.dimensions.d_head
    masks = []
    for layer in sorted({head.layer for head in heads}):
        own = torch.zeros(lens.dimensions.heads, d_head, device=lens.device)
        own[[head.head for head in heads if head.layer == layer]] = 1
        own = own.flatten()
        fused = operator.attrgetter(lens.architecture.fused_qkv)(lens.blocks[layer])
        output = operator.attrgetter(lens.architecture.taps["z"].path)(lens.blocks[layer])
        masks += [
            (fused.weight, own.repeat(3).expand_as(fused.weight)),
            (fused.bias, own.repeat(3)),
            (output.weight, own[:, None].expand_as(output.weight)),
        ]
    return masks
