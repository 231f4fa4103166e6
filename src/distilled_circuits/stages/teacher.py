"""Stage `teacher`: train a pair's teacher from scratch, or bring in one that somebody else has trained."""

from __future__ import annotations

from distilled_circuits.models.loading import choose_device
from distilled_circuits.param_models import Scratch
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.model_making import bring_in, train_new


def run(job: Job) -> None:
    """Write the model directory with its log in model.json."""
    recipe = job.param(f"models.{job.item['pair']}.teacher")
    if isinstance(recipe, Scratch):
        train_new(job, recipe, "teacher", choose_device(job.param("device")))
    else:
        bring_in(job, recipe, "teacher")
