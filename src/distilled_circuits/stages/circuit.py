"""Stage `circuit`: prune both models to the nodes that carry the task, and say what the circuits are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distilled_circuits.artifacts import HDF5Writer, read_arrays, read_plain_json, write_hdf5, write_json
from distilled_circuits.circuits.evaluation import evaluate_circuit, size_curve
from distilled_circuits.circuits.exchange import from_exchange
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.pruning import NoCircuitError, Pruned, prune_nodes, why_no_circuit
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.models.loading import choose_device
from distilled_circuits.progress import Progress, track
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, replacement_of
from distilled_circuits.stages.job import MODELS, Job


def run(job: Job) -> None:
    """Write nodes, decisions and the threshold sweep (JSON), and every prompt's logit differences (HDF5)."""
    settings = job.param("circuit")
    device = choose_device(job.param("device"))
    provenance = job.provenance("evaluation/1", device=device, seeds={"random circuits": settings.seed})
    content: dict[str, Any] = {}
    with write_hdf5(job.output("evaluation"), provenance) as file:
        for name in MODELS:
            prompts = prompt_tensors(job.input("prompts"), name, device)
            lens = hook_lens(job, name, prompts, device)
            replaced = replacement_of(job.input("activations"), name, settings.ablation, lens, prompts)
            nested_over = prompts.corrupted if settings.means == "nested" else None
            sets = NodeSets(lens, prompts, replaced, settings.batch_size, nested_over=nested_over)
            # How many sweeps pruning takes is not known in advance; three is what it usually does.
            visits = 3 * len(lens.components) * (1 + len(settings.thresholds))
            with track(visits, f"{job.name} visits, {name}") as progress:
                content[name] = _prune(job, name, sets, progress)
                nodes = [Component.parse(node) for node in content[name]["nodes"]]
                unablated, ablated = read_arrays(
                    job.input("influence"), "influence/2", [f"{name}/unablated", f"{name}/ablated"]
                )
                progress.note("evaluating")
                _evaluate(file, name, sets, nodes, unablated.mean() - ablated.mean(-1), settings)
                content[name]["thresholds"] = _sweep_thresholds(sets, settings.thresholds, progress)
    write_json(job.output("circuit"), job.provenance("circuit/2", device=device), content)


def _prune(job: Job, name: str, sets: NodeSets, progress: Progress) -> dict[str, Any]:
    settings = job.param("circuit")
    if settings.source == "imported":
        nodes = _imported(job.input("circuits") / f"{job.item['pair']}-{job.item['task']}-{name}.json", sets)
        problem = why_no_circuit(sets.differences(())) or (None if nodes else "the imported file has no node in_graph")
        return {"nodes": [] if problem else [str(node) for node in nodes], "trace": [], "why_none": problem}
    try:
        pruned = prune_nodes(sets, settings.threshold, note=_noting(progress))
        problem = pruned.problem
    except NoCircuitError as error:
        # A finding about this model, not a mistake: the paper's own student is at it on two tasks.
        pruned, problem = Pruned((), ()), str(error)
    return {"nodes": [str(node) for node in pruned.nodes], "trace": _trace(pruned), "why_none": problem}


def _imported(path: Path, sets: NodeSets) -> tuple[Component, ...]:
    if not path.exists():
        raise UserError(f"{path}: no such file; circuit.source imported needs one for each pair, task and model")
    circuit = from_exchange(read_plain_json(path), str(path))
    sizes = sets.dimensions
    if (circuit.layers, circuit.heads) != (sizes.layers, sizes.heads):
        raise UserError(
            f"{path}: a circuit of {circuit.layers} layers with {circuit.heads} heads, but the model has "
            f"{sizes.layers} with {sizes.heads}"
        )
    return circuit.nodes


def _evaluate(
    file: HDF5Writer, name: str, sets: NodeSets, nodes: list[Component], drop: np.ndarray, settings: Any
) -> None:
    rng = np.random.default_rng(settings.seed)
    found = evaluate_circuit(sets, nodes, settings.random_draws, rng)
    sizes, curve = size_curve(sets, drop, settings.curve_points)
    file.put(f"{name}/full", found.full, ("prompt",))
    file.put(f"{name}/only_circuit", found.only_circuit, ("prompt",))
    file.put(f"{name}/without_circuit", found.without_circuit, ("prompt",))
    file.put(f"{name}/without_node", found.without_node, ("node", "prompt"))
    file.put(f"{name}/random", found.random, ("draw", "prompt"))
    file.put(f"{name}/curve_size", sizes, ("point",))
    file.put(f"{name}/curve", curve, ("point", "prompt"))


def _sweep_thresholds(sets: NodeSets, thresholds: list[float], progress: Progress) -> list[dict[str, Any]]:
    """Prune at each threshold; sets that an earlier one has come by are not run again."""
    rows = []
    for threshold in thresholds:
        try:
            nodes = prune_nodes(sets, threshold, note=_noting(progress, f"threshold {threshold}, ")).nodes
        except NoCircuitError:
            return []
        rows.append(
            {
                "threshold": threshold,
                "nodes": [str(node) for node in nodes],
                "only_circuit": float(sets.only(nodes).mean()),
                "without_circuit": float(sets.differences(nodes).mean()),
            }
        )
    return rows


def _noting(progress: Progress, prefix: str = "") -> Any:
    def note(state: str) -> None:
        progress.note(prefix + state)
        progress.advance()

    return note


def _trace(pruned: Pruned) -> list[dict[str, Any]]:
    return [
        {
            "sweep": decision.sweep,
            "direction": decision.direction,
            "component": str(decision.component),
            "retained": decision.retained,
            "removed": decision.removed,
        }
        for decision in pruned.trace
    ]
