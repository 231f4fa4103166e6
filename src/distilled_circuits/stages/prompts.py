"""Stage `prompts`: make a task's prompts and encode them with both models' tokenizers."""

from __future__ import annotations

import random

from distilled_circuits.artifacts import write_json
from distilled_circuits.errors import UserError
from distilled_circuits.models.loading import load_tokenizer
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.encoding import encode_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import TASKS


def run(job: Job) -> None:
    """Write the prompts as JSON; the teacher and the student must read them as the same tokens."""
    settings = job.param("prompts")
    task = TASKS[job.item["task"]]
    made = task.prompts(load_lexicon(job.input("lexicon")), settings.number, random.Random(settings.seed))
    teacher, student = (
        encode_prompts(made, load_tokenizer(job.input(side)), f"the {side}'s tokenizer")
        for side in ("teacher", "student")
    )
    for ours, theirs in zip(teacher, student, strict=True):
        if ours != theirs:
            raise UserError(
                f"teacher and student of {job.item['pair']} read {ours['clean']!r} as different tokens; "
                "pairs with two tokenizers are not supported"
            )
    provenance = job.provenance("prompts/2", dtype="int64", seeds={"prompts": settings.seed})
    write_json(job.output("prompts"), provenance, {"task": task.name, "title": task.title, "prompts": teacher})
