"""Stage `student`: distil a pair's student, train it without its teacher, or bring in one that is trained already."""

from __future__ import annotations

from distilled_circuits.models.loading import choose_device
from distilled_circuits.param_models import Distilled, Scratch
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.model_making import bring_in, distil_new, train_new


def run(job: Job) -> None:
    """Write the model directory with its log in model.json."""
    pair = job.param(f"models.{job.item['pair']}")
    if isinstance(pair.student, Distilled):
        distil_new(job, pair, choose_device(job.param("device")))
    elif isinstance(pair.student, Scratch):
        train_new(job, pair.student, "student", choose_device(job.param("device")))
    else:
        bring_in(job, pair.student, "student")
