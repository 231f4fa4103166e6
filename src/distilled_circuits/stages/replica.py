"""Stage `replica`: train a pair's teacher and student once more, from other seeds."""

from __future__ import annotations

import sys

from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.recipes import Data, distil, train_from_scratch
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


def run(job: Job) -> None:
    """Write two model directories; only seeds differ from the stages `teacher` and `student`."""
    pair, replica = job.item["pair"], job.item["replica"]
    recipe, own = job.param(f"models.{pair}.teacher"), job.param(f"models.{pair}.student")
    device = choose_device(job.param("device"))
    data = Data.of(load_lexicon(job.input("lexicon")), recipe, device)
    seeds = {"teacher": replica_seed(recipe.seed, replica), "student": replica_seed(own.seed, replica)}
    teacher, log = train_from_scratch(recipe, seeds["teacher"], data, f"{job.name} teacher")
    sys.stderr.write(report_evaluation(f"{job.name} teacher", log[-1]))
    provenance = job.provenance("model/1", device=device, seeds=seeds)
    write_model(job.output("teacher"), provenance, "trained from scratch", teacher, data.tokenizer, log)
    student = student_from_layers(teacher, own.layers).to(device)
    log = distil(student, teacher, own, seeds["student"], data, f"{job.name} student")
    sys.stderr.write(report_evaluation(f"{job.name} student", log[-1]))
    write_model(job.output("student"), provenance, "distilled", student, data.tokenizer, log)


def replica_seed(seed: int, replica: int) -> int:
    """Return the seed of a replica's model: hundreds above the pair's own, whose replica is 0."""
    return seed + 100 * replica
