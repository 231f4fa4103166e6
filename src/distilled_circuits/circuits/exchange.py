"""Circuits in the JSON that EAP-IG and the MIB benchmark exchange: nodes `a4.h4` and `m9`, edges `a0.h1->a2.h3<q>`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from distilled_circuits.circuits.edges import Edge, possible_edges
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component, all_components

INPUT, LOGITS = "input", "logits"


@dataclass(frozen=True)
class ExchangedCircuit:
    """What the format holds of a circuit: sizes, the nodes in it, every scored edge, and the edges in it."""

    layers: int
    heads: int
    d_model: int
    nodes: tuple[Component, ...]
    scores: Mapping[Edge, float]
    edges: frozenset[Edge]


def to_exchange(circuit: ExchangedCircuit) -> dict[str, Any]:
    """Return a circuit as the format's dictionary, of the whole graph: what is not in the circuit is marked so.

    Edges that were not scored have score 0. The embedding is never ablated here, so `input` and its edges to the nodes
    of the circuit are in the graph, unscored.
    """
    components = all_components(circuit.layers, circuit.heads)
    nodes = {INPUT: {"in_graph": bool(circuit.nodes)}}
    nodes |= {component.exchange_name: {"in_graph": component in circuit.nodes} for component in components}
    nodes[LOGITS] = {"in_graph": True}
    edges: dict[str, Any] = {}
    for component in components:
        ends = [f"<{part}>" for part in "qkv"] if component.head is not None else [""]
        for end in ends:
            edges[f"{INPUT}->{component.exchange_name}{end}"] = _edge(0.0, component in circuit.nodes)
    edges[f"{INPUT}->{LOGITS}"] = _edge(0.0, in_graph=bool(circuit.nodes))
    for edge in possible_edges(components):
        edges[edge_name(edge)] = _edge(circuit.scores.get(edge, 0.0), edge in circuit.edges)
    sizes = {
        "n_layers": circuit.layers,
        "n_heads": circuit.heads,
        "parallel_attn_mlp": False,
        "d_model": circuit.d_model,
    }
    return {"cfg": sizes, "nodes": nodes, "edges": edges}


def from_exchange(content: Any, origin: str) -> ExchangedCircuit:
    """Read the format's dictionary; `origin` is what errors call it.

    A file may name a part of the graph only; what it does not name is not in the circuit. Edges from the embedding are
    left out. Raises UserError for another format, for components that the sizes do not have, and for models whose
    attention and MLP read the same stream.
    """
    try:
        sizes = content["cfg"]
        layers, heads = int(sizes["n_layers"]), int(sizes["n_heads"])
        inside = [name for name, node in content["nodes"].items() if _in_graph(node)]
        edges = {name: (float(edge["score"]), bool(edge["in_graph"])) for name, edge in content["edges"].items()}
        width = int(sizes["d_model"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UserError(
            f"{origin}: no circuit of EAP-IG or MIB: expected cfg, nodes and edges as their to_json has"
        ) from None
    if sizes.get("parallel_attn_mlp"):
        raise UserError(f"{origin}: attention and MLP in parallel are not supported")
    try:
        nodes = {Component.parse(name) for name in inside if name not in (INPUT, LOGITS)}
        scored = {Edge.parse(name): value for name, value in edges.items() if not name.startswith(INPUT)}
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from None
    ends = nodes | {end for edge in scored for end in (edge.sender, edge.receiver) if end is not None}
    # By comparison, not in a list of all: the sizes are whatever the file says.
    outside = [end for end in ends if end.layer >= layers or (end.head or 0) >= heads]
    if outside:
        wrong = ", ".join(sorted(map(str, outside))[:3])
        raise UserError(f"{origin}: {wrong} not in a model of {layers} layers with {heads} heads")
    return ExchangedCircuit(
        layers,
        heads,
        width,
        tuple(sorted(nodes, key=lambda node: (node.layer, node.head is None, node.head or 0))),
        {edge: score for edge, (score, _) in scored.items()},
        frozenset(edge for edge, (_, in_graph) in scored.items() if in_graph),
    )


def edge_name(edge: Edge) -> str:
    """Return an edge in the format's spelling: `a0.h1->a2.h3<q>`, `m0->m2`, `a2.h3->logits`."""
    end = LOGITS if edge.receiver is None else edge.receiver.exchange_name
    return f"{edge.sender.exchange_name}->{end}" + (f"<{edge.part}>" if edge.part in "qkv" else "")


def _edge(score: float, in_graph: bool) -> dict[str, Any]:
    return {"score": float(score), "in_graph": in_graph}


def _in_graph(node: Collection[str] | bool) -> bool:
    """Older files say of a node only whether it is in the graph."""
    return bool(node["in_graph"]) if isinstance(node, Mapping) else bool(node)
