"""Training text as tensors: mixed batches of task texts, and held-out prompts to measure accuracy on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from distilled_circuits.tasks.encoding import Reader, encode_prompts
from distilled_circuits.tasks.lexicon import Lexicon
from distilled_circuits.tasks.prompt import Example, Prompt, scatter
from distilled_circuits.tasks.registry import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EVALUATION_PROMPTS = 256
"""Held-out prompts a task on which accuracy is measured while training."""
EVALUATION_SEED = 1_000_003
"""One fixed choice of these prompts, so that all models of all seeds are measured on the same ones."""


ROW_LENGTH = 64
"""Tokens of a training row."""
SCATTERED_SHARE = 0.7
"""Share of training texts that get filler words; the others have the form of the prompts."""
FILLER_RATE = 0.3
"""Probability of a filler in each gap of such a text."""


@dataclass(frozen=True)
class Batch:
    """Training rows (row, pos): token ids, and which of them are answers; all others are text."""

    ids: torch.Tensor
    is_answer: torch.Tensor


@dataclass(frozen=True)
class Questions:
    """Prompts of one task with the token that answers them: ids (prompt, pos) of one length, answers (prompt,).

    The answer is read at the position that `read_at` counts from the end.
    """

    task: str
    ids: torch.Tensor
    answers: torch.Tensor
    read_at: int


def training_batches(
    lexicon: Lexicon,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Mapping[str, float],
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Yield batches without end: rows of `ROW_LENGTH` tokens, packed with texts drawn by the mixture's weights.

    Packing puts every text at changing positions and beside others that it must not be confused with.
    """
    rng = random.Random(seed)
    while True:
        rows = [_packed_row(lexicon, tokenizer, mixture, rng) for _ in range(batch_size)]
        ids = torch.tensor([[token for token, _ in row] for row in rows])
        is_answer = torch.tensor([[answer for _, answer in row] for row in rows])
        yield Batch(ids.to(device), is_answer.to(device))


def _packed_row(
    lexicon: Lexicon, tokenizer: PreTrainedTokenizerFast, mixture: Mapping[str, float], rng: random.Random
) -> list[tuple[int, bool]]:
    """Return `ROW_LENGTH` tokens, each with whether it is an answer; the last text is cut."""
    row: list[tuple[int, bool]] = []
    while len(row) < ROW_LENGTH:
        example = draw_text(lexicon, mixture, rng)
        encoded = tokenizer(example.text, return_offsets_mapping=True)
        starts = {start for start, _ in example.answers}
        answers = [start in starts for start, _ in encoded["offset_mapping"]]
        row += [*zip(encoded["input_ids"], answers, strict=True), (tokenizer.eos_token_id, False)]
    return row[:ROW_LENGTH]


def draw_text(lexicon: Lexicon, mixture: Mapping[str, float], rng: random.Random) -> Example:
    """Return a training text of a task drawn by the mixture's weights, most of them with filler words."""
    (task,) = rng.choices(list(mixture), list(mixture.values()))
    example = TASKS[task].example(lexicon, rng)
    return scatter(example, lexicon.fillers, FILLER_RATE, rng) if rng.random() < SCATTERED_SHARE else example


def evaluation_questions(lexicon: Lexicon, reader: Reader, device: torch.device) -> list[Questions]:
    """Return held-out prompts of every task (for `facts`: the memorised ones)."""
    return [
        encode_questions(
            name, task.prompts(lexicon, EVALUATION_PROMPTS, random.Random(EVALUATION_SEED)), reader, device
        )
        for name, task in TASKS.items()
    ]


def encode_questions(task: str, prompts: Sequence[Prompt], reader: Reader, device: torch.device) -> Questions:
    """Turn prompts of one length into tensors."""
    records = encode_prompts(prompts, reader)
    ids, answers = (torch.tensor([record[key] for record in records], device=device) for key in ("ids", "answer_id"))
    return Questions(task, ids, answers, records[0]["read_at"])
