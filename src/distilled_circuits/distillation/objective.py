"""What a student is trained for: the task loss plus the alignment loss of pairs of heads (CD equation 7)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch.nn.functional import cross_entropy

from distilled_circuits.distillation.cka import biased_cka, debiased_cka
from distilled_circuits.distillation.losses import Alignment, degenerate_pairs, mean_over_pairs, pair_losses
from distilled_circuits.distillation.reading import Site, read_heads
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.training import softened_divergence

Labels = Literal["teacher", "gold", "soft"]


@dataclass(frozen=True)
class Objective:
    """What is minimised: `cross_entropy` times the task loss plus `weight` times the mean alignment loss of the pairs.

    `weight` is the paper's λ on the mean over pairs; on their sum, as CD eq. 7 has it, it is λ = weight / pairs.
    `labels` of the task loss: the teacher's most likely token, the right answer (`gold`), or the teacher's distribution
    at `temperature` (`soft`). `site` is what heads are aligned in, but for attention_kl. With `shuffled_rows` each
    prompt of a batch is aligned with the teacher's activations on another one: a control that keeps their spectrum.
    """

    cross_entropy: float
    labels: Labels = "teacher"
    temperature: float = 1.0
    alignment: Alignment = "none"
    site: Literal["z", "write"] = "z"
    weight: float = 0.0
    shuffled_rows: bool = False

    @property
    def aligned_site(self) -> Site:
        """Which activations the alignment loss compares."""
        return "pattern" if self.alignment == "attention_kl" else self.site


@dataclass(frozen=True, eq=False)
class Answers:
    """What the teacher answers at the last position, and what is right: tokens (prompt,), logits (prompt, vocabulary).

    The teacher's tokens are always there, because the log is taken on them; the rest where an objective names it.
    """

    teacher: torch.Tensor
    gold: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class AlignedPairs:
    """The student head of each pair, and what its teacher head does on the training prompts.

    `targets` are by site (pair, prompt, width), as `reading.read_in_batches` returns them; z must be there for the log.
    `positions` (pair, prompt) says where, the last position by default; `weights` (pair,) how much each pair counts.
    """

    students: tuple[Component, ...] = ()
    targets: dict[str, torch.Tensor] = field(default_factory=dict)
    positions: torch.Tensor | None = None
    weights: torch.Tensor | None = None


class BatchLosses(NamedTuple):
    """What one batch gives: the loss to minimise, and parts of it as scalars; those that do not apply are NaN."""

    loss: torch.Tensor
    cross_entropy: torch.Tensor
    alignment: torch.Tensor
    cka: torch.Tensor
    debiased_cka: torch.Tensor
    skipped: torch.Tensor


def batch_losses(
    student: HookLens,
    ids: torch.Tensor,
    answers: Answers,
    pairs: AlignedPairs,
    objective: Objective,
    maps: torch.Tensor | None,
    rows: torch.Tensor,
) -> BatchLosses:
    """Return the losses on some rows of the training prompts (prompt, pos); `maps` are the projection's.

    Parts without a weight stay outside the loss, and cost no backward pass.
    """
    sites: list[Site] = ["z"] if objective.alignment == "none" else sorted({"z", objective.aligned_site})
    positions = None if pairs.positions is None else pairs.positions[:, rows]
    logits, own = read_heads(student, ids[rows], pairs.students, sites, positions)
    other = {site: pairs.targets[site][:, rows] for site in own}
    loss = torch.zeros((), device=logits.device)
    alignment = torch.tensor(math.nan)
    if objective.cross_entropy:
        loss = loss + objective.cross_entropy * _task_loss(objective, logits, answers, rows)
    if objective.alignment != "none":
        alignment = _alignment_loss(objective, own, other, pairs.weights, maps)
    if objective.alignment != "none" and objective.weight:
        loss = loss + objective.weight * alignment
    return BatchLosses(
        loss, cross_entropy(logits, answers.teacher[rows]), alignment, *_similarity(own, other, pairs.weights)
    )


def _task_loss(objective: Objective, logits: torch.Tensor, answers: Answers, rows: torch.Tensor) -> torch.Tensor:
    if objective.labels == "soft":
        return softened_divergence(logits, _given(answers.logits, "logits")[rows], objective.temperature)
    labels = answers.teacher if objective.labels == "teacher" else _given(answers.gold, "gold")
    return cross_entropy(logits, labels[rows])


def _given(values: torch.Tensor | None, name: str) -> torch.Tensor:
    if values is None:
        raise ValueError(f"the objective's labels need answers.{name}")
    return values


def _alignment_loss(
    objective: Objective,
    own: dict[str, torch.Tensor],
    other: dict[str, torch.Tensor],
    weights: torch.Tensor | None,
    maps: torch.Tensor | None,
) -> torch.Tensor:
    site = objective.aligned_site
    x, y = own[site], other[site]
    if objective.shuffled_rows:
        # The batch is in random order already: the next prompt is a random one, and never the same.
        y = y.roll(1, dims=1)
    skipped = None if site == "pattern" else degenerate_pairs(x, y)
    return mean_over_pairs(pair_losses(objective.alignment, x, y, maps), weights, skipped)


@torch.no_grad()
def _similarity(
    own: dict[str, torch.Tensor], other: dict[str, torch.Tensor], weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return biased and debiased CKA of z, means over pairs, and how many pairs are left out of them."""
    if "z" not in own:
        return torch.tensor(math.nan), torch.tensor(math.nan), torch.tensor(0)
    x, y = own["z"], other["z"]
    skipped = degenerate_pairs(x, y)
    biased, debiased = (mean_over_pairs(measure(x, y), weights, skipped) for measure in (biased_cka, debiased_cka))
    return biased, debiased, skipped.sum()
