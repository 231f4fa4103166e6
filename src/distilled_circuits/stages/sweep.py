"""Stage `sweep`: trials of one condition on validation prompts, by learning rate, lambda and number of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.distillation.mapping import Mapping as Pairs
from distilled_circuits.errors import UserError
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import Questions, stored_questions
from distilled_circuits.stages.student_answers import accuracy, similarity
from distilled_circuits.stages.student_training import Classroom, Run, Taught


@dataclass(frozen=True)
class _Trial:
    """Which sweep it belongs to, the condition as it is tried, and the number of training prompts."""

    kind: str
    condition: Any
    prompts: int


def run(job: Job) -> None:
    """Run all trials with a seed that no test uses; equal ones are run once."""
    name = job.item["condition"]
    sweep, settings = job.param("distillation.sweep"), job.param("distillation.training")
    room = Classroom.of(job)
    device = room.teacher.device
    asked = stored_questions(job.input("questions"), "validation", device)
    condition = job.param(f"conditions.{name}").model_copy(update={"maps": 1})
    trials = list(_trials(name, condition, sweep, settings.prompts[job.item["task"]]))
    (pairs,) = room.mappings(condition, sweep.seed)
    pool = stored_questions(
        job.input("questions"), "training", device, max((trial.prompts for trial in trials), default=1)
    )
    taught = room.taught(condition, pairs, pool)
    known: dict[tuple[str, int], dict[str, Any]] = {}
    rows = []
    with track(len(trials), f"{job.name} trials") as progress:
        for trial in trials:
            key = (str(trial.condition), trial.prompts)
            if key not in known:
                known[key] = _outcome(
                    Run(job.name, trial.condition, sweep.seed), room, pairs, taught.first(trial.prompts), asked
                )
            said = {"learning_rate": trial.condition.learning_rate, "weight": trial.condition.weight}
            rows.append({"sweep": trial.kind, "condition": name, **said, "prompts": trial.prompts, **known[key]})
            progress.advance()
    content = {
        "used": job.param(f"conditions.{name}").model_dump(),
        "prompts": len(asked),
        "base": accuracy(room.base_student(), asked),
        "teacher": accuracy(room.teacher, asked),
        "trials": rows,
    }
    write_json(job.output(name), job.provenance("sweep/1", device=device, seeds={"training": sweep.seed}), content)


def _trials(name: str, condition: Any, sweep: Any, prompts: int) -> Iterator[_Trial]:
    """Yield every trial; a condition has as many learning rates as any other."""
    for rate in sweep.learning_rates:
        yield _Trial("learning_rate", condition.model_copy(update={"learning_rate": rate}), prompts)
    if name in sweep.weighted:
        for weight in sweep.weights:
            yield _Trial("weight", condition.model_copy(update={"weight": weight}), prompts)
    if name in sweep.sized:
        for size in sweep.sizes:
            yield _Trial("size", condition, size)


def _outcome(run: Run, room: Classroom, pairs: Pairs, taught: Taught, asked: Questions) -> dict[str, Any]:
    """Return accuracy and the pairs' CKA after one training; a loss that is no number is a failed trial, not an end."""
    try:
        student, _ = room.train(run, taught)
    except UserError as error:
        return {"accuracy": None, "debiased_cka": None, "failed": str(error)}
    return {"accuracy": accuracy(student, asked), "debiased_cka": similarity(student, room.teacher, pairs, asked)}
