"""Stage `distillation`: train the base student under one condition, seed by seed, and answer the test prompts."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from distilled_circuits.artifacts import replacing, to_json
from distilled_circuits.comparison.representations import ModelRecord
from distilled_circuits.distillation.mapping import Mapping as Pairs
from distilled_circuits.distillation.mapping import share_of_changed_pairs
from distilled_circuits.distillation.trainable import trained_parameters
from distilled_circuits.distillation.training import Step
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import load_tokenizer, save_model
from distilled_circuits.progress import track
from distilled_circuits.seed_ranges import seeds_of
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.stored_questions import stored_questions
from distilled_circuits.stages.student_answers import Examination, companion, read, similarity
from distilled_circuits.stages.student_training import Classroom, Run, Taught


@dataclass(frozen=True, eq=False)
class _Task:
    """What all seeds of a condition share: who is taught, on what, and how a student is judged."""

    room: Classroom
    condition: Any
    settings: Any
    taught: Callable[[Pairs], Taught]
    exam: Examination
    judged: int
    of_teacher: ModelRecord
    teacher_z: Mapping[Component, torch.Tensor]


def run(job: Job) -> None:
    """Train a student for each seed and mapping of the condition; write all answers, and the first student's weights.

    Nothing is written before all are trained; a loss that is no number stops the job with its seed and step.
    """
    name, settings = job.item["condition"], job.param("distillation.training")
    room = Classroom.of(job)
    device = room.teacher.device
    exam = Examination.stored(job.input("questions"), device, job.param("distillation.circuits"))
    questions = stored_questions(job.input("questions"), "training", device, settings.prompts[job.item["task"]])
    condition = job.param(f"conditions.{name}")
    # Most conditions have the same pairs for every seed: the teacher is then asked once.
    taught = lru_cache(maxsize=1)(lambda pairs: room.taught(condition, pairs, questions))
    _, teacher_z = read(room.teacher, room.teacher_circuit, exam.circuit)
    of_teacher = exam.record(room.teacher, exam.means(room.teacher))
    task = _Task(room, condition, settings, taught, exam, job.param("distillation.judged"), of_teacher, teacher_z)
    seeds = list(seeds_of(job.item["seeds"]))
    maps = sum(len(room.mappings(condition, seed)) for seed in seeds)
    trained = []
    with track(maps * settings.steps, f"{job.name} steps") as progress:
        for seed in seeds:
            trained.append(_train(task, seed, job.name, progress.advance))
            right = trained[-1][1]["runs"][0]["full"]
            accuracy = sum(right) / len(right)
            sys.stderr.write(f"{job.name} seed {seed}: accuracy {accuracy:.3f} on {len(right)} unseen prompts\n")
    provenance = job.provenance("distilled/3", device=device, seeds={"training": seeds})
    with replacing(job.output(job.item["seeds"])) as folder:
        files = save_model(trained[0][0].model, load_tokenizer(job.input("base")), folder)
        content = {"provenance": asdict(provenance), "origin": "circuit distillation", "files": files}
        content |= {"condition": name, "seeds": [record for _, record in trained]}
        (folder / "model.json").write_text(to_json(content), encoding="utf-8")


def _train(task: _Task, seed: int, label: str, advance: Callable[[], None]) -> tuple[HookLens, dict[str, Any]]:
    """Return the student of the first mapping, and what was trained and answered with each."""
    room, condition, exam = task.room, task.condition, task.exam
    mappings = room.mappings(condition, seed)
    aligned = room.mappings(condition.model_copy(update={"mapping": "impact"}), seed)[0]
    runs: list[dict[str, Any]] = []
    for number, pairs in enumerate(mappings):
        student, log = room.train(Run(label, condition, seed), task.taught(pairs), advance)
        if number == 0:
            first = student
        means, (_, own_z) = exam.means(student), read(student, room.circuit, exam.circuit)
        found = {
            "pairs": [{"student": str(own), "teacher": str(other)} for own, other in pairs.pairs],
            "changed_pairs": share_of_changed_pairs(aligned, pairs) if pairs.pairs else None,
            "log": [_describe(step) for step in log if step.step % task.settings.log_every == 0 or step.step == 1],
            **exam.answers(student, room.circuit, means, task.judged),
            "pairs_cka": similarity(own_z, task.teacher_z, pairs),
            "aligned_cka": similarity(own_z, task.teacher_z, aligned),
            "companion": companion(task.of_teacher, exam.record(student, means)),
        }
        runs.append(found)
    heads = room.trained_heads(condition, first, seed)
    record = {
        "seed": seed,
        "trained_heads": None if heads is None else [str(head) for head in heads],
        "trained_parameters": trained_parameters(first, heads, condition.key_values),
        "runs": runs,
    }
    return first, record


def _describe(step: Step) -> dict[str, float | int | None]:
    return {key: None if math.isnan(value) else value for key, value in asdict(step).items()}
