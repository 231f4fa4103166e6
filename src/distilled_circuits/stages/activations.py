"""Stage `activations`: cache both models' activations through TransformerBridge, streamed to HDF5."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from distilled_circuits.artifacts import HDF5Writer, check_space, write_hdf5
from distilled_circuits.circuits.ablation import mean_activations
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.interface import Dimensions, Lens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.models.loading import choose_device, load_config, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors, to_numpy
from distilled_circuits.stages.job import MODELS, Job


def run(job: Job) -> None:
    """Write activations on the clean prompts, and means over the corrupted ones, of teacher and student."""
    settings = job.param("activations")
    device = choose_device(job.param("device"))
    prompts = {name: prompt_tensors(job.input("prompts"), name, device) for name in MODELS}
    size = sum(
        4 * _count(shape)
        for name in MODELS
        for shape, _ in layout(
            Dimensions.of(load_config(job.input(name))), *prompts[name].ids.shape, settings.sites
        ).values()
    )
    path = job.output("activations")
    check_space(path.parent, size, f"{job.name}: activations", lambda line: sys.stderr.write(line + "\n"))
    provenance = job.provenance("activations/1", device=device)
    total = sum(len(each) for each in prompts.values())
    with write_hdf5(path, provenance) as file, track(total, f"{job.name} prompts") as progress:
        for name in MODELS:  # one model in memory at a time
            lens = BridgeLens(load_model(job.input(name), device), prompts[name].read_at)
            self_check(lens)
            means = mean_activations(lens, prompts[name].corrupted, settings.batch_size)
            file.put(f"{name}/corrupted_mean/z", to_numpy(means.z[:, 0]), ("layer", "pos", "head", "d_head"))
            file.put(f"{name}/corrupted_mean/mlp_out", to_numpy(means.mlp_out[:, 0]), ("layer", "pos", "d_model"))
            weights = torch.stack([lens.output_weights(layer) for layer in range(lens.dimensions.layers)])
            file.put(f"{name}/output_weights", to_numpy(weights), ("layer", "head", "d_head", "d_model"))
            file.put(f"{name}/read_at", lens.read_at, ())
            _stream(file, name, lens, prompts[name].ids, settings, progress.advance)


def layout(
    sizes: Dimensions, prompts: int, positions: int, sites: list[str]
) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Return shape and dimension names of each site's dataset; `residual` has the embedding and each block's output."""
    stream = ("prompt", "layer", "pos", "d_model")
    known = {
        "z": (
            (prompts, sizes.layers, positions, sizes.heads, sizes.d_head),
            ("prompt", "layer", "pos", "head", "d_head"),
        ),
        "pattern": (
            (prompts, sizes.layers, sizes.heads, positions, positions),
            ("prompt", "layer", "head", "query_pos", "key_pos"),
        ),
        "mlp_out": ((prompts, sizes.layers, positions, sizes.d_model), stream),
        "residual": ((prompts, sizes.layers + 1, positions, sizes.d_model), stream),
    }
    return {site: known[site] for site in sites}


@torch.no_grad()
def _stream(
    file: HDF5Writer,
    name: str,
    lens: Lens,
    ids: torch.Tensor,
    settings: Any,
    advance: Callable[[int], None],
) -> None:
    """Write one batch of prompts after the other, so that memory does not grow with their number."""
    layers = range(lens.dimensions.layers)
    datasets = {
        site: file.create(f"{name}/{site}", shape, dimensions)
        for site, (shape, dimensions) in layout(lens.dimensions, *ids.shape, settings.sites).items()
    }
    wanted = {site: [(site, layer) for layer in layers] for site in settings.sites}
    if "residual" in wanted:
        wanted["residual"] = [*(("resid_pre", layer) for layer in layers), ("resid_post", layers[-1])]
    for start in range(0, len(ids), settings.batch_size):
        batch = ids[start : start + settings.batch_size]
        _, cache = lens.cache(batch, [key for keys in wanted.values() for key in keys])
        for site, keys in wanted.items():
            datasets[site][start : start + len(batch)] = to_numpy(torch.stack([cache[key] for key in keys], dim=1))
        advance(len(batch))


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
