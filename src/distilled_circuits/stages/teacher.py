"""Stage `teacher`: train a pair's teacher from scratch."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.recipes import Data, train_from_scratch
from distilled_circuits.models.record import report_evaluation, write_model
from distilled_circuits.models.shapes import new_gpt2
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import vocabulary


def run(job: Job) -> None:
    """Train and write the model directory with its log in model.json."""
    pair = job.item["pair"]
    recipe = job.param(f"models.{pair}.teacher")
    device = choose_device(job.param("device"))
    lexicon = load_lexicon(job.input("lexicon"))
    tokenizer = word_level_tokenizer(vocabulary(lexicon))
    data = Data(lexicon, tokenizer, job.param(f"models.{pair}.mixture"), device)
    torch.manual_seed(recipe.seed)
    model = new_gpt2(
        len(tokenizer), recipe.layers, recipe.heads, recipe.width, recipe.initial_scale, tokenizer.eos_token_id
    ).to(device)
    log = train_from_scratch(model, recipe, recipe.seed, data, job.name)
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    write_model(job.output("teacher"), provenance, "trained from scratch", model, tokenizer, log)
