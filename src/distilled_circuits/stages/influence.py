"""Stage `influence`: the logit difference of every prompt with every component ablated, for both models."""

from __future__ import annotations

from distilled_circuits.artifacts import write_hdf5
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import corrupted_means, prompt_tensors, to_numpy
from distilled_circuits.stages.job import MODELS, Job

ENGINES = {"hooks": HookLens, "bridge": BridgeLens}


def run(job: Job) -> None:
    """Sweep teacher and student with the means over corrupted prompts that `activations` stored."""
    settings = job.param("influence")
    device = choose_device(job.param("device"))
    prompts = prompt_tensors(job.input("prompts"), device)
    lenses = {name: ENGINES[settings.engine](load_model(job.input(name), device)) for name in MODELS}
    provenance = job.provenance("influence/1", device=device)
    total = sum(len(lens.components) for lens in lenses.values())
    with write_hdf5(job.output("influence"), provenance) as file, track(total, f"{job.name} components") as progress:
        for name, lens in lenses.items():
            self_check(lens)
            means = corrupted_means(job.input("activations"), name, device)
            sweep = influence_sweep(lens, prompts, means, settings.batch_size, advance=progress.advance)
            file.put(f"{name}/components", [str(component) for component in lens.components], ("component",))
            file.put(f"{name}/unablated", to_numpy(sweep.unablated), ("prompt",))
            file.put(f"{name}/ablated", to_numpy(sweep.ablated), ("component", "prompt"))
