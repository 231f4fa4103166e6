"""Invariants of prompts: of a pair's tasks (prompts.json), and of circuit distillation (questions.h5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distilled_circuits.audit.expect import holds, layout, nothing_else, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place
from distilled_circuits.audit.store import Arrays
from distilled_circuits.stages.job import MODELS

SPLITS = ("test", "validation", "circuit", "training")
FORM = {
    "ids": "count: prompt pos",
    "corrupted": "count: prompt pos",
    "answer": "count: prompt",
    "distractor": "count: prompt",
    "choices": "count: prompt choice",
    "kind": "text: prompt",
    "example": "text: text",
}


def prompts(at: Place) -> Iterator[Wrong]:
    """As many prompts for both models, of one length in each, and within the models' words."""
    content = at.json
    yield from same("task", content["task"], at.item["task"])
    number = {len(content["prompts"][model]) for model in MODELS}
    yield from holds("prompts", len(number) == 1, "as many for both models", sorted(number))
    most = at.params["prompts"]["number"]
    yield from holds("prompts", max(number) <= most, f"at most {most} (prompts.number)", max(number))
    for model in MODELS:
        length = len(content["prompts"][model][0]["ids"])
        words = at.sizes(model).vocabulary
        for index, record in enumerate(content["prompts"][model]):
            yield from _record(f"prompts.{model}[{index}]", record, length, words)
    for index, (one, other) in enumerate(zip(*content["prompts"].values(), strict=False)):
        yield from same(f"prompts[{index}], clean text of both models", one["clean"], other["clean"])


def _record(place: str, record: dict[str, Any], length: int, words: int) -> Iterator[Wrong]:
    for key in ("ids", "corrupted_ids"):
        yield from same(f"{place}.{key}, length", len(record[key]), length)
        yield from within(f"{place}.{key}", record[key], 0, words - 1)
    answers = [record["answer_id"], record["distractor_id"]]
    yield from within(f"{place}, answer and distractor", answers, 0, words - 1)
    yield from holds(f"{place}.distractor_id", answers[0] != answers[1], "not the answer", answers[1])
    yield from within(f"{place}.read_at", record["read_at"], -length, -1)
    for role, positions in record["positions"].items():
        yield from within(f"{place}.positions.{role}", positions, 0, length - 1)


def questions(at: Place) -> Iterator[Wrong]:
    """Each split has its number of prompts; answers are among the choices; no prompt of a split is in another."""
    arrays, asked = at.arrays, at.params["distillation.questions"]
    variants = sorted({name.split("/")[1] for name in arrays if name.startswith("variants/")})
    sizes = {split: asked[split] for split in SPLITS} | {f"variants/{name}": asked["variants"] for name in variants}
    names: list[str] = []
    for split, number in sizes.items():
        roles = [name for name in arrays if name.startswith(f"{split}/roles/")]
        names += [*(f"{split}/{name}" for name in FORM), *roles]
        wrong = list(layout(arrays, FORM, {"prompt": number, "text": 3}, f"{split}/"))
        yield from wrong
        if not wrong:
            yield from _answers(arrays, split)
        for role in roles:
            yield from layout(arrays, {role: "count: prompt place"}, {"prompt": number})
            yield from within(role, arrays[role], 0, arrays[f"{split}/ids"].shape[1] - 1)
    yield from nothing_else(arrays, *names)
    texts = np.concatenate([arrays[f"{split}/ids"] for split in SPLITS])
    yield from same("prompts that are in two splits, or twice in one", len(texts) - len(np.unique(texts, axis=0)), 0)


def _answers(arrays: Arrays, split: str) -> Iterator[Wrong]:
    answer, distractor = arrays[f"{split}/answer"], arrays[f"{split}/distractor"]
    among = (arrays[f"{split}/choices"] == answer[:, None]).any(1)
    yield from holds(f"{split}/answer", among.all(), "one of the choices", f"another in row {among.argmin()}")
    equal = answer == distractor
    yield from holds(f"{split}/distractor", not equal.any(), "not the answer", f"the answer in row {equal.argmax()}")
