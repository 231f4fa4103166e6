"""Stage `replica`: train a pair's teacher and student once more, from other seeds."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.recipes import Data, distil, train_from_scratch
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import new_gpt2, student_from_layers
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import vocabulary


def run(job: Job) -> None:
    """Write two model directories; only seeds differ from the stages `teacher` and `student`."""
    pair, replica = job.item["pair"], job.item["replica"]
    recipe, own = job.param(f"models.{pair}.teacher"), job.param(f"models.{pair}.student")
    device = choose_device(job.param("device"))
    lexicon = load_lexicon(job.input("lexicon"))
    tokenizer = word_level_tokenizer(vocabulary(lexicon))
    data = Data(lexicon, tokenizer, job.param(f"models.{pair}.mixture"), device)
    seeds = {"teacher": replica_seed(recipe.seed, replica), "student": replica_seed(own.seed, replica)}
    torch.manual_seed(seeds["teacher"])
    teacher = new_gpt2(
        len(tokenizer), recipe.layers, recipe.heads, recipe.width, recipe.initial_scale, tokenizer.eos_token_id
    ).to(device)
    log = train_from_scratch(teacher, recipe, seeds["teacher"], data, f"{job.name} teacher")
    sys.stderr.write(report_evaluation(f"{job.name} teacher", log[-1]))
    provenance = job.provenance("model/1", device=device, seeds=seeds)
    write_model(job.output("teacher"), provenance, "trained from scratch", teacher, tokenizer, log)
    student = student_from_layers(teacher, own.layers).to(device)
    log = distil(student, teacher, own, seeds["student"], data, f"{job.name} student")
    sys.stderr.write(report_evaluation(f"{job.name} student", log[-1]))
    write_model(job.output("student"), provenance, "distilled", student, tokenizer, log)


def replica_seed(seed: int, replica: int) -> int:
    """Return the seed of a replica's model: hundreds above the pair's own, whose replica is 0."""
    return seed + 100 * replica
