"""Stage `stability`: both circuits again on resampled prompts: how often each node and edge is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np

from distilled_circuits.artifacts import read_arrays, read_json, write_json
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.pruning import NoCircuitError
from distilled_circuits.circuits.stability import jaccard_to, resampled_circuits, resampled_edges
from distilled_circuits.lens.components import Component
from distilled_circuits.models.loading import choose_device
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, replacement_of
from distilled_circuits.stages.job import MODELS, Job


def run(job: Job) -> None:
    """Write how often nodes and edges are selected, and how far each resample overlaps with the circuit on all."""
    settings = job.param("stability")
    circuits = read_json(job.input("circuit"), "circuit/2")
    content = {
        name: {"nodes": _nodes(job, name, circuits[name]["nodes"]), "edges": _edges(job, name)} for name in MODELS
    }
    device = choose_device(job.param("device"))
    provenance = job.provenance("stability/1", device=device, seeds={"bootstrap": settings.seed})
    write_json(job.output("stability"), provenance, content)


def _nodes(job: Job, name: str, published: list[str]) -> dict[str, Any]:
    """Prune on resampled prompts; `published` are the nodes of the circuit stage, on all prompts of the task."""
    settings = job.param("stability")
    device = choose_device(job.param("device"))
    everything = prompt_tensors(job.input("prompts"), name, device)
    lens = hook_lens(job, name, everything, device)
    sets = NodeSets(
        lens,
        everything.rows(0, settings.prompts),
        replacement_of(job.input("activations"), name, job.param("circuit.ablation"), lens, everything),
        job.param("circuit.batch_size"),
        nested_over=everything.corrupted if job.param("circuit.means") == "nested" else None,
    )
    rng = np.random.default_rng(settings.seed)
    with track(settings.resamples, f"{job.name} prunings, {name}") as progress:
        try:
            found = resampled_circuits(sets, job.param("circuit.threshold"), settings.resamples, rng, progress.advance)
        except NoCircuitError as error:
            return {"why_none": str(error)}
    reference = np.array([[component in found.reference for component in lens.components]])
    larger = [str(component) in published for component in lens.components]
    return {
        "why_none": None,
        "prompts": min(settings.prompts, len(everything)),
        "reference": [str(node) for node in found.reference],
        "jaccard_of_reference_to_circuit": float(jaccard_to(larger, reference)[0]),
        "selected": _share(lens.components, found.selected),
        "jaccard": found.jaccard.tolist(),
        "sizes": found.selected.sum(1).tolist(),
        "failed": found.failed,
    }


def _edges(job: Job, name: str) -> dict[str, Any]:
    settings = job.param("stability")
    threshold, relative_to = job.param("edges.threshold"), job.param("edges.relative_to")
    keys = ("edges", "patched", "circuit", "full", "kept")
    names, patched, circuit, full, kept = read_arrays(job.input("edges"), "edges/1", [f"{name}/{key}" for key in keys])
    rng = np.random.default_rng(settings.seed)
    selected = resampled_edges(patched, circuit, full, threshold, relative_to, settings.edge_resamples, rng).reshape(
        settings.edge_resamples, -1
    )
    chosen = jaccard_to(kept, selected)
    return {
        "selected": {edge: share for edge, share in zip(names, selected.mean(0).tolist(), strict=True) if share > 0},
        "jaccard": {"mean": float(chosen.mean()), "interval95": np.percentile(chosen, [2.5, 97.5]).tolist()},
    }


def _share(components: list[Component], selected: np.ndarray) -> dict[str, float]:
    """Return the share of resamples that kept each component; nothing where no resample had a circuit."""
    if not len(selected):
        return {}
    return {str(component): share for component, share in zip(components, selected.mean(0).tolist(), strict=True)}
