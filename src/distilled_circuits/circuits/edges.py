"""The edges of a circuit: which pairs of nodes there are, and which of them a threshold keeps."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from distilled_circuits.lens.components import Component


@dataclass(frozen=True)
class Edge:
    """What flows from a sender directly into one input of a receiver.

    `part` is `q`, `k` or `v` of a head, `mlp`, or `logits`, which have no component.
    """

    sender: Component
    receiver: Component | None
    part: str

    def __str__(self) -> str:
        """Return the name: `L0H1->L2H3<q>`, `MLP0->MLP2`, `L2H3->logits`."""
        end = "logits" if self.receiver is None else str(self.receiver)
        return f"{self.sender}->{end}" + (f"<{self.part}>" if self.part in "qkv" else "")

    @classmethod
    def parse(cls, name: str) -> Edge:
        """Read a name, with components in either form; raise ValueError for anything else."""
        match = re.fullmatch(r"([^<>]+)->([^<>]+?)(?:<([qkv])>)?", name)
        if not match:
            raise ValueError(f"{name!r} names no edge: expected L0H1->L2H3<q>, MLP0->MLP2 or L2H3->logits")
        sender, end, part = match.groups()
        if end == "logits":
            return cls(Component.parse(sender), None, "logits")
        receiver = Component.parse(end)
        if (receiver.head is None) != (part is None):
            raise ValueError(f"{name!r} names no edge: heads are entered by <q>, <k> or <v>, MLPs by none of them")
        return cls(Component.parse(sender), receiver, part or "mlp")


def stands_before(sender: Component, receiver: Component) -> bool:
    """Whether a receiver reads a stream that the sender has written to: heads write before their layer's MLP reads."""
    same_layer_to_mlp = sender.head is not None and receiver.head is None
    return sender.layer < receiver.layer or (sender.layer == receiver.layer and same_layer_to_mlp)


def possible_edges(nodes: Collection[Component]) -> list[Edge]:
    """Return every edge between nodes, and from each node to the logits; senders in order, then receivers."""
    ordered = sorted(nodes, key=lambda node: (node.layer, node.head is None, node.head or 0))
    edges = []
    for sender in ordered:
        for receiver in ordered:
            if stands_before(sender, receiver):
                parts = ("mlp",) if receiver.head is None else ("q", "k", "v")
                edges += [Edge(sender, receiver, part) for part in parts]
        edges.append(Edge(sender, None, "logits"))
    return edges


def edge_drop(
    patched: np.ndarray, circuit: np.ndarray, full: np.ndarray, relative_to: str, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the share of the logit difference that is missing with each edge (edge,) patched.

    `patched` is (edge, prompt), `circuit` and `full` are (prompt,): the circuit alone, and the whole model. Relative
    to `full`, what the circuit alone lacks counts with every edge, as in the released code; relative to `circuit` only
    what the edge adds to it. Means over prompts are weighted by `weights`, which sum to one.
    """
    weights = np.full(len(full), 1 / len(full)) if weights is None else weights
    baseline = weights @ (full if relative_to == "full" else circuit)
    return 1 - patched @ weights / baseline
