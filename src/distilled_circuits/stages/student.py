"""Stage `student`: distil a pair's student, and keep an early state of it as the base of circuit distillation."""

from __future__ import annotations

import copy
import sys

import torch

from distilled_circuits.artifacts import replacing, to_json
from distilled_circuits.errors import UserError
from distilled_circuits.models.corpus import evaluation_questions, training_batches
from distilled_circuits.models.loading import choose_device, load_model, load_tokenizer, save_model
from distilled_circuits.models.record import model_record, report_evaluation
from distilled_circuits.models.training import Evaluation, Schedule, student_from_layers, student_loss, train
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
    mixture = job.param(f"models.{pair}.mixture")
    device = choose_device(job.param("device"))
    lexicon = load_lexicon(job.input("lexicon"))
    tokenizer = load_tokenizer(job.input("teacher"))
    teacher = load_model(job.input("teacher"), device)
    torch.manual_seed(recipe.seed)
    student = student_from_layers(teacher, recipe.layers).to(device)
    base = _FirstAbove(student, recipe.base_task, recipe.base_accuracy)
    schedule = Schedule(recipe.steps, recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.evaluate_every)
    log = train(
        student,
        student_loss(student, teacher, recipe.temperature, recipe.kl_weight, recipe.lm_weight, recipe.text_weight),
        training_batches(lexicon, tokenizer, mixture, recipe.batch_size, recipe.seed, device),
        schedule,
        evaluation_questions(lexicon, tokenizer, device),
        job.name,
        base,
    )
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    if base.evaluation is None:
        raise UserError(
            f"{job.name}: the student never reached {recipe.base_accuracy} on {recipe.base_task}, so there is no base "
            f"to distil circuits into: lower models.{pair}.student.base_accuracy or train longer"
        )
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    with replacing(job.output("student")) as folder:
        record = model_record(provenance, "distilled", save_model(student, tokenizer, folder), log)
        (folder / "model.json").write_text(to_json(record), encoding="utf-8")
    early = [entry for entry in log if entry.step <= base.evaluation.step]
    student.load_state_dict(base.state)
    with replacing(job.output("base")) as folder:
        record = model_record(provenance, "student, early", save_model(student, tokenizer, folder), early)
        (folder / "model.json").write_text(to_json(record), encoding="utf-8")
