"""Stage `rivals`: students that had no teacher, for the battery: one of the student's shape, one of another kind."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.recipes import Data, train_from_scratch
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import new_model
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.replica import replica_seed
from distilled_circuits.tasks.lexicon import load_lexicon


def run(job: Job) -> None:
    """Write three model directories: the student's shape before and after training alone, and a Llama."""
    pair = job.item["pair"]
    recipe, layers = job.param(f"models.{pair}.teacher"), job.param(f"models.{pair}.student.layers")
    other = job.param("battery.mismatched")
    device = choose_device(job.param("device"))
    data = Data.of(load_lexicon(job.input("lexicon")), recipe, device)
    seed = replica_seed(job.param(f"models.{pair}.student.seed"), job.item["replica"])
    provenance = job.provenance("model/1", device=device, seeds={"training": seed})
    alone = recipe.model_copy(update={"layers": len(layers)})
    mismatched = recipe.model_copy(update={"architecture": "llama", **other.model_dump()})
    torch.manual_seed(seed)
    untrained = new_model(alone, data.tokenizer).to(device)
    write_model(job.output("untrained"), provenance, "random weights", untrained, data.tokenizer, [])
    for name, shape in (("alone", alone), ("mismatched", mismatched)):
        model, log = train_from_scratch(shape, seed, data, f"{job.name} {name}")
        sys.stderr.write(report_evaluation(f"{job.name} {name}", log[-1]))
        write_model(job.output(name), provenance, "trained from scratch", model, data.tokenizer, log)
