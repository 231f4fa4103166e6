"""Training a teacher from scratch and distilling a student from it, as plain Hugging Face modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from transformers import GPT2Config, GPT2LMHeadModel

from distilled_circuits.errors import UserError
from distilled_circuits.models.corpus import Batch, Questions
from distilled_circuits.progress import track

MAXIMUM_POSITIONS = 64


@dataclass(frozen=True)
class Evaluation:
    """The state of training after `step` steps: mean loss since the last evaluation, accuracy by task."""

    step: int
    loss: float
    accuracy: dict[str, float]


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


def new_gpt2(vocabulary: int, layers: int, heads: int, width: int, initial_scale: float, end: int) -> GPT2LMHeadModel:
    """Return a GPT-2 with random weights and no dropout; seed torch before calling."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=MAXIMUM_POSITIONS,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        # GPT-2's own function, in one kernel instead of eight.
        activation_function="gelu_pytorch_tanh",
        initializer_range=initial_scale,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    return GPT2LMHeadModel(config)


def student_from_layers(teacher: GPT2LMHeadModel, layers: Sequence[int]) -> GPT2LMHeadModel:
    """Return a student that starts as a copy of the teacher's embeddings and of the named layers."""
    if max(layers) >= teacher.config.n_layer:
        raise UserError(
            f"params.yaml: the student starts from teacher layer {max(layers)}, but the teacher has layers "
            f"0 to {teacher.config.n_layer - 1}: change models.*.student.layers"
        )
    config = GPT2Config.from_dict({**teacher.config.to_dict(), "n_layer": len(layers)})
    student = GPT2LMHeadModel(config)
    source, target = teacher.transformer, student.transformer
    for name in ("wte", "wpe", "ln_f"):
        getattr(target, name).load_state_dict(getattr(source, name).state_dict())
    for block, layer in zip(target.h, layers, strict=True):
        block.load_state_dict(source.h[layer].state_dict())
    return student


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


def teacher_loss(model: GPT2LMHeadModel, text_weight: float) -> Callable[[Batch], torch.Tensor]:
    """Return the loss of training from scratch."""
    return lambda batch: language_loss(_logits(model, batch), batch, text_weight)


def student_loss(
    model: GPT2LMHeadModel,
    teacher: GPT2LMHeadModel,
    temperature: float,
    kl_weight: float,
    lm_weight: float,
    text_weight: float,
) -> Callable[[Batch], torch.Tensor]:
    """Return the loss of distillation: softened KL to the teacher plus the language-model loss (DC App. A.1)."""

    def loss(batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            target = _logits(teacher, batch)
        logits = _logits(model, batch)
        divergence = softened_divergence(logits, target, temperature)
        return kl_weight * divergence + lm_weight * language_loss(logits, batch, text_weight)

    return loss


def train(
    model: GPT2LMHeadModel,
    loss_of: Callable[[Batch], torch.Tensor],
    batches: Iterator[Batch],
    schedule: Schedule,
    questions: Sequence[Questions],
    label: str,
    after_evaluation: Callable[[Evaluation], None] = lambda _: None,
) -> list[Evaluation]:
    """Train a model in place and return its evaluations, the first before any step.

    `after_evaluation` is called with each of them, so that a caller can keep an early state of the model. Raises
    UserError when the loss is no longer a number.
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
                after_evaluation(log[-1])
                losses = []
                worst = min(log[-1].accuracy, key=log[-1].accuracy.__getitem__)
                progress.note(f"loss {log[-1].loss:.3f}, lowest accuracy {log[-1].accuracy[worst]:.3f} ({worst})")
            progress.advance()
    return log


@torch.no_grad()
def accuracies(model: GPT2LMHeadModel, questions: Sequence[Questions]) -> dict[str, float]:
    """Return for each task the share of prompts whose answer is the most likely token of the whole vocabulary."""
    result = {}
    for asked in questions:
        logits = model(asked.ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        result[asked.task] = (logits.argmax(-1) == asked.answers).double().mean().item()
    return result


def _logits(model: GPT2LMHeadModel, batch: Batch) -> torch.Tensor:
    return model(batch.ids, use_cache=False).logits


def _evaluate(
    model: GPT2LMHeadModel, step: int, losses: list[torch.Tensor], questions: Sequence[Questions], label: str
) -> Evaluation:
    loss = torch.stack(losses).mean().item()
    if not math.isfinite(loss):
        raise UserError(f"{label}: the loss is {loss} at step {step}; lower its learning_rate in params.yaml")
    return Evaluation(step, loss, accuracies(model, questions))
