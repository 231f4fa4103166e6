"""Invariants of activations, single ablations, and circuits with their edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distilled_circuits.audit.expect import close, holds, layout, nothing_else, same, within
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.models import output_weights
from distilled_circuits.audit.place import Place
from distilled_circuits.audit.store import Arrays
from distilled_circuits.circuits.edges import edge_drop, possible_edges
from distilled_circuits.circuits.exchange import ExchangedCircuit, to_exchange
from distilled_circuits.comparison.scores import baseline_problem
from distilled_circuits.lens.components import Component
from distilled_circuits.stages.job import MODELS

ACTIVATIONS = {
    "corrupted_mean/z": "number: layer pos head d_head",
    "corrupted_mean/mlp_out": "number: layer pos d_model",
    "output_weights": "number: layer head d_head d_model",
    "read_at": "integer:",
}
SITES = {
    "z": "number: prompt layer pos head d_head",
    "pattern": "share: prompt layer head query_pos key_pos",
    "mlp_out": "number: prompt layer pos d_model",
    "residual": "number: prompt layer pos d_model",
}
INFLUENCE = {
    "components": "text: component",
    "unablated": "number: prompt",
    "ablated": "number: component prompt",
    "unablated_log_probability": "log probability: prompt",
    "ablated_log_probability": "log probability: component prompt",
    "batch_size": "count:",
    "dtype": "text:",
    "error_against_float32": "?number: component checked",
}
EVALUATION = {
    "full": "number: prompt",
    "only_circuit": "number: prompt",
    "without_circuit": "number: prompt",
    "without_node": "number: node prompt",
    "random": "number: draw prompt",
    "curve_size": "count: point",
    "curve": "number: point prompt",
}
EDGES = {
    "edges": "text: edge",
    "patched": "number or nan: edge prompt",
    "attribution": "number: edge prompt",
    "circuit": "number: prompt",
    "full": "number: prompt",
    "kept": "flag: edge",
}


def of_both(*forms: str) -> list[str]:
    """Return names of datasets for teacher and student."""
    return [f"{model}/{name}" for model in MODELS for name in forms]


def activations(at: Place) -> Iterator[Wrong]:
    """All sites of all prompts; attention sums to one and looks back only; the stream is what was written to it."""
    arrays, sites = at.arrays, at.params["activations"]["sites"]
    forms = {**ACTIVATIONS, **{site: SITES[site] for site in sites}}
    yield from nothing_else(arrays, *of_both(*forms))
    for model in MODELS:
        sizes, axes = at.sizes(model), at.axes(model)
        axes |= {"query_pos": axes["pos"], "key_pos": axes["pos"]}
        stream_axes = axes | {"layer": sizes.layers + 1}  # the embedding, and behind each block
        wrong = [
            fault
            for name, form in forms.items()
            for fault in layout(arrays, {name: form}, stream_axes if name == "residual" else axes, f"{model}/")
        ]
        yield from wrong
        if wrong:
            continue
        yield from same(f"{model}/read_at", int(arrays[f"{model}/read_at"]), at.prompts(model)[0]["read_at"])
        if "pattern" in sites:
            yield from attention(arrays, f"{model}/pattern", causal=sizes.causal)
        own = output_weights(at.inputs[model], sizes)
        if own is not None:
            yield from close(f"{model}/output_weights", arrays[f"{model}/output_weights"], own)
        if at.exact(model) and sizes.additive and {"z", "mlp_out", "residual"} <= set(sites):
            yield from stream(arrays, model)


def attention(arrays: Arrays, name: str, *, causal: bool) -> Iterator[Wrong]:
    """Attention of every query sums to one, and is nothing for later tokens where a model looks back only."""
    for block in arrays.blocks(name):
        sums = block.sum(-1)
        apart = np.abs(sums - 1).max()
        if apart > 1e-3:
            yield Wrong(name, "attention that sums to 1", f"{sums.flat[np.abs(sums - 1).argmax()]:.6g}")
            return
        ahead = np.triu(np.ones(block.shape[-2:], dtype=bool), 1)
        if causal and block[..., ahead].any():
            yield Wrong(name, "no attention to later tokens", f"{block[..., ahead].max():.6g}")
            return


def stream(arrays: Arrays, model: str) -> Iterator[Wrong]:
    """Require that a block adds z W_O and the MLP's output to the stream, and a bias that all prompts share."""
    weights = arrays[f"{model}/output_weights"]
    flat = weights.reshape(len(weights), -1, weights.shape[-1])
    names = ("z", "mlp_out", "residual")
    bias = None
    for z, mlp_out, residual in zip(*(arrays.blocks(f"{model}/{name}") for name in names), strict=True):
        added = np.diff(residual, axis=1)
        added -= mlp_out
        for layer, own in enumerate(flat):
            added[:, layer] -= z[:, layer].reshape(*z.shape[:1], z.shape[2], -1) @ own
        bias = added[:1, :, :1].copy() if bias is None else bias
        added -= bias
        apart = float(max(-added.min(), added.max()))
        if apart > 1e-3 * max(1.0, float(residual.max())):
            yield Wrong(f"{model}/residual", "the sum of what z W_O and MLPs write", f"{apart:.4g} beside it")
            return


def influence(at: Place) -> Iterator[Wrong]:
    """Every prompt with every component of both models ablated."""
    arrays = at.arrays
    yield from nothing_else(arrays, *of_both(*INFLUENCE))
    for model in MODELS:
        yield from layout(arrays, INFLUENCE, at.axes(model), f"{model}/")
        names = [str(component) for component in at.sizes(model).components]
        yield from same(f"{model}/components", list(arrays[f"{model}/components"]), names)


def circuit(at: Place) -> Iterator[Wrong]:
    """Nodes exist and are those that the trace of decisions leaves; decisions are those of the threshold."""
    settings = at.params["circuit"]
    for model in MODELS:
        said, names = at.json[model], [str(component) for component in at.sizes(model).components]
        yield from same(f"{model}.nodes", said["nodes"], [name for name in names if name in said["nodes"]])
        yield from holds(f"{model}.why_none", bool(said["nodes"]) != bool(said["why_none"]), "nodes or a reason", said)
        yield from decisions(f"{model}.trace", said, names, settings["threshold"])
        evaluation = at.arrays_of("evaluation")
        full, only, without = (
            float(evaluation[f"{model}/{name}"].mean()) for name in ("full", "only_circuit", "without_circuit")
        )
        removals = [decision["retained"] for decision in said["trace"] if decision["removed"]]
        if said["nodes"] and removals:
            yield from close(f"{model}.trace, last removal", removals[-1], only / full, 1e-3)
        rows = said["thresholds"]
        yield from holds(
            f"{model}.thresholds",
            [row["threshold"] for row in rows] in ([], settings["thresholds"]),
            settings["thresholds"],
            [row["threshold"] for row in rows],
        )
        for row in rows:
            place = f"{model}.thresholds, {row['threshold']}"
            yield from same(place, row["nodes"], [name for name in names if name in row["nodes"]])
            if said["nodes"] and row["nodes"] == said["nodes"]:
                yield from close(f"{place}.only_circuit", row["only_circuit"], only)
                yield from close(f"{place}.without_circuit", row["without_circuit"], without)


def decisions(place: str, said: dict[str, Any], names: list[str], threshold: float) -> Iterator[Wrong]:
    """Require that nodes go while what is lost in all is below the threshold, and that the others are the circuit."""
    removed = set()
    for index, decision in enumerate(said["trace"]):
        expected = 1 - decision["retained"] < threshold
        yield from same(f"{place}[{index}].removed", decision["removed"], expected)
        yield from holds(f"{place}[{index}].component", decision["component"] in names, "a component", decision)
        removed |= {decision["component"]} if decision["removed"] else set()
    if said["trace"]:
        yield from same(place.replace("trace", "nodes"), said["nodes"], [n for n in names if n not in removed])


def evaluation(at: Place) -> Iterator[Wrong]:
    """Require values of every prompt; the full model is that of the single ablations, and ends the curve."""
    arrays, settings = at.arrays, at.params["circuit"]
    yield from nothing_else(arrays, *of_both(*EVALUATION))
    for model in MODELS:
        axes = at.axes(model) | {"draw": settings["random_draws"]}
        nodes = len(at.json_of("circuit")[model]["nodes"])
        yield from layout(arrays, EVALUATION, axes | {"node": nodes}, f"{model}/")
        sizes = arrays[f"{model}/curve_size"]
        yield from same(f"{model}/curve_size, its ends", [int(sizes[0]), int(sizes[-1])], [0, axes["component"]])
        yield from holds(f"{model}/curve_size", (np.diff(sizes) > 0).all(), "rising sizes", sizes.tolist())
        yield from close(f"{model}/curve, everything", arrays[f"{model}/curve"][-1], arrays[f"{model}/full"])
        if at.exact(model):
            yield from close(f"{model}/full", arrays[f"{model}/full"], at.arrays_of("influence")[f"{model}/unablated"])


def edges(at: Place) -> Iterator[Wrong]:
    """Require that the edges are all between the circuit's nodes; kept are those that the threshold keeps."""
    arrays, settings = at.arrays, at.params["edges"]
    yield from nothing_else(arrays, *of_both(*EDGES))
    for model in MODELS:
        axes = at.axes(model, settings["prompts"])
        nodes = [Component.parse(node) for node in at.json_of("circuit")[model]["nodes"]]
        names = [str(edge) for edge in possible_edges(nodes)]
        yield from layout(arrays, EDGES, axes | {"edge": len(names)}, f"{model}/")
        yield from same(f"{model}/edges", list(arrays[f"{model}/edges"]), names)
        patched, whole, full, kept = (arrays[f"{model}/{name}"] for name in ("patched", "circuit", "full", "kept"))
        drop = edge_drop(patched, whole, full, settings["relative_to"])
        clear = np.abs(drop - settings["threshold"]) > 1e-6
        yield from same(f"{model}/kept", kept[clear].tolist(), (drop > settings["threshold"])[clear].tolist())
        if at.exact(model):
            unablated = at.arrays_of("influence")[f"{model}/unablated"]
            yield from close(f"{model}/full", full, unablated[: axes["prompt"]])
        if nodes:
            only = at.arrays_of("evaluation")[f"{model}/only_circuit"]
            yield from close(f"{model}/circuit", whole, only[: axes["prompt"]], 1e-3)


def exchange(at: Place) -> Iterator[Wrong]:
    """Require of the circuit for other programs the same nodes and edges, with the edges' mean effects as scores."""
    model = at.path.stem.removeprefix("circuit_")
    sizes, content, stored = at.sizes(model), at.json, at.arrays_of("edges")
    nodes = tuple(Component.parse(node) for node in at.json_of("circuit")[model]["nodes"])
    names, patched, whole, kept = (stored[f"{model}/{name}"] for name in ("edges", "patched", "circuit", "kept"))
    possible = dict(zip(names, possible_edges(nodes), strict=True))
    scores = dict(zip(possible.values(), np.nan_to_num(patched - whole).mean(1).tolist(), strict=True))
    inside = frozenset(edge for edge, keep in zip(possible.values(), kept, strict=True) if keep)
    expected = to_exchange(ExchangedCircuit(sizes.layers, sizes.heads, sizes.d_model, nodes, scores, inside))
    for key in ("cfg", "nodes"):
        yield from same(key, content[key], expected[key])
    yield from same("edges, names", list(content["edges"]), list(expected["edges"]))
    for name, edge in expected["edges"].items():
        yield from same(f"edges.{name}.in_graph", content["edges"][name]["in_graph"], edge["in_graph"])
        if content["edges"][name]["score"] != edge["score"]:
            yield from close(f"edges.{name}.score", content["edges"][name]["score"], edge["score"])


def stability(at: Place) -> Iterator[Wrong]:
    """Shares are shares, sizes are those of the selected nodes, and the overlap with the circuit is as counted."""
    settings = at.params["stability"]
    for model in MODELS:
        nodes, chosen = at.json[model]["nodes"], at.json[model]["edges"]
        yield from within(f"{model}.edges.selected", list(chosen["selected"].values()), 0, 1)
        names = list(at.arrays_of("edges")[f"{model}/edges"])
        yield from holds(f"{model}.edges.selected", set(chosen["selected"]) <= set(names), "edges of edges.h5", chosen)
        jaccard = chosen["jaccard"]
        yield from within(f"{model}.edges.jaccard", [jaccard["mean"], *jaccard["interval95"]], 0, 1)
        if nodes["why_none"]:
            continue
        components = [str(component) for component in at.sizes(model).components]
        yield from within(f"{model}.nodes.jaccard", nodes["jaccard"], 0, 1)
        found = len(nodes["jaccard"])
        yield from same(f"{model}.nodes, resamples", found + nodes["failed"], settings["resamples"])
        yield from same(f"{model}.nodes.sizes, number", len(nodes["sizes"]), found)
        if found:
            yield from same(f"{model}.nodes.selected", list(nodes["selected"]), components)
            selected = list(nodes["selected"].values())
            yield from within(f"{model}.nodes.selected", selected, 0, 1)
            yield from close(f"{model}.nodes.sizes, mean", np.mean(nodes["sizes"]), sum(selected))
        reference, published = set(nodes["reference"]), set(at.json_of("circuit")[model]["nodes"])
        union = len(reference | published)
        overlap = len(reference & published) / union if union else 1.0
        yield from close(
            f"{model}.nodes.jaccard_of_reference_to_circuit", nodes["jaccard_of_reference_to_circuit"], overlap
        )


def share_lost(unablated: np.ndarray, changed: np.ndarray) -> float | None:
    """Return the mean change in percent of the mean logit difference; None where that means nothing."""
    return None if baseline_problem(unablated) else float(100 * (changed - unablated).mean() / unablated.mean())
