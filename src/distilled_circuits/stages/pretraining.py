"""Stage `pretraining`: train the teacher of a task from scratch, before it is tuned."""

from __future__ import annotations

import sys

from distilled_circuits.models.family import SEEDS_APART, Stories, train_to_level
from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


def run(job: Job) -> None:
    """Train and write the model directory with its log in model.json."""
    task, recipe = job.item["task"], job.param("family.teacher")
    seed = recipe.seed + SEEDS_APART * job.item["teacher"]
    device = choose_device(job.param("device"))
    stories = Stories.of(load_lexicon(job.input("lexicon")), device)
    mixture, pace = job.param(f"family.mixtures.{task}"), job.param(f"family.pace.{task}")
    model, log = train_to_level(recipe, mixture, pace, task, seed, stories, job.name)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": seed})
    write_model(job.output("pretrained"), provenance, "trained from scratch", model, stories.tokenizer, log)
