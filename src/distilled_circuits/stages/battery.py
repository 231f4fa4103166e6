"""Stage `battery`: teachers against candidates whose answer is known, scored by every variant of the alignment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distilled_circuits.artifacts import write_hdf5
from distilled_circuits.circuits.ablation import PromptTensors, replacement
from distilled_circuits.circuits.batching import chosen_batch_size
from distilled_circuits.comparison.alignment import PARTS
from distilled_circuits.comparison.battery import CANDIDATES, battery_scores, null_scores
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.scores import baseline_problem, clipped_drop, retained_percent
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import known_variants
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.disguises import permute_heads, rotate_stream
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.models.shapes import student_from_layers
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.measured_records import measured_record
from distilled_circuits.statistics import bootstrap_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def run(job: Job) -> None:
    """Score every judged teacher against all candidates."""
    judged, number, resamples, draws, seed = (
        job.param(f"battery.{name}") for name in ("judged", "prompts", "resamples", "draws", "seed")
    )
    device = choose_device(job.param("device"))
    prompts = prompt_tensors(job.input("prompts"), "teacher", device, number)
    variants = known_variants(job.param("alignment.custom").model_dump())
    rng = np.random.default_rng(seed)
    weights = np.concatenate([equal_weights(len(prompts)), bootstrap_weights(len(prompts), resamples, rng)])
    scores, nulls, differences, drops = [], [], [], []
    with track(2 * len(judged) * len(CANDIDATES), f"{job.name} models swept and scored") as progress:
        for replica in judged:
            summaries = {}
            for name, model in _candidates(job, replica, device):
                record = _record(job, model, prompts)
                summaries[name] = Summary(record, weights, job.param("mlps.directions"))
                progress.advance()
            found = {name: Similarities(summaries["itself"], summaries[name]) for name in CANDIDATES}
            scores.append(battery_scores(found, variants, progress.advance))
            nulls.append(null_scores(found["distilled"], variants, draws, rng))
            differences.append([summary.record.unablated.mean() for summary in summaries.values()])
            drops.append([_mean_drop(summary.record) for summary in summaries.values()])
    provenance = job.provenance("battery/1", device=device, seeds={"resamples": seed})
    with write_hdf5(job.output("battery"), provenance) as file:
        file.put("judged", np.array(judged), ("replica",))
        file.put("candidates", list(CANDIDATES), ("candidate",))
        file.put("variants", list(variants), ("variant",))
        # The first row counts every prompt once; the others are resamples.
        for index, part in enumerate(PARTS):
            values = np.array([each[index] for each in scores])
            file.put(part, values, ("replica", "candidate", "variant", "resample"))
        file.put("shuffled_matching", np.array([each for each, _ in nulls]), ("replica", "variant", "draw"))
        file.put("shuffled_influence", np.array([each for _, each in nulls]), ("replica", "variant", "draw"))
        file.put("logit_difference", np.array(differences), ("replica", "candidate"))
        file.put("mean_drop", np.array(drops), ("replica", "candidate"))


def _candidates(job: Job, replica: int, device: torch.device) -> Iterator[tuple[str, PreTrainedModel]]:
    """Yield the models that a replica's teacher is compared with, in the order of CANDIDATES; one at a time in memory.

    The second teacher is that of the next replica, the last one's that of the pair itself.
    """
    seed = job.param("battery.seed")
    everyone = [0, *job.param("battery.replicas")]
    following = everyone[(everyone.index(replica) + 1) % len(everyone)]
    teacher = load_model(_place(job, replica, "teacher"), device)
    rivals = job.input("rivals") / str(replica)
    yield "itself", teacher
    yield "permuted", permute_heads(teacher, seed)
    yield "rotated", rotate_stream(teacher, seed)
    yield "distilled", load_model(_place(job, replica, "student"), device)
    copied = student_from_layers(teacher, job.param(f"models.{job.item['pair']}.student.layers"))
    copied.set_attn_implementation("eager")
    yield "copied", copied.to(device).eval().requires_grad_(requires_grad=False)
    yield "other", load_model(_place(job, following, "student"), device)
    for name in ("alone", "untrained", "mismatched"):
        yield name, load_model(rivals / name, device)


def _record(job: Job, model: PreTrainedModel, prompts: PromptTensors) -> ModelRecord:
    lens = HookLens(model)
    batch_size = chosen_batch_size(job.param("influence.batch_size"), lens, prompts)
    replaced = replacement(lens, job.param("influence.ablation"), prompts, batch_size=64)
    return measured_record(lens, prompts, replaced, batch_size)


def _mean_drop(record: ModelRecord) -> float:
    """Return the mean clipped drop in percent (DC Table 2); NaN where the logit difference is too small for shares."""
    if baseline_problem(record.unablated):
        return float("nan")
    return float(clipped_drop(retained_percent(record.unablated, record.ablated)).mean())


def _place(job: Job, replica: int, model: str) -> Path:
    return job.input("replicas") / str(replica) / model if replica else job.input(model)
