"""Stage `influence`: the logit difference of every prompt with every component ablated, for both models."""

from __future__ import annotations

import sys

import torch

from distilled_circuits.artifacts import HDF5Writer, write_hdf5
from distilled_circuits.circuits.batching import measured_batch_size
from distilled_circuits.circuits.estimate import estimate_sweep
from distilled_circuits.circuits.influence import Sweep, influence_sweep
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Dimensions, Lens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import choose_device, load_config, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors, replacement_of, to_numpy
from distilled_circuits.stages.job import MODELS, Job

ENGINES = {"hooks": HookLens, "bridge": BridgeLens}
CHECKED_PROMPTS = 16
"""So many prompts are swept in float32 too, when the type is another one."""


def run(job: Job) -> None:
    """Sweep teacher and student with the ablation of the settings."""
    settings = job.param("influence")
    device = choose_device(job.param("device"))
    dtype = None if settings.dtype == "stored" else getattr(torch, settings.dtype)
    asked = {name: prompt_tensors(job.input("prompts"), name, device) for name in MODELS}

    def lens_of(name: str, dtype: torch.dtype | None = None) -> Lens:
        return ENGINES[settings.engine](load_model(job.input(name), device, dtype), asked[name].read_at)

    sizes = [Dimensions.of(load_config(job.input(name))) for name in MODELS]
    total = sum(size.layers * (size.heads + 1) for size in sizes)
    stored = {str(load_config(job.input(name)).dtype).removeprefix("torch.") for name in MODELS}
    computed = " and ".join(sorted(stored)) if dtype is None else settings.dtype
    provenance = job.provenance("influence/2", device=device, dtype=computed)
    with write_hdf5(job.output("influence"), provenance) as file, track(total, f"{job.name} components") as progress:
        for name in MODELS:  # one model in memory at a time
            self_check(lens_of(name))
            prompts, lens = asked[name], lens_of(name, dtype)
            file.put(f"{name}/dtype", str(lens.model.dtype).removeprefix("torch."), ())
            replaced = replacement_of(job.input("activations"), name, settings.ablation, lens, prompts)
            size = settings.batch_size
            if size == "auto":
                size = measured_batch_size(lens, prompts) if isinstance(lens, HookLens) else len(prompts)
            if isinstance(lens, HookLens):
                expected = estimate_sweep(lens, *prompts.ids.shape, size).describe()
                sys.stderr.write(f"{job.name} {name}: {expected}\n")
            sweep = influence_sweep(lens, prompts, replaced, size, log_probabilities=True, advance=progress.advance)
            _put(file, name, lens, sweep)
            file.put(f"{name}/batch_size", size, ())
            if dtype == torch.bfloat16:
                first = prompts.rows(0, CHECKED_PROMPTS)
                exact_lens = lens_of(name, torch.float32)
                exact_values = replacement_of(job.input("activations"), name, settings.ablation, exact_lens, prompts)
                exact = influence_sweep(exact_lens, first, exact_values, size)
                error = sweep.ablated[:, : len(first)] - exact.ablated
                file.put(f"{name}/error_against_float32", to_numpy(error), ("component", "prompt"))


def _put(file: HDF5Writer, name: str, lens: Lens, sweep: Sweep) -> None:
    """Write logit differences (`unablated`, `ablated`) and log-probabilities of the answer."""
    file.put(f"{name}/components", [str(component) for component in lens.components], ("component",))
    file.put(f"{name}/unablated", to_numpy(sweep.unablated), ("prompt",))
    file.put(f"{name}/ablated", to_numpy(sweep.ablated), ("component", "prompt"))
    file.put(f"{name}/unablated_log_probability", to_numpy(sweep.unablated_log_probability), ("prompt",))
    file.put(f"{name}/ablated_log_probability", to_numpy(sweep.ablated_log_probability), ("component", "prompt"))
