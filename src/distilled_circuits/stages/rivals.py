"""Stage `rivals`: students that had no teacher, for the battery: one of the student's shape, one of another kind."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.recipes import Data, train_from_scratch
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import new_gpt2, new_llama
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.replica import replica_seed
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import vocabulary


def run(job: Job) -> None:
    """Write three model directories: the student's shape before and after training alone, and a Llama."""
    pair = job.item["pair"]
    recipe, layers = job.param(f"models.{pair}.teacher"), job.param(f"models.{pair}.student.layers")
    other = job.param("battery.mismatched")
    device = choose_device(job.param("device"))
    lexicon = load_lexicon(job.input("lexicon"))
    tokenizer = word_level_tokenizer(vocabulary(lexicon))
    data = Data(lexicon, tokenizer, job.param(f"models.{pair}.mixture"), device)
    seed = replica_seed(job.param(f"models.{pair}.student.seed"), job.item["replica"])
    provenance = job.provenance("model/1", device=device, seeds={"training": seed})
    size, end = len(tokenizer), tokenizer.eos_token_id
    torch.manual_seed(seed)
    alone = new_gpt2(size, len(layers), recipe.heads, recipe.width, recipe.initial_scale, end).to(device)
    write_model(job.output("untrained"), provenance, "random weights", alone, tokenizer, [])
    torch.manual_seed(seed)
    mismatched = new_llama(
        size, other.layers, other.heads, other.key_value_heads, recipe.width, recipe.initial_scale, end
    ).to(device)
    for name, model in (("alone", alone), ("mismatched", mismatched)):
        log = train_from_scratch(model, recipe, seed, data, f"{job.name} {name}")
        sys.stderr.write(report_evaluation(f"{job.name} {name}", log[-1]))
        write_model(job.output(name), provenance, "trained from scratch", model, tokenizer, log)
