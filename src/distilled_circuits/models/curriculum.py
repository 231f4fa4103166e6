"""Training text of stories as tensors: entity tracking on few boxes first, and other texts by a mixture."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from distilled_circuits.tasks.entity_tracking import COMPACT, OBJECT_FIRST, Style, entity_tracking_example
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example
from distilled_circuits.tasks.registry import STORIES, TEXTS

MEMORY = 0.9
"""Weight of the past in the running accuracy that the curriculum goes by."""
AT_THE_FRONT = 0.5
"""Share of entity-tracking texts with as many boxes as the curriculum has reached; the others have any up to that."""


@dataclass(frozen=True)
class StoryBatch:
    """Training rows (row, pos), one text each, padded behind its end.

    `is_answer` marks answers, `is_text` all tokens that are not padding; `counts` says whether the curriculum goes by
    these answers.
    """

    ids: torch.Tensor
    is_answer: torch.Tensor
    is_text: torch.Tensor
    counts: bool


class BoxCurriculum:
    """How many boxes a text may have by now: one more whenever the running accuracy passes `raise_at`.

    From two boxes on a model finds the look-up within a few hundred steps; shown seven at once it stays at chance.
    """

    def __init__(self, first: int, last: int, raise_at: float) -> None:
        self.boxes = first
        self._first, self._last, self._raise_at = first, last, raise_at
        self._accuracy = 0.0

    @property
    def done(self) -> bool:
        """Whether texts may have as many boxes as they ever will."""
        return self.boxes >= self._last

    def draw(self, rng: random.Random) -> int:
        """Return the number of boxes of the next text."""
        return self.boxes if rng.random() < AT_THE_FRONT else rng.randint(self._first, self.boxes)

    def note(self, accuracy: float) -> None:
        """Take in the accuracy on one batch's texts."""
        self._accuracy = MEMORY * self._accuracy + (1 - MEMORY) * accuracy
        if self._accuracy > self._raise_at and not self.done:
            self.boxes += 1
            self._accuracy = 0.0


def story_batches(
    lexicon: Lexicon,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Mapping[str, float],
    curriculum: BoxCurriculum,
    terse: float,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Iterator[StoryBatch]:
    """Yield batches without end; `terse` is the share of entity-tracking batches without a needless word.

    The curriculum goes by the others: the terse ones are learned first, and would pass for progress.

    Every text starts its row, as every prompt does: the places that matter are then trained places. A batch has one
    kind of text, for texts of equal length need little padding. Where entity tracking is learned there is nothing else
    while boxes are still added: beside other texts its look-up took more than twice as many steps to appear, if at all.
    """
    rng = random.Random(seed)
    while True:
        alone = "entity_tracking" in mixture and not curriculum.done
        (kind,) = ("entity_tracking",) if alone else rng.choices(list(mixture), list(mixture.values()))
        usual = kind == "entity_tracking" and rng.random() >= terse
        texts = [_text(kind, lexicon, curriculum, OBJECT_FIRST if usual else COMPACT, rng) for _ in range(batch_size)]
        yield _batch(texts, tokenizer, usual, device)


def _text(kind: str, lexicon: Lexicon, curriculum: BoxCurriculum, style: Style, rng: random.Random) -> Example:
    if kind != "entity_tracking":
        make = STORIES[kind].example if kind in STORIES else TEXTS[kind]
        return make(lexicon, rng)
    return entity_tracking_example(lexicon, rng, curriculum.draw(rng), style)


def _batch(texts: list[Example], tokenizer: Any, counts: bool, device: torch.device) -> StoryBatch:
    encoded = tokenizer([text.text for text in texts], return_offsets_mapping=True, padding=True, return_tensors="pt")
    starts = [{start for start, _ in text.answers} for text in texts]
    offsets = encoded["offset_mapping"].tolist()
    is_answer = [[end > start and start in own for start, end in row] for row, own in zip(offsets, starts, strict=True)]
    answers = torch.tensor(is_answer, device=device)
    is_text = encoded["attention_mask"].bool().to(device)
    return StoryBatch(encoded["input_ids"].to(device), answers, is_text, counts)
