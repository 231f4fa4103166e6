"""How a model directory of a pair comes to be: trained, distilled, or brought in from the hub or from this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from distilled_circuits.models.checkpoints import find_checkpoint
from distilled_circuits.models.loading import load_model, load_tokenizer
from distilled_circuits.models.recipes import Data, distil, train_from_scratch
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


def train_new(job: Job, recipe: Any, name: str, device: torch.device) -> None:
    """Train a model from scratch and write it as `name`."""
    data = Data.of(load_lexicon(job.input("lexicon")), recipe, device)
    model, log = train_from_scratch(recipe, recipe.seed, data, job.name)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    write_model(job.output(name), provenance, "trained from scratch", model, data.tokenizer, log)


def distil_new(job: Job, pair: Any, device: torch.device) -> None:
    """Distil the student from the teacher among the job's inputs and write it."""
    recipe = pair.student
    teacher = load_model(job.input("teacher"), device)
    data = Data.of(load_lexicon(job.input("lexicon")), pair.teacher, device)
    torch.manual_seed(recipe.seed)
    student = student_from_layers(teacher, recipe.layers, recipe.architecture).to(device)
    log = distil(student, teacher, recipe, recipe.seed, data, job.name)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    write_model(job.output("student"), provenance, "distilled", student, data.tokenizer, log)


def bring_in(job: Job, source: Any, name: str) -> None:
    """Write a checkpoint of the hub or of a local directory as `name`, in the type that it is to be computed in.

    What is fetched, cached and written is said first. Raises UserError with a remedy where that cannot be done.
    """
    path: Path = job.output(name)
    found = find_checkpoint(source, job.name, path.parent, _say)
    model = load_model(found.folder, torch.device("cpu"), getattr(torch, source.dtype))
    tokenizer = load_tokenizer(found.folder)
    reading = {"begins": source.begins, "after_mask": source.after_mask}
    provenance = job.provenance("model/1", dtype=source.dtype)
    write_model(path, provenance, found.origin, model, tokenizer, [], source=found.source, reading=reading)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
