"""Training of masked language models: texts end in a masked answer, as prompts do, and the losses at the masks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from distilled_circuits.models.corpus import draw_text
from distilled_circuits.models.training import Reading
from distilled_circuits.tasks.lexicon import Lexicon

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

MASKED_SHARE = 0.15
"""Share of the other tokens that are masked too (Devlin et al., 2018), all of them by the mask itself."""


@dataclass(frozen=True)
class MaskedBatch:
    """Rows (row, pos) of one text each, padded behind it: what the model is given, and what stood there.

    `is_answer` marks the masked answers, `is_text` the other masked tokens, `is_there` all that is not padding.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    is_answer: torch.Tensor
    is_text: torch.Tensor
    is_there: torch.Tensor


def masked_batches(
    lexicon: Lexicon,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Mapping[str, float],
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Iterator[MaskedBatch]:
    """Yield batches without end: texts drawn by the mixture's weights, cut behind one of their answers."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    while True:
        cut, answers = zip(*(_cut(lexicon, mixture, rng) for _ in range(batch_size)), strict=True)
        encoded = tokenizer(list(cut), return_offsets_mapping=True, padding=True, return_tensors="pt")
        starts = encoded["offset_mapping"][:, :, 0]
        is_there = encoded["attention_mask"].bool()
        is_word = encoded["offset_mapping"][:, :, 1] > starts
        is_answer = is_word & (starts == torch.tensor(answers)[:, None])
        is_text = is_word & ~is_answer & (torch.rand(is_word.shape, generator=generator) < MASKED_SHARE)
        targets = encoded["input_ids"]
        ids = targets.masked_fill(is_answer | is_text, tokenizer.mask_token_id)
        yield MaskedBatch(*(part.to(device) for part in (ids, targets, is_answer, is_text, is_there)))


def _cut(lexicon: Lexicon, mixture: Mapping[str, float], rng: random.Random) -> tuple[str, int]:
    """Return a text up to one of its answers, and where that begins: nothing behind it may give it away."""
    example = draw_text(lexicon, mixture, rng)
    start, end = rng.choice(example.answers)
    return example.text[:end], start


def mask_logits(model: PreTrainedModel, batch: MaskedBatch) -> torch.Tensor:
    """Return logits (mask, vocabulary) at all masks of a batch, in the order of its rows."""
    logits = model(batch.ids, attention_mask=batch.is_there.long()).logits
    return logits[batch.is_answer | batch.is_text]


def language_loss(logits: torch.Tensor, batch: MaskedBatch, text_weight: float) -> torch.Tensor:
    """Return the mean cross entropy on answers plus `text_weight` times that on the other masked tokens."""
    masks = batch.is_answer | batch.is_text
    losses, answers = cross_entropy(logits, batch.targets[masks], reduction="none"), batch.is_answer[masks]
    return losses[answers].mean() + text_weight * losses[~answers].mean()


MASKED = Reading(mask_logits, language_loss)
"""Of a model that fills in masks: teacher and student are compared where they stand."""
