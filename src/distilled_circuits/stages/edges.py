"""Stage `edges`: path patching between the nodes of both circuits, and the circuits in the exchange format."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import HDF5Writer, read_json, write_hdf5, write_json
from distilled_circuits.circuits.ablated_model import nested_means
from distilled_circuits.circuits.ablation import PromptTensors, Values, constant
from distilled_circuits.circuits.edges import Edge, edge_drop, possible_edges
from distilled_circuits.circuits.exchange import ExchangedCircuit, to_exchange
from distilled_circuits.circuits.path_patching import PatchedEdges, patch_circuit
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, replacement_of
from distilled_circuits.stages.job import MODELS, Job


def run(job: Job) -> None:
    """Write every edge's logit differences, its estimate by attribution, and which edges the threshold keeps."""
    settings = job.param("edges")
    device = choose_device(job.param("device"))
    circuits = read_json(job.input("circuit"), "circuit/2")
    exchange: dict[str, Any] = {}
    with write_hdf5(job.output("edges"), job.provenance("edges/1", device=device)) as file:
        for name in MODELS:
            nodes = [Component.parse(node) for node in circuits[name]["nodes"]]
            everything = prompt_tensors(job.input("prompts"), name, device)
            prompts = everything.rows(0, settings.prompts)
            lens = hook_lens(job, name, everything, device)
            edges = possible_edges(nodes)
            found = _patch(job, name, lens, everything, prompts, nodes)
            drop = edge_drop(found.patched, found.circuit, found.full, settings.relative_to)
            kept = drop > settings.threshold  # an edge that was screened out has no drop, and is not kept
            _put(file, name, edges, found, kept)
            exchanged = ExchangedCircuit(
                layers=lens.dimensions.layers,
                heads=lens.dimensions.heads,
                d_model=lens.dimensions.d_model,
                nodes=tuple(nodes),
                scores=dict(zip(edges, np.nan_to_num(found.patched - found.circuit).mean(1).tolist(), strict=True)),
                edges=frozenset(edge for edge, keep in zip(edges, kept, strict=True) if keep),
            )
            exchange[name] = to_exchange(exchanged)
    for name, content in exchange.items():
        write_json(job.output(f"circuit_{name}"), job.provenance("exchange/1", device=device), content)


def _patch(
    job: Job,
    name: str,
    lens: HookLens,
    everything: PromptTensors,
    prompts: PromptTensors,
    nodes: list[Component],
) -> PatchedEdges:
    replaced = replacement_of(job.input("activations"), name, job.param("circuit.ablation"), lens, everything)
    size = job.param("circuit.batch_size")
    if job.param("circuit.means") == "nested":
        blocks, values = Blocks(lens), replaced(prompts)
        embedded = [lens.embed(ids) for ids in everything.corrupted.split(size)]
        outside = frozenset(node for node in lens.components if node.head is not None and node not in nodes)
        replaced = constant(Values(values.z, nested_means(blocks, embedded, values, outside)))
    with track(len(possible_edges(nodes)), f"{job.name} edges, {name}") as progress, torch.no_grad():
        return patch_circuit(
            lens,
            prompts,
            replaced,
            nodes,
            batch_size=size,
            exact_share=job.param("edges").exact_share,
            advance=progress.advance,
        )


def _put(file: HDF5Writer, name: str, edges: list[Edge], found: PatchedEdges, kept: np.ndarray) -> None:
    """Write one model's edges; `patched` is NaN where attribution screened an edge out."""
    file.put(f"{name}/edges", np.array([str(edge) for edge in edges], dtype=str), ("edge",))
    file.put(f"{name}/patched", found.patched, ("edge", "prompt"))
    file.put(f"{name}/attribution", found.attribution, ("edge", "prompt"))
    file.put(f"{name}/circuit", found.circuit, ("prompt",))
    file.put(f"{name}/full", found.full, ("prompt",))
    file.put(f"{name}/kept", kept, ("edge",))
