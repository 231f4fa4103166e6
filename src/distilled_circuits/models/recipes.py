"""How the models of a pair are trained: a teacher's recipe from scratch, a student's by distillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from distilled_circuits.models.corpus import evaluation_questions, training_batches
from distilled_circuits.models.training import Evaluation, Schedule, student_loss, teacher_loss, train
from distilled_circuits.tasks.lexicon import Lexicon


@dataclass(frozen=True)
class Data:
    """What all models of a pair learn from: word lists, their tokenizer, and the weights of the tasks."""

    lexicon: Lexicon
    tokenizer: PreTrainedTokenizerFast
    mixture: Mapping[str, float]
    device: torch.device


def train_from_scratch(model: PreTrainedModel, recipe: Any, seed: int, data: Data, label: str) -> list[Evaluation]:
    """Train a model in place by a teacher's recipe (a `models.*.teacher` section); `seed` orders the text."""
    return train(
        model,
        teacher_loss(model, recipe.text_weight),
        training_batches(data.lexicon, data.tokenizer, data.mixture, recipe.batch_size, seed, data.device),
        _schedule(recipe),
        evaluation_questions(data.lexicon, data.tokenizer, data.device),
        label,
    )


def distil(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    recipe: Any,
    seed: int,
    data: Data,
    label: str,
) -> list[Evaluation]:
    """Train a student in place by a student's recipe (a `models.*.student` section); `seed` orders the text."""
    return train(
        student,
        student_loss(student, teacher, recipe.temperature, recipe.kl_weight, recipe.lm_weight, recipe.text_weight),
        training_batches(data.lexicon, data.tokenizer, data.mixture, recipe.batch_size, seed, data.device),
        _schedule(recipe),
        evaluation_questions(data.lexicon, data.tokenizer, data.device),
        label,
    )


def _schedule(recipe: Any) -> Schedule:
    return Schedule(recipe.steps, recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.evaluate_every)
