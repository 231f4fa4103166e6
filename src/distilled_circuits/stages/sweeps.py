"""Stage `sweeps`: trials on validation prompts, by learning rate, by lambda and by the number of training prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.errors import UserError
from distilled_circuits.progress import track
from distilled_circuits.stages.distillation import classroom
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import Questions, stored_questions
from distilled_circuits.stages.student_answers import Examination, accuracy
from distilled_circuits.stages.student_training import Classroom, Run

Trial = tuple[str, str, Any, int]
"""Which sweep it belongs to, the condition's name, the condition as tried, and the number of training prompts."""


def run(job: Job) -> None:
    """Run all trials with a seed that no test uses; equal ones are run once."""
    sweep, settings = job.param("distillation.sweep"), job.param("distillation.training")
    room = classroom(job)
    device = room.teacher.device
    questions = job.input("questions")
    pool = stored_questions(questions, "training", device, max(settings.prompts, *sweep.sizes))
    asked = stored_questions(questions, "validation", device)
    exam = Examination.stored(questions, device, 0, 0)
    trials = list(_trials(job, sweep, settings.prompts))
    known: dict[str, dict[str, Any]] = {}
    rows = []
    with track(len(trials), f"{job.name} trials") as progress:
        for kind, name, condition, number in trials:
            key = f"{condition} {number}"
            if key not in known:
                known[key] = _outcome(job.name, room, condition, sweep.seed, pool.first(number), asked, exam)
            said = {"learning_rate": condition.learning_rate, "weight": condition.weight, "prompts": number}
            rows.append({"sweep": kind, "condition": name, **said, **known[key]})
            progress.advance()
    references = {
        side: accuracy(lens, asked) for side, lens in (("base", room.base_student()), ("teacher", room.teacher))
    }
    content = {"prompts": len(asked), **references, "trials": rows}
    write_json(job.output("sweeps"), job.provenance("sweeps/1", device=device, seeds={"training": sweep.seed}), content)


def _trials(job: Job, sweep: Any, prompts: int) -> Iterator[Trial]:
    """Yield every trial; a condition has as many learning rates as any other."""
    named = {name: job.param(f"conditions.{name}") for name in job.param("distillation.runs")}
    for name, condition in named.items():
        for rate in sweep.learning_rates:
            yield "learning_rate", name, condition.model_copy(update={"learning_rate": rate, "maps": 1}), prompts
    for name in sweep.weighted:
        for weight in sweep.weights:
            yield (
                "weight",
                name,
                job.param(f"conditions.{name}").model_copy(update={"weight": weight, "maps": 1}),
                prompts,
            )
    for name in sweep.sized:
        for size in sweep.sizes:
            yield "size", name, job.param(f"conditions.{name}").model_copy(update={"maps": 1}), size


def _outcome(
    label: str, room: Classroom, condition: Any, seed: int, questions: Questions, asked: Questions, exam: Examination
) -> dict[str, Any]:
    """Return accuracy and the pairs' CKA after one training; a loss that is no number is a failed trial, not an end."""
    (pairs,) = room.mappings(condition, seed)
    try:
        student, _ = room.train(Run(label, condition, seed, pairs), questions)
    except UserError as error:
        return {"accuracy": None, "debiased_cka": None, "failed": str(error)}
    return {"accuracy": accuracy(student, asked), "debiased_cka": exam.similarity(student, room.teacher, pairs)}
