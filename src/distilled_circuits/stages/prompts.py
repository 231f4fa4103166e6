"""Stage `prompts`: make or read a task's prompts and encode them as each of both models reads them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.errors import UserError
from distilled_circuits.models.reading import load_reader
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.tasks.encoding import AnswerForm, Reader, Record, encode_alike, encode_prompts
from distilled_circuits.tasks.formats import FORMATS, read_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.prompt import Prompt
from distilled_circuits.tasks.registry import TASKS

FEWEST = 8
"""Prompts below which nothing can be said."""
SPARE = 4
"""Times as many prompts are made where a tokenizer does not read all of them alike."""
Encoded = tuple[list[list[Record]], dict[str, int]]
"""Records by model, and how many prompts were left out, by reason."""


def run(job: Job) -> None:
    """Write the prompts as JSON, for each model in its own tokens."""
    name, settings, source = job.item["task"], job.param("prompts"), job.param(f"sources.{job.item['task']}")
    readers = [load_reader(job.input(model), f"the {model}") for model in MODELS]
    files = [] if source == "generated" else [Path(file) for file in source.files]
    if source == "generated":
        title = TASKS[name].title
        encoded = _made(job, readers)
    else:
        title = source.title or f"{name}, {FORMATS[source.format].title}"
        encoded = _read(files, source, readers, settings)
    records, left_out = encoded
    if len(records[0]) < FEWEST:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in left_out.items()) or "there are no more"
        raise UserError(
            f"{name}: both models read only {len(records[0])} prompts alike ({reasons}); at least "
            f"{FEWEST} are needed: choose other words, or another task for this pair"
        )
    provenance = job.provenance("prompts/3", dtype="int64", seeds={"prompts": settings.seed}, read={"tasks": files})
    content = {
        "task": name,
        "title": title,
        "generated": source == "generated",
        "published_as": "" if source == "generated" else source.published_as,
        "left_out": left_out,
    }
    write_json(job.output("prompts"), provenance, {**content, "prompts": dict(zip(MODELS, records, strict=True))})


def _made(job: Job, readers: Sequence[Reader]) -> Encoded:
    """Make prompts; where the tokenizers do not read all alike, make more and keep those that they do."""
    number, seed = job.param("prompts").number, job.param("prompts").seed
    lexicon = load_lexicon(job.input("lexicon"))

    def make(number: int) -> list[Prompt]:
        return TASKS[job.item["task"]].prompts(lexicon, number, random.Random(seed))

    made = make(number)
    try:
        return [encode_prompts(made, reader) for reader in readers], {}
    except UserError:
        with suppress(UserError):  # there are no more
            made = make(SPARE * number)
        return encode_alike(made, readers, number)


def _read(files: Sequence[Path], source: Any, readers: Sequence[Reader], settings: Any) -> Encoded:
    """Read prompts; of a format whose prompts must be of one length, one that is not is an error with its line."""
    form = FORMATS[source.format]
    prompts = read_prompts(source.format, files, source.sha256, random.Random(settings.seed))
    answers = AnswerForm(form.first_token, source.space)
    if not form.one_length:
        return encode_alike(prompts, readers, settings.number, answers)
    beyond = max(0, len(prompts) - settings.number)
    left_out = {"beyond prompts.number": beyond} if beyond else {}
    return [encode_prompts(prompts[: settings.number], reader, answers) for reader in readers], left_out
