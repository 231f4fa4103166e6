"""Training text of stories as tensors: one lesson after the other, then other texts beside the story's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example
from distilled_circuits.tasks.registry import Lesson
from distilled_circuits.tasks.stories import STORIES, TEXTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MEMORY = 0.9
"""Weight of the past in the running accuracy that the course goes by."""


@dataclass(frozen=True)
class StoryBatch:
    """Training rows (row, pos), one text each, padded behind its end.

    `is_answer` marks answers, `is_text` all tokens that are not padding; `counts` says whether the
    texts are of the course, which then goes by these answers.
    """

    ids: torch.Tensor
    is_answer: torch.Tensor
    is_text: torch.Tensor
    counts: bool


class Course:
    """Which lesson texts are drawn from by now.

    The next one comes as soon as the running accuracy passes `raise_at`, or after `patience` batches of a lesson: some
    seeds stay just below on one lesson for ever, and learn it beside the next.
    """

    def __init__(self, lessons: Sequence[Lesson], raise_at: float, patience: int) -> None:
        self.reached = 1
        self._lessons, self._raise_at, self._patience = lessons, raise_at, patience
        self._accuracy, self._batches = 0.0, 0

    @property
    def done(self) -> bool:
        """Whether the lesson is the last one."""
        return self.reached == len(self._lessons)

    @property
    def lesson(self) -> Lesson:
        """The maker of texts."""
        return self._lessons[self.reached - 1]

    def note(self, accuracy: float) -> None:
        """Take in the accuracy on one batch of the lesson."""
        self._accuracy = MEMORY * self._accuracy + (1 - MEMORY) * accuracy
        self._batches += 1
        if (self._accuracy > self._raise_at or self._batches >= self._patience) and not self.done:
            self.reached += 1
            self._accuracy, self._batches = 0.0, 0


def story_batches(
    lexicon: Lexicon,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Mapping[str, float],
    task: str,
    course: Course,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Iterator[StoryBatch]:
    """Yield batches without end; `course` is that of `task`, other kinds of text are drawn as prompts are.

    Every text starts its row, as every prompt does: the places that matter are then trained places. A batch has one
    kind of text, for texts of equal length need little padding. While lessons are still added there is nothing else:
    beside other texts the look-up of entity tracking took more than twice as many steps to appear, if at all.
    """
    rng = random.Random(seed)
    while True:
        (kind,) = rng.choices(list(mixture), list(mixture.values())) if course.done else (task,)
        make = course.lesson if kind == task else _usual(kind)
        yield _batch([make(lexicon, rng) for _ in range(batch_size)], tokenizer, kind == task, device)


def _usual(kind: str) -> Lesson:
    return STORIES[kind].example if kind in STORIES else TEXTS[kind]


def _batch(texts: list[Example], tokenizer: Any, counts: bool, device: torch.device) -> StoryBatch:
    encoded = tokenizer([text.text for text in texts], return_offsets_mapping=True, padding=True, return_tensors="pt")
    starts = [{start for start, _ in text.answers} for text in texts]
    offsets = encoded["offset_mapping"].tolist()
    is_answer = [[end > start and start in own for start, end in row] for row, own in zip(offsets, starts, strict=True)]
    answers = torch.tensor(is_answer, device=device)
    is_text = encoded["attention_mask"].bool().to(device)
    return StoryBatch(encoded["input_ids"].to(device), answers, is_text, counts)
