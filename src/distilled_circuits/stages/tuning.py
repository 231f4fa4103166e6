"""Stage `tuning`: train a family's teacher further for one task, on the texts that stand for GOAT or Alpaca."""

from __future__ import annotations

import sys

from distilled_circuits.models.family import SEEDS_APART, Stories, after_the_course, train_on_stories
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


def run(job: Job) -> None:
    """Tune and write the model directory; its first evaluation is that of the teacher before tuning."""
    task = job.item["task"]
    tuning = job.param(f"family.tuning.{task}")
    recipe = job.param("family.teacher").model_copy(
        update={"steps": tuning.steps, "learning_rate": tuning.learning_rate}
    )
    seed = recipe.seed + SEEDS_APART * job.item["teacher"] + 1
    device = choose_device(job.param("device"))
    stories = Stories.of(load_lexicon(job.input("lexicon")), device)
    model = load_model(job.input("pretrained"), device).train().requires_grad_(requires_grad=True)
    log = train_on_stories(model, recipe, tuning.texts, task, after_the_course(task), seed, stories, job.name)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": seed})
    write_model(job.output("teacher"), provenance, "tuned", model, stories.tokenizer, log)
