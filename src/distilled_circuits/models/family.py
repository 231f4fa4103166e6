"""How the models of circuit distillation are trained: on stories from scratch, and a teacher on other texts further."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from distilled_circuits.models.corpus import EVALUATION_PROMPTS, EVALUATION_SEED, Questions, encode_questions
from distilled_circuits.models.curriculum import Course, StoryBatch, story_batches
from distilled_circuits.models.shapes import new_gpt2
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.models.training import Evaluation, Schedule, train
from distilled_circuits.tasks.encoding import Reader
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.stories import STORIES, story_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

POSITIONS = 160
"""Longest text: seven boxes, each asked for once."""
SEEDS_APART = 100
"""Distance between the seeds of one family's models and those of the next."""


@dataclass(frozen=True)
class Stories:
    """What all models of a family learn from: word lists and their tokenizer."""

    lexicon: Lexicon
    tokenizer: PreTrainedTokenizerFast
    device: torch.device

    @classmethod
    def of(cls, lexicon: Lexicon, device: torch.device) -> Stories:
        """Return the stories of word lists."""
        return cls(lexicon, word_level_tokenizer(story_vocabulary(lexicon)), device)

    def questions(self, task: str) -> Questions:
        """Return held-out prompts of a task, the same for all models of all seeds."""
        prompts = STORIES[task].prompts(self.lexicon, EVALUATION_PROMPTS, random.Random(EVALUATION_SEED))
        return encode_questions(task, prompts, Reader(self.tokenizer, "the family's tokenizer"), self.device)


def new_family_model(shape: Any, seed: int, stories: Stories) -> PreTrainedModel:
    """Return a GPT-2 with random weights of a shape in `family` of params.yaml."""
    torch.manual_seed(seed)
    end = stories.tokenizer.eos_token_id
    model = new_gpt2(
        len(stories.tokenizer), shape.layers, shape.heads, shape.width, shape.initial_scale, end, positions=POSITIONS
    )
    return model.to(stories.device)


def train_on_stories(
    model: PreTrainedModel,
    recipe: Any,
    mixture: Mapping[str, float],
    task: str,
    course: Course,
    seed: int,
    stories: Stories,
    label: str,
    after_evaluation: Callable[[Evaluation], bool | None] = lambda _: None,
) -> list[Evaluation]:
    """Train a model in place by a recipe in `family` of params.yaml, evaluated on `task`; `seed` orders the text."""
    size = recipe.batch_size
    return train(
        model,
        story_loss(model, recipe.text_weight, course.note),
        story_batches(stories.lexicon, stories.tokenizer, mixture, task, course, size, seed, stories.device),
        Schedule(recipe.steps, recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.evaluate_every),
        [stories.questions(task)],
        label,
        after_evaluation,
    )


def train_to_level(
    recipe: Any, mixture: Mapping[str, float], pace: Any, task: str, seed: int, stories: Stories, label: str
) -> tuple[PreTrainedModel, list[Evaluation]]:
    """Return a model trained from scratch up to the first evaluation that reaches the recipe's level, or to its end.

    `recipe` and `pace` are sections of `family` in params.yaml: `family.teacher` or a student, and `family.pace.TASK`.
    """
    model = new_family_model(recipe, seed, stories)
    course = Course(STORIES[task].lessons, pace.raise_at, pace.patience)
    log = train_on_stories(
        model, recipe, mixture, task, course, seed, stories, label, lambda found: found.accuracy[task] >= recipe.level
    )
    return model, log


def after_the_course(task: str) -> Course:
    """Return the course of a model that has been through it: the usual text alone."""
    return Course([STORIES[task].example], raise_at=1.0, patience=1)


def story_loss(
    model: PreTrainedModel, text_weight: float, note: Callable[[float], None]
) -> Callable[[StoryBatch], torch.Tensor]:
    """Return the loss of training: cross entropy on answers plus `text_weight` times that on other words.

    `note` is told the accuracy on the answers that count for the curriculum.
    """

    def loss(batch: StoryBatch) -> torch.Tensor:
        logits = model(batch.ids, use_cache=False).logits[:, :-1]
        targets, answers = batch.ids[:, 1:], batch.is_answer[:, 1:]
        losses = cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        if batch.counts:
            note((logits.detach().argmax(-1) == targets)[answers].double().mean().item())
        return losses[answers].mean() + text_weight * losses[batch.is_text[:, 1:] & ~answers].mean()

    return loss
