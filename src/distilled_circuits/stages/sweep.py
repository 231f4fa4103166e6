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
from distilled_circuits.stages.student_answers import accuracy, read, share_right, similarity
from distilled_circuits.stages.student_training import Classroom, Run, Taught

REFERENCE = "ce_circuit"
"""Cross entropy alone on the circuit: what the curve over lambda is held against."""


@dataclass(frozen=True)
class _Trial:
    """Which sweep it belongs to, the condition as it is tried, the number of training prompts, and of those seen."""

    kind: str
    condition: Any
    prompts: int
    seen: int


def run(job: Job) -> None:
    """Run all trials with a seed that no test uses; equal ones are run once."""
    name = job.item["condition"]
    sweep, settings = job.param("distillation.sweep"), job.param("distillation.training")
    room = Classroom.of(job)
    device = room.teacher.device
    asked = stored_questions(job.input("questions"), "validation", device)
    condition = job.param(f"conditions.{name}").model_copy(update={"maps": 1})
    trials = list(_trials(name, condition, sweep, settings, job.item["task"]))
    (pairs,) = room.mappings(condition, sweep.seed)
    most = max((trial.seen for trial in trials), default=1)
    taught = room.taught(condition, pairs, stored_questions(job.input("questions"), "training", device, most))
    logits, teacher_z = read(room.teacher, {other for _, other in pairs.pairs}, asked)

    def judged(student: HookLens) -> dict[str, Any]:
        answered, own_z = read(student, {own for own, _ in pairs.pairs}, asked)
        return {"accuracy": share_right(answered, asked), "debiased_cka": similarity(own_z, teacher_z, pairs)}

    known: dict[tuple[str, int], dict[str, Any]] = {}
    rows = []
    with track(len(trials), f"{job.name} trials") as progress:
        for trial in trials:
            key = (str(trial.condition), trial.seen)
            if key not in known:
                lesson = Run(job.name, trial.condition, sweep.seed), taught.first(trial.seen)
                known[key] = _outcome(room, *lesson, judged)
            tried = {"learning_rate": trial.condition.learning_rate, "weight": trial.condition.weight}
            prompts = {"prompts": trial.prompts, "seen": trial.seen}
            rows.append({"sweep": trial.kind, "condition": name, **tried, **prompts, **known[key]})
            progress.advance()
    content = {
        "used": job.param(f"conditions.{name}").model_dump(),
        "prompts": len(asked),
        "base": accuracy(room.base_student(), asked),
        "teacher": share_right(logits, asked),
        "trials": rows,
    }
    write_json(job.output(name), job.provenance("sweep/2", device=device, seeds={"training": sweep.seed}), content)


def _trials(name: str, condition: Any, sweep: Any, settings: Any, task: str) -> Iterator[_Trial]:
    """Yield every trial; a condition has as many learning rates as any other, and `REFERENCE` is tried as it is used.

    Of more prompts than all batches have together as many are seen as these have: the teacher need not answer the rest.
    """

    def trial(kind: str, prompts: int = settings.prompts[task], **changes: float) -> _Trial:
        seen = min(prompts, settings.steps * settings.batch_size)
        return _Trial(kind, condition.model_copy(update=changes), prompts, seen)

    if name == REFERENCE:
        yield trial("used")
    for rate in sweep.learning_rates:
        yield trial("learning_rate", learning_rate=rate)
    if name in sweep.weighted:
        for weight in sweep.weights:
            yield trial("weight", weight=weight)
    if name in sweep.sized:
        for size in sweep.sizes:
            yield trial("size", size)


def _outcome(room: Classroom, run: Run, taught: Taught, judged: Callable[[HookLens], dict[str, Any]]) -> dict[str, Any]:
    """Return accuracy and the pairs' CKA after one training; a loss that is no number is a failed trial, not an end."""
    try:
        student, _ = room.train(run, taught)
    except UserError as error:
        return {"accuracy": None, "debiased_cka": None, "failed": str(error)}
    return judged(student)
