"""Stage `base`: train the student of a task from scratch, and stop it where it is halfway there."""

from __future__ import annotations

import sys

from distilled_circuits.errors import UserError
from distilled_circuits.models.family import SEEDS_APART, Stories, train_to_level
from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


def run(job: Job) -> None:
    """Train until the first evaluation that reaches the level, and write the model directory."""
    student, task = job.item["student"], job.item["task"]
    recipe = job.param(f"family.students.{student}")
    seed = recipe.seed + SEEDS_APART * job.item["teacher"]
    device = choose_device(job.param("device"))
    stories = Stories.of(load_lexicon(job.input("lexicon")), device)
    mixture, pace = job.param(f"family.mixtures.{task}"), job.param(f"family.pace.{task}")
    model, log = train_to_level(recipe, mixture, pace, task, seed, stories, job.name)
    reached = log[-1].accuracy[task]
    if reached < recipe.level:
        raise UserError(
            f"{job.name}: after {log[-1].step} steps the student answers {reached:.2f} and never reached "
            f"{recipe.level}: lower family.students.{student}.level or raise its steps"
        )
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": seed})
    write_model(job.output("base"), provenance, "student, early", model, stories.tokenizer, log)
