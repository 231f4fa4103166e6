"""Stage `distillation`: train the base student under one condition and seed, and answer the test prompts with it."""

from __future__ import annotations

import math
import random
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch

from distilled_circuits.artifacts import read_json, replacing, to_json
from distilled_circuits.circuits.ablation import PromptTensors, mean_activations
from distilled_circuits.distillation.impact import correct_answers
from distilled_circuits.distillation.mapping import Mapping, map_at_random
from distilled_circuits.distillation.training import Recipe, Step, train_on_circuit
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device, load_model, load_tokenizer, save_model
from distilled_circuits.progress import track
from distilled_circuits.stages.job import Job
from distilled_circuits.tasks.encoding import encode_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.registry import TASKS


@dataclass(frozen=True)
class _Questions:
    """Clean prompts with their answers, and the corrupted prompts that means are taken over."""

    prompts: PromptTensors
    corrupted: torch.Tensor


def run(job: Job) -> None:
    """Train, evaluate before and after, and write the trained student with its log in model.json."""
    settings = job.param("distillation.training")
    condition = job.param(f"conditions.{job.item['condition']}")
    seed = job.item["seed"]
    device = choose_device(job.param("device"))
    training, test = _questions(job, device)
    teacher = HookLens(load_model(job.input("teacher"), device))
    student = HookLens(load_model(job.input("base"), device))
    mapped = read_json(job.input("mapping"), "mapping/1")
    mapping = _mapping(mapped, condition.mapping, seed)
    circuit = [Component.parse(name) for name in mapped["base"]["circuit"]]
    before = _evaluate(student, test, circuit)
    labels, teacher_z = _targets(teacher, training.prompts.ids, mapping)
    recipe = Recipe(
        condition.cross_entropy,
        condition.cka,
        settings.steps,
        settings.batch_size,
        settings.learning_rate,
        settings.warmup,
    )
    trained = circuit if condition.trains == "circuit" else None
    with track(settings.steps, f"{job.name} steps") as progress:
        log = train_on_circuit(
            student, training.prompts.ids, labels, teacher_z, mapping, trained, recipe, seed, job.name, progress.advance
        )
    after = _evaluate(student, test, circuit)
    sys.stderr.write(f"{job.name}: accuracy {_share(before['full']):.3f} before, {_share(after['full']):.3f} after\n")
    record: dict[str, Any] = {
        "condition": job.item["condition"],
        "seed": seed,
        "pairs": [{"student": str(own), "teacher": str(other)} for own, other in mapping.pairs],
        "pairs_of_impact_own": len(set(mapping.pairs) & set(_mapping(mapped, "impact_own", seed).pairs)),
        "log": [
            _describe(step) for step in log if step.step % settings.log_every == 0 or step.step in (1, settings.steps)
        ],
        "teacher_correct": _evaluate(teacher, test, [Component.parse(n) for n in mapped["teacher"]["circuit"]]),
        "before": before,
        "after": after,
    }
    provenance = job.provenance("distilled/1", device=device, seeds={"training": seed, "prompts": settings.prompt_seed})
    with replacing(job.output(f"{job.item['condition']}-{seed}")) as folder:
        files = save_model(student.model, load_tokenizer(job.input("base")), folder)
        content = {"provenance": asdict(provenance), "origin": "circuit distillation", "files": files, **record}
        (folder / "model.json").write_text(to_json(content), encoding="utf-8")


def _questions(job: Job, device: torch.device) -> tuple[_Questions, _Questions]:
    """Make prompts that neither model was trained on, and no test prompt that is a training prompt."""
    settings = job.param("distillation.training")
    total = settings.training_prompts + settings.test_prompts
    made = TASKS[job.param("distillation.task")].prompts(
        load_lexicon(job.input("lexicon")), total, random.Random(settings.prompt_seed)
    )
    random.Random(settings.prompt_seed).shuffle(made)  # a generator may cycle through kinds of prompts
    records = encode_prompts(made, load_tokenizer(job.input("base")), "the student's tokenizer")

    def part(rows: list[dict[str, Any]]) -> _Questions:
        ids, corrupted, answers, distractors = (
            torch.tensor([row[key] for row in rows], device=device)
            for key in ("ids", "corrupted_ids", "answer_id", "distractor_id")
        )
        return _Questions(PromptTensors(ids, answers, distractors), corrupted)

    return part(records[: settings.training_prompts]), part(records[settings.training_prompts :])


def _mapping(mapped: dict[str, Any], kind: str, seed: int) -> Mapping:
    """Return the stored pairs of a kind; `random` is the control of `impact_own`."""
    if kind == "none":
        return Mapping((), 0)
    stored = mapped["mappings"]["impact_own" if kind == "random" else kind]
    pairs = tuple((Component.parse(pair["student"]), Component.parse(pair["teacher"])) for pair in stored["pairs"])
    mapping = Mapping(pairs, stored["tied"])
    return map_at_random(mapping, random.Random(seed)) if kind == "random" else mapping


@torch.no_grad()
def _targets(
    teacher: HookLens, ids: torch.Tensor, mapping: Mapping
) -> tuple[torch.Tensor, dict[Component, torch.Tensor]]:
    """Return the teacher's own answers (prompt,) as labels, and its mapped heads' z at the last position."""
    heads = sorted({other for _, other in mapping.pairs})
    logits, cache = teacher.cache(ids, sorted({("z", head.layer) for head in heads}))
    return logits.argmax(-1), {head: cache["z", head.layer][:, -1, head.head] for head in heads}


def _evaluate(lens: HookLens, test: _Questions, circuit: list[Component]) -> dict[str, list[int]]:
    """Return for each test prompt whether the model, and whether its circuit alone, answers right (1 or 0)."""
    means = mean_activations(lens, test.corrupted, len(test.corrupted))
    full = correct_answers(lens, test.prompts, means)
    alone = correct_answers(lens, test.prompts, means, circuit)
    return {"full": full.int().tolist(), "circuit": alone.int().tolist()}


def _describe(step: Step) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in asdict(step).items()}


def _share(flags: list[int]) -> float:
    return sum(flags) / len(flags)
