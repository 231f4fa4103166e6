"""Stage `questions`: the prompts of a story task as token ids, in splits that no prompt is in twice."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distilled_circuits.artifacts import HDF5Writer, write_hdf5
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.encoding import Reader, encode_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.prompt import Prompt
from distilled_circuits.tasks.stories import STORIES, story_vocabulary

AT_ONCE = 500
"""Prompts encoded between two words of progress."""


def run(job: Job) -> None:
    """Make the prompts and write them split by split; the variants are splits of their own."""
    sizes = job.param("distillation.questions")
    lexicon = load_lexicon(job.input("lexicon"))
    reader = Reader(word_level_tokenizer(story_vocabulary(lexicon)), "the family's tokenizer")
    story = STORIES[job.item["task"]]
    splits = {"test": sizes.test, "validation": sizes.validation, "circuit": sizes.circuit, "training": sizes.training}
    total = sum(splits.values())
    with (
        track(total + len(story.variants) * sizes.variants, f"{job.name} prompts") as progress,
        write_hdf5(job.output("questions"), job.provenance("questions/1", seeds={"prompts": sizes.seed})) as file,
    ):

        def write(split: str, prompts: Sequence[Prompt]) -> None:
            records = []
            for start in range(0, len(prompts), AT_ONCE):
                part = prompts[start : start + AT_ONCE]
                records += encode_prompts(part, reader)
                progress.advance(len(part))
            _put(file, split, records)

        made = story.prompts(lexicon, total, random.Random(sizes.seed))
        random.Random(sizes.seed).shuffle(made)  # a generator cycles through kinds of questions
        for split, size in splits.items():
            write(split, made[:size])
            made = made[size:]
        for variant, make in story.variants.items():
            write(f"variants/{variant}", make(lexicon, sizes.variants, random.Random(sizes.seed + 1)))


def _put(file: HDF5Writer, split: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Write one split: ids, answers, choices, kinds, and for each role the positions that play it."""
    file.put(f"{split}/ids", _column(records, "ids"), ("prompt", "pos"))
    file.put(f"{split}/corrupted", _column(records, "corrupted_ids"), ("prompt", "pos"))
    file.put(f"{split}/answer", _column(records, "answer_id"), ("prompt",))
    file.put(f"{split}/distractor", _column(records, "distractor_id"), ("prompt",))
    file.put(f"{split}/choices", _column(records, "choice_ids"), ("prompt", "choice"))
    file.put(f"{split}/kind", [record["kind"] for record in records], ("prompt",))
    file.put(f"{split}/example", [records[0][key] for key in ("clean", "corrupted", "answer")], ("text",))
    for role in records[0]["positions"]:
        positions = np.array([record["positions"][role] for record in records], np.int32)
        file.put(f"{split}/roles/{role}", positions, ("prompt", "place"))


def _column(records: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return np.array([record[key] for record in records], np.int32)
