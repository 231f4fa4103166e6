"""Stage `student`: distil a pair's student."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.models.loading import choose_device, load_model, load_tokenizer
from distilled_circuits.models.recipes import Data, distil
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


def run(job: Job) -> None:
    """Distil and write the model directory with its log in model.json."""
    pair = job.item["pair"]
    recipe = job.param(f"models.{pair}.student")
    device = choose_device(job.param("device"))
    tokenizer = load_tokenizer(job.input("teacher"))
    teacher = load_model(job.input("teacher"), device)
    data = Data(load_lexicon(job.input("lexicon")), tokenizer, job.param(f"models.{pair}.mixture"), device)
    torch.manual_seed(recipe.seed)
    student = student_from_layers(teacher, recipe.layers).to(device)
    log = distil(student, teacher, recipe, recipe.seed, data, job.name)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    write_model(job.output("student"), provenance, "distilled", student, tokenizer, log)
