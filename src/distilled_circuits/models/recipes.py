"""How the models of a pair are trained: by a recipe from scratch, or a student by distillation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from distilled_circuits.lens.architectures import architecture_of
from distilled_circuits.models.corpus import evaluation_questions, training_batches
from distilled_circuits.models.masked import MASKED, masked_batches
from distilled_circuits.models.shapes import new_model
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.models.training import CAUSAL, Evaluation, Reading, Schedule, student_loss, teacher_loss, train
from distilled_circuits.tasks.encoding import Reader
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.registry import vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Data:
    """What a model learns from: word lists, its tokenizer, the weights of the tasks, and whether answers are masked."""

    lexicon: Lexicon
    tokenizer: PreTrainedTokenizerFast
    mixture: Mapping[str, float]
    device: torch.device
    masked: bool

    @classmethod
    def of(cls, lexicon: Lexicon, recipe: Any, device: torch.device) -> Data:
        """Return the data of a `models.*` section that trains from scratch, with a tokenizer of the tasks' words."""
        masked = not architecture_of(recipe.architecture).causal
        return cls(lexicon, word_level_tokenizer(vocabulary(lexicon), masked=masked), recipe.mixture, device, masked)

    def batches(self, batch_size: int, seed: int) -> Iterator[Any]:
        """Yield training batches without end; `seed` orders the text."""
        make = masked_batches if self.masked else training_batches
        return make(self.lexicon, self.tokenizer, self.mixture, batch_size, seed, self.device)

    @property
    def reading(self) -> Reading:
        """How the models read those batches, and what they lose on them."""
        return MASKED if self.masked else CAUSAL

    @property
    def reader(self) -> Reader:
        """How the models read prompts."""
        return Reader(self.tokenizer, "the tokenizer of the word lists", self.masked)


def train_from_scratch(recipe: Any, seed: int, data: Data, label: str) -> tuple[PreTrainedModel, list[Evaluation]]:
    """Return a model trained by a `models.*` section, and its log; `seed` is of weights and text order."""
    torch.manual_seed(seed)
    model = new_model(recipe, data.tokenizer).to(data.device)
    loss = teacher_loss(model, recipe.text_weight, data.reading)
    return model, _train(model, loss, recipe, seed, data, label)


def distil(
    student: PreTrainedModel, teacher: PreTrainedModel, recipe: Any, seed: int, data: Data, label: str
) -> list[Evaluation]:
    """Train a student in place by a student's recipe (a `models.*.student` section); `seed` orders the text."""
    weights = recipe.temperature, recipe.kl_weight, recipe.lm_weight, recipe.text_weight
    loss = student_loss(student, teacher, *weights, data.reading)
    return _train(student, loss, recipe, seed, data, label)


def _train(model: PreTrainedModel, loss: Any, recipe: Any, seed: int, data: Data, label: str) -> list[Evaluation]:
    return train(
        model,
        loss,
        data.batches(recipe.batch_size, seed),
        Schedule(recipe.steps, recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.evaluate_every),
        evaluation_questions(data.lexicon, data.reader, data.device),
        label,
    )
