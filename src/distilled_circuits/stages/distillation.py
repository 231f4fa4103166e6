"""Stage `distillation`: train the base student under one condition and seed, and answer the test prompts with it."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import Any

from distilled_circuits.artifacts import replacing, to_json
from distilled_circuits.distillation.mapping import share_of_changed_pairs
from distilled_circuits.distillation.trainable import trained_parameters
from distilled_circuits.distillation.training import Step
from distilled_circuits.models.loading import load_tokenizer, save_model
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import stored_questions
from distilled_circuits.stages.student_answers import Examination, companion, similarity
from distilled_circuits.stages.student_training import Classroom, Run


def run(job: Job) -> None:
    """Train one student for each mapping of the condition; write the first, and the answers of all in model.json."""
    name, seed = job.item["condition"], job.item["seed"]
    condition, settings = job.param(f"conditions.{name}"), job.param("distillation.training")
    room = Classroom.of(job)
    device = room.teacher.device
    questions = stored_questions(job.input("questions"), "training", device, settings.prompts[job.item["task"]])
    circuits = job.param("distillation.circuits")
    exam = Examination.stored(job.input("questions"), device, circuits.random_draws, circuits.seed)
    of_teacher = exam.record(room.teacher)
    mappings = room.mappings(condition, seed)
    aligned = room.mappings(condition.model_copy(update={"mapping": "impact"}), seed)[0]
    runs: list[dict[str, Any]] = []
    with track(len(mappings) * settings.steps, f"{job.name} steps") as progress:
        for number, pairs in enumerate(mappings):
            student, log = room.train(Run(job.name, condition, seed, pairs), questions, progress.advance)
            found = {
                "pairs": [{"student": str(own), "teacher": str(other)} for own, other in pairs.pairs],
                "changed_pairs": share_of_changed_pairs(aligned, pairs) if pairs.pairs else None,
                "log": [_describe(step) for step in log if step.step % settings.log_every == 0 or step.step == 1],
                **exam.answers(student, room.circuit),
                "pairs_cka": similarity(student, room.teacher, pairs, exam.circuit),
                "aligned_cka": similarity(student, room.teacher, aligned, exam.circuit),
                "companion": companion(of_teacher, exam.record(student)),
            }
            runs.append(found)
            if number == 0:
                first = student
    heads = room.trained_heads(condition, first, seed)
    record = {
        "condition": name,
        "seed": seed,
        "trained_heads": None if heads is None else [str(head) for head in heads],
        "trained_parameters": trained_parameters(first, heads, condition.key_values),
        "runs": runs,
    }
    right = sum(runs[0]["full"]) / len(runs[0]["full"])
    sys.stderr.write(f"{job.name}: accuracy {right:.3f} on {len(runs[0]['full'])} unseen prompts\n")
    provenance = job.provenance("distilled/2", device=device, seeds={"training": seed})
    with replacing(job.output(f"{name}-{seed}")) as folder:
        files = save_model(first.model, load_tokenizer(job.input("base")), folder)
        content = {"provenance": asdict(provenance), "origin": "circuit distillation", "files": files, **record}
        (folder / "model.json").write_text(to_json(content), encoding="utf-8")


def _describe(step: Step) -> dict[str, float | int | None]:
    return {key: None if math.isnan(value) else value for key, value in asdict(step).items()}
