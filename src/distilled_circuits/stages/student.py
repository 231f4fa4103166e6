"""Stage `student`: distil a pair's student, and keep an early state of it as the base of circuit distillation."""

from __future__ import annotations

import copy
import sys

import torch

from distilled_circuits.errors import UserError
from distilled_circuits.models.loading import choose_device, load_model, load_tokenizer
from distilled_circuits.models.recipes import Data, distil
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.models.training import Evaluation
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon


class _FirstAbove:
    """Keeps the state of a model at the first evaluation whose accuracy on a task reaches a level."""

    def __init__(self, model: torch.nn.Module, task: str, accuracy: float) -> None:
        self._model, self._task, self._accuracy = model, task, accuracy
        self.evaluation: Evaluation | None = None
        self.state: dict[str, torch.Tensor] = {}

    def __call__(self, evaluation: Evaluation) -> None:
        if self.evaluation is None and evaluation.accuracy[self._task] >= self._accuracy:
            self.evaluation = evaluation
            self.state = copy.deepcopy(self._model.state_dict())


def run(job: Job) -> None:
    """Distil and write two model directories: the student, and the base it passed through."""
    pair = job.item["pair"]
    recipe = job.param(f"models.{pair}.student")
    device = choose_device(job.param("device"))
    tokenizer = load_tokenizer(job.input("teacher"))
    teacher = load_model(job.input("teacher"), device)
    data = Data(load_lexicon(job.input("lexicon")), tokenizer, job.param(f"models.{pair}.mixture"), device)
    torch.manual_seed(recipe.seed)
    student = student_from_layers(teacher, recipe.layers).to(device)
    base = _FirstAbove(student, recipe.base_task, recipe.base_accuracy)
    log = distil(student, teacher, recipe, recipe.seed, data, job.name, base)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    if base.evaluation is None:
        raise UserError(
            f"{job.name}: the student never reached {recipe.base_accuracy} on {recipe.base_task}, so there is no base "
            f"to distil circuits into: lower models.{pair}.student.base_accuracy or train longer"
        )
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    write_model(job.output("student"), provenance, "distilled", student, tokenizer, log)
    early = [entry for entry in log if entry.step <= base.evaluation.step]
    student.load_state_dict(base.state)
    write_model(job.output("base"), provenance, "student, early", student, tokenizer, early)
