"""Losses, the training loop and its evaluations: of a teacher from scratch, of a student by distillation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from distilled_circuits.errors import UserError
from distilled_circuits.models.corpus import Batch, Questions
from distilled_circuits.progress import track

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Evaluation:
    """The state of training after `step` steps: mean loss since the last evaluation, accuracy by task."""

    step: int
    loss: float
    accuracy: dict[str, float]


@dataclass(frozen=True)
class Reading:
    """How a kind of model reads a batch (its logits) and what it loses on it (logits, batch, weight of the text)."""

    logits: Callable[[PreTrainedModel, Any], torch.Tensor]
    loss: Callable[[torch.Tensor, Any, float], torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: AdamW, linear warm-up, cosine decay to zero."""

    steps: int
    learning_rate: float
    warmup: int
    weight_decay: float
    evaluate_every: int

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step counted from zero."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


def language_loss(logits: torch.Tensor, batch: Batch, text_weight: float) -> torch.Tensor:
    """Return the mean cross entropy on answers plus `text_weight` times that on all other tokens."""
    losses = cross_entropy(logits[:, :-1].transpose(1, 2), batch.ids[:, 1:], reduction="none")
    return losses[batch.is_answer[:, 1:]].mean() + text_weight * losses[~batch.is_answer[:, 1:]].mean()


def softened_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T² KL(teacher || student) of the distributions softened by T, mean over all tokens (DC eq. 1-2).

    The square keeps the gradient's scale when the temperature changes (Hinton et al., 2015).
    """
    log_student = log_softmax(student.flatten(0, -2) / temperature, dim=-1)
    probabilities = softmax(teacher.flatten(0, -2) / temperature, dim=-1)
    return temperature**2 * kl_div(log_student, probabilities, reduction="batchmean")


def all_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Return logits (row, pos, vocabulary) at every token of a batch."""
    return model(batch.ids, use_cache=False).logits


CAUSAL = Reading(all_logits, language_loss)
"""Of a model that predicts each next token; the masked one is in `models/masked.py`."""


def teacher_loss(model: PreTrainedModel, text_weight: float, reading: Reading) -> Callable[[Any], torch.Tensor]:
    """Return the loss of training from scratch."""
    return lambda batch: reading.loss(reading.logits(model, batch), batch, text_weight)


def student_loss(
    model: PreTrainedModel,
    teacher: PreTrainedModel,
    temperature: float,
    kl_weight: float,
    lm_weight: float,
    text_weight: float,
    reading: Reading,
) -> Callable[[Any], torch.Tensor]:
    """Return the loss of distillation: softened KL to the teacher plus the language-model loss (DC App. A.1)."""

    def loss(batch: Any) -> torch.Tensor:
        with torch.no_grad():
            target = reading.logits(teacher, batch)
        logits = reading.logits(model, batch)
        divergence = softened_divergence(logits, target, temperature)
        return kl_weight * divergence + lm_weight * reading.loss(logits, batch, text_weight)

    return loss


def train(
    model: PreTrainedModel,
    loss_of: Callable[[Any], torch.Tensor],
    batches: Iterator[Any],
    schedule: Schedule,
    questions: Sequence[Questions],
    label: str,
    after_evaluation: Callable[[Evaluation], bool | None] = lambda _: None,
) -> list[Evaluation]:
    """Train a model in place and return its evaluations, the first before any step.

    `after_evaluation` is called with each of them, so that a caller can keep an early state of the model; where it
    returns True, training ends. Raises UserError when the loss is no longer a number.
    """
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=(0.9, 0.98)
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, schedule.rate)
    log = [Evaluation(0, float("nan"), accuracies(model, questions))]
    after_evaluation(log[0])
    losses: list[torch.Tensor] = []
    with track(schedule.steps, label) as progress:
        for step in range(1, schedule.steps + 1):
            loss = loss_of(next(batches))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            rate.step()
            losses.append(loss.detach())
            if step % schedule.evaluate_every == 0 or step == schedule.steps:
                log.append(_evaluate(model, step, losses, questions, label))
                losses = []
                worst = min(log[-1].accuracy, key=log[-1].accuracy.__getitem__)
                progress.note(f"loss {log[-1].loss:.3f}, lowest accuracy {log[-1].accuracy[worst]:.3f} ({worst})")
                if after_evaluation(log[-1]):
                    break
            progress.advance()
    return log


@torch.no_grad()
def accuracies(model: PreTrainedModel, questions: Sequence[Questions]) -> dict[str, float]:
    """Return for each task the share of prompts whose answer is the most likely token of the whole vocabulary."""
    result = {}
    for asked in questions:
        options = {"use_cache": False, "logits_to_keep": 1} if asked.read_at == -1 else {}
        logits = model(asked.ids, **options).logits[:, asked.read_at]
        result[asked.task] = (logits.argmax(-1) == asked.answers).double().mean().item()
    return result


def _evaluate(
    model: PreTrainedModel, step: int, losses: list[torch.Tensor], questions: Sequence[Questions], label: str
) -> Evaluation:
    loss = torch.stack(losses).mean().item()
    if not math.isfinite(loss):
        raise UserError(f"{label}: the loss is {loss} at step {step}; lower its learning_rate in params.yaml")
    return Evaluation(step, loss, accuracies(model, questions))
