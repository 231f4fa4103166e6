"""Stage `sweep`: trials of one condition on validation prompts, by learning rate, lambda and number of prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.errors import UserError
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import stored_questions
from distilled_circuits.stages.student_answers import accuracy, read_z, similarity
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
    teacher_z = read_z(room.teacher, [other for _, other in pairs.pairs], asked)

    def judged(student: HookLens) -> dict[str, Any]:
        own_z = read_z(student, [own for own, _ in pairs.pairs], asked)
        return {"accuracy": accuracy(student, asked), "debiased_cka": similarity(own_z, teacher_z, pairs)}

    known: dict[tuple[str, int], dict[str, Any]] = {}
    rows = []
    with track(len(trials), f"{job.name} trials") as progress:
        for trial in trials:
            key = (str(trial.condition), trial.prompts)
            if key not in known:
                lesson = Run(job.name, trial.condition, sweep.seed), taught.first(trial.prompts)
                known[key] = _outcome(room, *lesson, judged)
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


def _outcome(room: Classroom, run: Run, taught: Taught, judged: Callable[[HookLens], dict[str, Any]]) -> dict[str, Any]:
    """Return accuracy and the pairs' CKA after one training; a loss that is no number is a failed trial, not an end."""
    try:
        student, _ = room.train(run, taught)
    except UserError as error:
        return {"accuracy": None, "debiased_cka": None, "failed": str(error)}
    return judged(student)
