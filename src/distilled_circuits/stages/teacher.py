"""Stage `teacher`: train a pair's teacher from scratch."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.artifacts import replacing, to_json
from distilled_circuits.models.corpus import evaluation_questions, training_batches
from distilled_circuits.models.loading import choose_device, save_model
from distilled_circuits.models.record import model_record, report_evaluation
from distilled_circuits.models.tokenizer import word_level_tokenizer
from distilled_circuits.models.training import Schedule, new_gpt2, teacher_loss, train
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import vocabulary


def run(job: Job) -> None:
    """Train and write the model directory with its log in model.json."""
    pair = job.item["pair"]
    recipe = job.param(f"models.{pair}.teacher")
    mixture = job.param(f"models.{pair}.mixture")
    device = choose_device(job.param("device"))
    lexicon = load_lexicon(job.input("lexicon"))
    tokenizer = word_level_tokenizer(vocabulary(lexicon))
    torch.manual_seed(recipe.seed)
    model = new_gpt2(
        len(tokenizer), recipe.layers, recipe.heads, recipe.width, recipe.initial_scale, tokenizer.eos_token_id
    ).to(device)
    schedule = Schedule(recipe.steps, recipe.learning_rate, recipe.warmup, recipe.weight_decay, recipe.evaluate_every)
    log = train(
        model,
        teacher_loss(model, recipe.text_weight),
        training_batches(lexicon, tokenizer, mixture, recipe.batch_size, recipe.seed, device),
        schedule,
        evaluation_questions(lexicon, tokenizer, device),
        job.name,
    )
    sys.stderr.write(report_evaluation(job.name, log[-1]))
    provenance = job.provenance("model/1", device=device, seeds={"training": recipe.seed})
    with replacing(job.output("teacher")) as folder:
        record = model_record(provenance, "trained from scratch", save_model(model, tokenizer, folder), log)
        (folder / "model.json").write_text(to_json(record), encoding="utf-8")
