"""Training a student for an objective, all of it or only its circuit heads, with a log of every step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch

from distilled_circuits.distillation.losses import projection_maps
from distilled_circuits.distillation.objective import AlignedPairs, Answers, Objective, batch_losses
from distilled_circuits.distillation.trainable import KeyValues, trainable
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: AdamW without weight decay, linear warm-up, then a constant rate.

    `batch_size` is also the number of rows of each CKA. Gradients are clipped to the norm `clip`, None: not at all.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int
    clip: float | None = None


@dataclass(frozen=True)
class Step:
    """One step before its update. Means over pairs are NaN without pairs, and `alignment` without an alignment loss.

    `cross_entropy` is always that of the teacher's labels, whatever the objective, so that curves compare (CD Fig. 5).
    `cka` and `debiased_cka` are those of z over the batch; `skipped` counts pairs with a constant side (see losses).
    """

    step: int
    loss: float
    cross_entropy: float
    alignment: float
    cka: float
    debiased_cka: float
    skipped: int


def train_on_circuit(
    student: HookLens,
    ids: torch.Tensor,
    answers: Answers,
    pairs: AlignedPairs,
    objective: Objective,
    schedule: Schedule,
    trained_heads: Collection[Component] | None,
    seed: int,
    label: str,
    kv: KeyValues = "any",
    advance: Callable[[], None] = lambda: None,
) -> list[Step]:
    """Train a student in place on prompts (prompt, pos) and return each step's losses.

    Training is limited to the slices of `trained_heads` (see trainable); None trains everything. Every batch draws
    prompts without repetition until fewer than a batch are left, which are dropped. The seed orders the prompts and
    draws the projection's maps. Raises UserError for batches that cannot be filled, for an objective that trains
    nothing, and at a loss that is no number.
    """
    _check(objective, schedule, pairs, len(ids), label)
    maps = _projection(objective, student, pairs, seed)
    with trainable(student, trained_heads, kv):
        chosen = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
        chosen += [] if maps is None else [maps]
        # No weight decay: it would move the frozen slices of a matrix whose gradient is masked.
        optimiser = torch.optim.AdamW(chosen, lr=schedule.learning_rate, weight_decay=0.0)
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / max(1, schedule.warmup)))
        log = []
        for step, rows in enumerate(_batches(len(ids), schedule, random.Random(seed)), 1):
            losses = batch_losses(student, ids, answers, pairs, objective, maps, rows.to(ids.device))
            log.append(Step(step, *(value.item() for value in losses)))
            _check_finite(log[-1], f"{label}, seed {seed}")
            optimiser.zero_grad(set_to_none=True)
            losses.loss.backward()
            if schedule.clip is not None:
                torch.nn.utils.clip_grad_norm_(chosen, schedule.clip)
            optimiser.step()
            rate.step()
            advance()
    return log


def _check(objective: Objective, schedule: Schedule, pairs: AlignedPairs, prompts: int, label: str) -> None:
    if not 4 <= schedule.batch_size <= prompts:
        raise UserError(
            f"{label}: batches of {schedule.batch_size} prompts, of {prompts} to train on: "
            "the batch size must lie between 4 and the number of prompts"
        )
    if objective.cross_entropy == 0 and (objective.alignment == "none" or objective.weight == 0):
        raise UserError(f"{label}: neither cross entropy nor alignment has a weight: nothing would be trained")
    if objective.alignment != "none" and not pairs.students:
        raise UserError(f"{label}: alignment by {objective.alignment} needs pairs of heads: give it a mapping")


def _check_finite(step: Step, run: str) -> None:
    if not math.isfinite(step.loss):
        raise UserError(
            f"{run}: the loss is {step.loss} at step {step.step}: lower its learning rate or its alignment weight"
        )


def _projection(objective: Objective, student: HookLens, pairs: AlignedPairs, seed: int) -> torch.Tensor | None:
    if objective.alignment != "projection":
        return None
    sizes = student.dimensions
    own = sizes.d_head if objective.site == "z" else sizes.d_model
    maps = projection_maps(len(pairs.students), own, pairs.targets[objective.site].shape[-1], seed)
    return maps.to(student.device).requires_grad_(requires_grad=True)


def _batches(number: int, schedule: Schedule, rng: random.Random) -> Iterator[torch.Tensor]:
    """Yield batches of row numbers; every pass over the prompts is shuffled anew, its remainder dropped."""
    order: list[int] = []
    for _ in range(schedule.steps):
        if len(order) < schedule.batch_size:
            order = rng.sample(range(number), number)
        yield torch.tensor(order[: schedule.batch_size])
        order = order[schedule.batch_size :]
