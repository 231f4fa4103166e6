"""Stage `noise`: the alignment score of a student whose activations are noised, level by level and seed by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import read_arrays, write_hdf5
from distilled_circuits.circuits.ablation import PromptTensors, Replacement
from distilled_circuits.circuits.batching import measured_batch_size
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.comparison.alignment import ModelRecord, align
from distilled_circuits.comparison.noise import added, noise_shifts
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Site
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors, replacement_of, to_numpy
from distilled_circuits.stages.job import Job


def run(job: Job) -> None:
    """Redo the student's influence and similarity under each noise; the teacher stays as it is."""
    seeds = job.param("noise.seeds")
    directions = job.param("mlps.directions")
    device = choose_device(job.param("device"))
    everything = prompt_tensors(job.input("prompts"), device)
    prompts = everything.rows(0, job.param("noise.prompts"))
    lens = HookLens(load_model(job.input("student"), device))
    # What replaces a component is that of the student without noise.
    replaced = replacement_of(job.input("activations"), "student", job.param("influence.ablation"), lens, everything)
    teacher = _teacher_record(job, len(prompts))
    levels = noise_levels(job.param("noise.levels"))
    chosen = job.param("influence.batch_size")
    batch_size = measured_batch_size(lens, prompts) if chosen == "auto" else chosen
    results = np.zeros((3, len(levels), len(seeds)))
    with track(len(levels) * len(seeds), f"{job.name} sweeps") as progress:
        for column, seed in enumerate(seeds):
            for row, level in enumerate(levels):
                shifts = noise_shifts(lens, job.param("noise.site"), float(level), *prompts.ids.shape, seed)
                student = _record(lens, prompts, replaced, shifts, batch_size)
                result = align(teacher, student, directions)
                results[:, row, column] = result.score, result.mean_similarity, result.mean_agreement
                progress.advance()
    provenance = job.provenance("noise/1", device=device, seeds={"noise": seeds})
    with write_hdf5(job.output("noise"), provenance) as file:
        file.put("level", levels, ("level",))
        file.put("seed", np.array(seeds), ("seed",))
        for name, values in zip(("score", "mean_similarity", "mean_agreement"), results, strict=True):
            file.put(name, values, ("level", "seed"))


def noise_levels(levels: Any) -> np.ndarray:
    """Return standard deviations from 0 to `stop`, both included, without the drift of repeated sums."""
    return levels.step * np.arange(int(np.floor(levels.stop / levels.step + 1e-9)) + 1)


def _teacher_record(job: Job, number: int) -> ModelRecord:
    unablated, ablated = read_arrays(job.input("influence"), "influence/2", ["teacher/unablated", "teacher/ablated"])
    z, weights, mlp_out = read_arrays(
        job.input("activations"), "activations/1", ["teacher/z", "teacher/output_weights", "teacher/mlp_out"]
    )
    return ModelRecord(unablated[:number], ablated[:, :number], z[:number], weights, mlp_out[:number])


@torch.no_grad()
def _record(
    lens: HookLens, prompts: PromptTensors, replaced: Replacement, shifts: dict[Site, torch.Tensor], batch_size: int
) -> ModelRecord:
    """Return the student's record under noise: sweep and activations see the same draw."""
    layers = range(lens.dimensions.layers)
    sweep = influence_sweep(lens, prompts, replaced, batch_size, shifts=shifts)
    _, cache = lens.cache(prompts.ids, [(site, n) for n in layers for site in ("z", "mlp_out")], added(shifts))
    return ModelRecord(
        unablated=to_numpy(sweep.unablated),
        ablated=to_numpy(sweep.ablated),
        z=to_numpy(torch.stack([cache["z", n] for n in layers], dim=1)),
        output_weights=to_numpy(torch.stack([lens.output_weights(n) for n in layers])),
        mlp_out=to_numpy(torch.stack([cache["mlp_out", n] for n in layers], dim=1)),
    )
