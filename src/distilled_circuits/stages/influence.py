"""Stage `influence`: the logit difference of every prompt with every component ablated, for both models."""

from __future__ import annotations

import torch

from distilled_circuits.artifacts import HDF5Writer, write_hdf5
from distilled_circuits.circuits.batching import measured_batch_size
from distilled_circuits.circuits.influence import Sweep, influence_sweep
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Lens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import choose_device, load_model
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
    dtype = getattr(torch, settings.dtype)
    prompts = prompt_tensors(job.input("prompts"), device)
    engine = ENGINES[settings.engine]
    lenses = {}
    for name in MODELS:
        self_check(engine(load_model(job.input(name), device)))  # in float32, whose rounding its tolerance is made for
        lenses[name] = engine(load_model(job.input(name), device, dtype))
    provenance = job.provenance("influence/2", device=device, dtype=settings.dtype)
    total = sum(len(lens.components) for lens in lenses.values())
    with write_hdf5(job.output("influence"), provenance) as file, track(total, f"{job.name} components") as progress:
        for name, lens in lenses.items():
            replaced = replacement_of(job.input("activations"), name, settings.ablation, lens, prompts)
            size = settings.batch_size
            if size == "auto":
                size = measured_batch_size(lens, prompts) if isinstance(lens, HookLens) else len(prompts)
            sweep = influence_sweep(lens, prompts, replaced, size, log_probabilities=True, advance=progress.advance)
            _put(file, name, lens, sweep)
            file.put(f"{name}/batch_size", size, ())
            if dtype != torch.float32:
                first = prompts.rows(0, CHECKED_PROMPTS)
                exact_lens = engine(load_model(job.input(name), device))
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
