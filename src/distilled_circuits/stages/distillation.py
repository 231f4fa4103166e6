"""Stage `distillation`: train the base student under one condition, seed by seed, and answer the test prompts."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distilled_circuits.artifacts import Provenance, read_json, replacing, to_json, write_json
from distilled_circuits.comparison.representations import ModelRecord
from distilled_circuits.distillation.mapping import Mapping as Pairs
from distilled_circuits.distillation.mapping import share_of_changed_pairs
from distilled_circuits.distillation.trainable import trained_parameters
from distilled_circuits.distillation.training import Step
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device, load_model, load_tokenizer, save_model
from distilled_circuits.progress import track
from distilled_circuits.seed_ranges import seeds_of
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.shares import WHOLE, Share
from distilled_circuits.stages.stored_questions import stored_questions
from distilled_circuits.stages.student_answers import Examination, companion, read, similarity
from distilled_circuits.stages.student_training import Classroom, Run, Taught

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHARE = "distillation_share/1"
"""Schema of what one share of the seeds gave."""


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


@dataclass(frozen=True, eq=False)
class Piece:
    """What was trained for some of the seeds: their records, and the first seed's student where it is among them."""

    records: list[dict[str, Any]]
    student: PreTrainedModel | None = None
    tokenizer: PreTrainedTokenizerBase | None = None


def run(job: Job) -> None:
    """Train a student for each seed and mapping of the condition; write all answers, and the first student's weights.

    Nothing is written before all are trained; a loss that is no number stops the job with its seed and step.
    """
    gather(job, [compute(job)])


def provenance(job: Job) -> Provenance:
    """Return what the artifact is to say of itself."""
    device = choose_device(job.param("device"))
    return job.provenance("distilled/3", device=device, seeds={"training": list(seeds_of(job.item["seeds"]))})


def compute(job: Job, share: Share = WHOLE) -> Piece:
    """Train the students of a share of the seeds."""
    every = list(seeds_of(job.item["seeds"]))
    seeds = share.part(every)
    if not seeds:
        return Piece([])
    task, label = _task(job), f"{job.name}{share.label}"
    maps = sum(len(task.room.mappings(task.condition, seed)) for seed in seeds)
    trained = []
    with track(maps * task.settings.steps, f"{label} steps") as progress:
        for seed in seeds:
            trained.append(_train(task, seed, job.name, progress.advance))
            right = trained[-1][1]["runs"][0]["full"]
            accuracy = sum(right) / len(right)
            sys.stderr.write(f"{job.name} seed {seed}: accuracy {accuracy:.3f} on {len(right)} unseen prompts\n")
    records = [record for _, record in trained]
    if seeds[0] != every[0]:
        return Piece(records)
    return Piece(records, trained[0][0].model, load_tokenizer(job.input("base")))


def save(piece: Piece, description: Provenance, folder: Path) -> None:
    """Write a share's piece to a folder."""
    write_json(folder / "seeds.json", description, {"seeds": piece.records})
    if piece.student is not None:
        save_model(piece.student, piece.tokenizer, folder / "student")


def load(folder: Path) -> Piece:
    """Return a share's piece from its folder."""
    records = read_json(folder / "seeds.json", SHARE)["seeds"]
    student = folder / "student"
    if not student.exists():
        return Piece(records)
    return Piece(records, load_model(student, torch.device("cpu")), load_tokenizer(student))


def gather(job: Job, pieces: Sequence[Piece]) -> None:
    """Write the artifact of all shares' pieces, which are in the order of their seeds."""
    first = next(piece for piece in pieces if piece.student is not None)
    with replacing(job.output(job.item["seeds"])) as folder:
        files = save_model(first.student, first.tokenizer, folder)
        content = {"provenance": asdict(provenance(job)), "origin": "circuit distillation", "files": files}
        content |= {"condition": job.item["condition"], "seeds": [seed for piece in pieces for seed in piece.records]}
        (folder / "model.json").write_text(to_json(content), encoding="utf-8")


def _task(job: Job) -> _Task:
    settings, room = job.param("distillation.training"), Classroom.of(job)
    device = room.teacher.device
    exam = Examination.stored(job.input("questions"), device, job.param("distillation.circuits"))
    questions = stored_questions(job.input("questions"), "training", device, settings.prompts[job.item["task"]])
    condition = job.param(f"conditions.{job.item['condition']}")
    # Most conditions have the same pairs for every seed: the teacher is then asked once.
    taught = lru_cache(maxsize=1)(lambda pairs: room.taught(condition, pairs, questions))
    _, teacher_z = read(room.teacher, room.teacher_circuit, exam.circuit)
    of_teacher = exam.record(room.teacher, exam.means(room.teacher))
    return _Task(room, condition, settings, taught, exam, job.param("distillation.judged"), of_teacher, teacher_z)


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
