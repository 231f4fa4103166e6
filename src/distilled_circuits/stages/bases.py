"""Stage `bases`: train a family's student from scratch, and stop it for each task where it is halfway there."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field

import torch

from distilled_circuits.errors import UserError
from distilled_circuits.models.family import SEEDS_APART, Stories, new_family_model, train_on_stories
from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.training import Evaluation
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import STORIES


@dataclass
class FirstAbove:
    """Keeps for each task the state of a model at the first evaluation that reaches a level."""

    model: torch.nn.Module
    level: float
    steps: dict[str, int] = field(default_factory=dict)
    states: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def __call__(self, evaluation: Evaluation) -> bool:
        """Look at one evaluation; return True when every task has its state, which ends training."""
        for task, accuracy in evaluation.accuracy.items():
            if task not in self.steps and accuracy >= self.level:
                self.steps[task] = evaluation.step
                self.states[task] = copy.deepcopy(self.model.state_dict())
        return len(self.steps) == len(STORIES)


def run(job: Job) -> None:
    """Train and write one model directory for each task."""
    student = job.item["student"]
    recipe = job.param(f"family.students.{student}")
    seed = recipe.seed + SEEDS_APART * job.item["teacher"]
    device = choose_device(job.param("device"))
    stories = Stories.of(load_lexicon(job.input("lexicon")), job.param("family.curriculum"), device)
    model = new_family_model(recipe, seed, stories)
    kept = FirstAbove(model, recipe.level)
    log = train_on_stories(model, recipe, job.param("family.mixture"), seed, stories, job.name, kept)
    for task in STORIES:
        if task not in kept.steps:
            raise UserError(
                f"{job.name}: after {log[-1].step} steps the student has {log[-1].accuracy[task]:.2f} on {task} and "
                f"never reached {recipe.level}: lower family.students.{student}.level or raise its steps"
            )
    provenance = job.provenance("model/1", device=device, seeds={"training": seed})
    for task, step in kept.steps.items():
        model.load_state_dict(kept.states[task])
        early = [entry for entry in log if entry.step <= step]
        sys.stderr.write(report_evaluation(f"{job.name} ({task})", early[-1]))
        write_model(job.output(task), provenance, "student, early", model, stories.tokenizer, early)
