"""Stage `sweep`: trials of one condition on validation prompts, by learning rate, lambda and number of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.errors import UserError
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import Questions, stored_questions
from distilled_circuits.stages.student_answers import accuracy, similarity
from distilled_circuits.stages.student_training import Classroom, Run


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
    pool = stored_questions(job.input("questions"), "training", device)
    asked = stored_questions(job.input("questions"), "validation", device)
    trials = list(_trials(name, job.param(f"conditions.{name}"), sweep, settings.prompts[job.item["task"]]))
    known: dict[tuple[str, int], dict[str, Any]] = {}
    rows = []
    with track(len(trials), f"{job.name} trials") as progress:
        for trial in trials:
            key = (str(trial.condition), trial.prompts)
            if key not in known:
                known[key] = _outcome(job.name, room, trial, sweep.seed, pool, asked)
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
    one_map = condition.model_copy(update={"maps": 1})
    for rate in sweep.learning_rates:
        yield _Trial("learning_rate", one_map.model_copy(update={"learning_rate": rate}), prompts)
    if name in sweep.weighted:
        for weight in sweep.weights:
            yield _Trial("weight", one_map.model_copy(update={"weight": weight}), prompts)
    if name in sweep.sized:
        for size in sweep.sizes:
            yield _Trial("size", one_map, size)


def _outcome(
    label: str, room: Classroom, trial: _Trial, seed: int, pool: Questions, asked: Questions
) -> dict[str, Any]:
    """Return accuracy and the pairs' CKA after one training; a loss that is no number is a failed trial, not an end."""
    (pairs,) = room.mappings(trial.condition, seed)
    try:
        student, _ = room.train(Run(label, trial.condition, seed, pairs), pool.first(trial.prompts))
    except UserError as error:
        return {"accuracy": None, "debiased_cka": None, "failed": str(error)}
    return {"accuracy": accuracy(student, asked), "debiased_cka": similarity(student, room.teacher, pairs, asked)}
