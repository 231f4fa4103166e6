"""Stage `roles`: what components cause and carry, by activation patching, scores of their output, and linear probes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import HDF5Writer, write_hdf5
from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device
from distilled_circuits.progress import track
from distilled_circuits.roles.cells import Placed
from distilled_circuits.roles.features import Features, probe_features, stage_names
from distilled_circuits.roles.output_scores import promoted
from distilled_circuits.roles.patching import every_position, named_positions, patch_sweep
from distilled_circuits.roles.probes import probe, prompt_splits
from distilled_circuits.roles.targets import Target, targets_of
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.positions import placed_prompts

PLACED = ("layer", "place", "prompt")


def run(job: Job) -> None:
    """Write logit differences of all patches, whether heads promote answers, and what probes reach, of both models."""
    device = choose_device(job.param("device"))
    seed = job.param("probes").seed
    with write_hdf5(job.output("roles"), job.provenance("roles/1", device=device, seeds={"probes": seed})) as out:
        for name in MODELS:
            prompts = prompt_tensors(job.input("prompts"), name, device)
            placed = placed_prompts(job.input("prompts"), name)
            lens = hook_lens(job, name, prompts, device)
            _patch(out, name, lens, prompts, placed, job)
            _score_outputs(out, name, lens, prompts, job.param("output_scores"))
            _probe(out, name, lens, prompts, placed, job)


def _patch(out: HDF5Writer, name: str, lens: HookLens, prompts: PromptTensors, placed: Placed, job: Job) -> None:
    settings = job.param("patching")
    chosen = prompts.rows(0, settings.prompts)
    number, length = chosen.ids.shape
    named = named_positions({role: where[:number] for role, where in placed.positions.items()}, number, length)
    whole = every_position(number, length) + named
    with track(lens.dimensions.layers, f"{job.name} layers patched, {name}") as progress:
        found = patch_sweep(lens, chosen, whole, named, settings.batch_size, progress.advance)
    out.put(f"{name}/patching/clean", _numpy(found.clean), ("prompt",))
    out.put(f"{name}/patching/corrupted", _numpy(found.corrupted), ("prompt",))
    out.put(f"{name}/patching/whole_places", np.array(whole.names), ("place",))
    out.put(f"{name}/patching/named_places", np.array(named.names), ("place",))
    for part, values in found.parts.items():
        dimensions = PLACED if values.dim() == len(PLACED) else ("layer", "head", "place", "prompt")
        out.put(f"{name}/patching/{part}", _numpy(values), dimensions)


def _score_outputs(out: HDF5Writer, name: str, lens: HookLens, prompts: PromptTensors, settings: Any) -> None:
    """Write whether the answer, and whether the distractor, is among the first tokens that each head promotes."""
    targets = {"answer": prompts.answers, "distractor": prompts.distractors}
    found = promoted(lens, prompts.ids, targets, settings.first, settings.batch_size)
    for target, hits in found.items():
        out.put(f"{name}/promoted/{target}", hits, ("layer", "head", "prompt"))


def _probe(out: HDF5Writer, name: str, lens: HookLens, prompts: PromptTensors, placed: Placed, job: Job) -> None:
    settings = job.param("probes")
    ids = {"clean": prompts.ids, "corrupted": prompts.corrupted}
    answers, distractors = _numpy(prompts.answers), _numpy(prompts.distractors)
    targets = targets_of(placed.ids, _numpy(prompts.corrupted), answers, distractors, placed.positions)
    features = probe_features(lens, ids, targets, settings.batch_size)
    layers, heads = lens.dimensions.layers, lens.dimensions.heads
    out.put(f"{name}/probes/stages", np.array(stage_names(layers)), ("stage",))
    jobs = (
        len(targets) * len(stage_names(layers)) + sum(target.of_heads for target in targets.values()) * layers * heads
    )
    with track(jobs, f"{job.name} sites probed, {name}") as progress:
        for target_name, target in targets.items():
            # A generator for each target, and so the same splits for all: a target more does not change the others.
            rng = np.random.default_rng(settings.seed)
            results = _Probes(target, settings, rng, progress.advance)
            place = f"{name}/probes/{target_name}"
            for kind, values in results.of_residual(features[target_name]).items():
                out.put(f"{place}/residual_{kind}", values, ("stage", "split"))
            if target.of_heads:
                for kind, values in results.of_heads(features[target_name]).items():
                    out.put(f"{place}/head_{kind}", values, ("layer", "head", "split"))
            out.put(f"{place}/chance", target.chance, ())
            out.put(f"{place}/title", target.title, ())


class _Probes:
    """All probes of one target, each beside a control whose labels are permuted anew for each site and split."""

    def __init__(self, target: Target, settings: Any, rng: np.random.Generator, advance: Callable[[], None]) -> None:
        self.target, self.strength, self.rng, self.advance = target, settings.strength, rng, advance
        units = np.arange(len(target.labels)) if target.units is None else target.units
        self.splits = prompt_splits(units, settings.splits, rng)

    def of_residual(self, features: Features) -> dict[str, np.ndarray]:
        """Return what probes of the stream and their controls reach (stage, split)."""
        found = [self._both(values) for values in features.residual]
        return {"reached": np.array([one for one, _ in found]), "control": np.array([other for _, other in found])}

    def of_heads(self, features: Features) -> dict[str, np.ndarray]:
        """Return what probes of each head's values and their controls reach (layer, head, split)."""
        found = [[self._both(layer[:, :, head]) for head in range(layer.shape[2])] for layer in features.z]
        both = np.array(found)
        return {"reached": both[:, :, 0], "control": both[:, :, 1]}

    def _both(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reached = probe(values, self.target, self.splits, self.strength)
        permuted = [self.target.permuted(self.rng) for _ in self.splits]
        control = probe(values, self.target, self.splits, self.strength, permuted)
        self.advance()
        return reached, control


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
