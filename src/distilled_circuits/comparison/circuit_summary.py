"""The numbers of one model's circuit: what it keeps, what each node and edge adds, thresholds, stability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distilled_circuits.circuits.edges import edge_drop
from distilled_circuits.statistics import bootstrap_weights, weighted_mean, weighted_ratio

Array = NDArray[np.floating]
STRONGEST = 10
"""So many edges are listed."""


def circuit_summary(
    circuit: Mapping[str, Any], evaluation: Mapping[str, Array], resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return the size of a circuit and what it keeps, what the rest keeps, what each node adds, each over prompts.

    Percentages are of the full model's mean logit difference, resampled together with it. `minimality` has points of it
    that go when one node is taken from the circuit: what Table 1 of DC shows.
    """
    nodes = circuit["nodes"]
    heads = sum(node.startswith("L") for node in nodes)
    full = evaluation["full"]
    weights = bootstrap_weights(len(full), resamples, rng).astype(float)
    summary: dict[str, Any] = {
        "nodes": nodes,
        "heads": heads,
        "mlps": len(nodes) - heads,
        "sweeps": max((decision["sweep"] for decision in circuit["trace"]), default=0),
        "why_none": circuit["why_none"],
        "full": weighted_mean(full, weights),
    }
    if circuit["why_none"]:
        return summary
    only, without = evaluation["only_circuit"], evaluation["without_circuit"]
    draws = 100 * evaluation["random"].mean(1) / full.mean()
    return {
        **summary,
        "only_circuit": {**weighted_mean(only, weights), "percent": weighted_ratio(100 * only, full, weights)},
        "without_circuit": {**weighted_mean(without, weights), "percent": weighted_ratio(100 * without, full, weights)},
        "random_percent": {"value": float(draws.mean()), "range": [float(draws.min()), float(draws.max())]},
        "minimality": [
            {"node": node, **weighted_ratio(100 * (only - less), full, weights)}
            for node, less in zip(nodes, evaluation["without_node"], strict=True)
        ],
        "curve": {
            "size": evaluation["curve_size"].tolist(),
            "percent": (100 * evaluation["curve"].mean(1) / full.mean()).tolist(),
        },
        "thresholds": [
            {
                "threshold": row["threshold"],
                "heads": sum(node.startswith("L") for node in row["nodes"]),
                "mlps": sum(not node.startswith("L") for node in row["nodes"]),
                "only_circuit_percent": 100 * row["only_circuit"] / float(full.mean()),
                "without_circuit_percent": 100 * row["without_circuit"] / float(full.mean()),
            }
            for row in circuit["thresholds"]
        ],
    }


def edge_summary(
    edges: Mapping[str, Any], paper_threshold: float, resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return how many edges there are and are kept, the strongest ones, and how well attribution ranks them.

    `kept_as_in_paper` reads the threshold relative to the full model. Strengths are shares of what the circuit keeps.
    Agreement is Spearman's rank correlation of exact and estimated effects over the edges that were patched exactly,
    and the share of the kept edges that are also among as many with the largest estimates. Where attribution has
    screened edges out, what the paper's reading would keep and that share are not known, and None.
    """
    names: Sequence[str] = list(edges["edges"])
    if not names:
        return {"possible": 0, "patched": 0, "kept": 0, "kept_as_in_paper": 0, "strongest": [], "agreement": None}
    patched, circuit, full = edges["patched"], edges["circuit"], edges["full"]
    exact = ~np.isnan(patched).any(1)
    drop = edge_drop(patched, circuit, full, "circuit")
    as_in_paper = int((edge_drop(patched, circuit, full, "full") > paper_threshold).sum())
    weights = bootstrap_weights(len(full), resamples, rng).astype(float)
    order = [index for index in np.argsort(-np.abs(np.nan_to_num(drop)), kind="stable") if edges["kept"][index]]
    return {
        "possible": len(names),
        "patched": int(exact.sum()),
        "kept": int(edges["kept"].sum()),
        "kept_as_in_paper": as_in_paper if exact.all() else None,
        "strongest": [
            {"edge": names[index], **weighted_ratio(100 * (circuit - patched[index]), circuit, weights)}
            for index in order[:STRONGEST]
        ],
        "agreement": _agreement((patched - circuit).mean(1), edges["attribution"].mean(1), exact, edges["kept"]),
    }


def stability_summary(stability: Mapping[str, Any]) -> dict[str, Any]:
    """Return how often nodes were selected again, the overlap of the resampled circuits, and that of their edges."""
    nodes = stability["nodes"]
    if nodes["why_none"] or not nodes["jaccard"]:
        return {"why_none": nodes["why_none"] or "no resample has a logit difference to lose"}
    jaccard = np.array(nodes["jaccard"])
    always = [node for node, share in nodes["selected"].items() if share == 1]
    sometimes = {node: share for node, share in nodes["selected"].items() if 0 < share < 1}
    return {
        "why_none": None,
        "prompts": nodes["prompts"],
        "resamples": len(jaccard),
        "failed": nodes["failed"],
        "jaccard": {"value": float(jaccard.mean()), "range": [float(jaccard.min()), float(jaccard.max())]},
        "sizes": [min(nodes["sizes"]), max(nodes["sizes"])],
        "jaccard_of_reference_to_circuit": nodes["jaccard_of_reference_to_circuit"],
        "reference_size": len(nodes["reference"]),
        "always": always,
        "sometimes": sometimes,
        "edges": stability["edges"]["jaccard"] if stability["edges"]["selected"] else None,
    }


def _agreement(exact: Array, estimate: Array, known: NDArray[np.bool_], kept: Array) -> dict[str, Any] | None:
    number = int(kept.sum())
    if known.sum() < 3 or not number:  # two points always lie on a line
        return None
    largest = np.argsort(-np.abs(estimate), kind="stable")[:number]
    correlation = spearmanr(exact[known], estimate[known]).statistic
    return {
        "spearman": float(correlation) if np.isfinite(correlation) else None,
        "edges": int(known.sum()),
        "kept_among_largest_estimates": float(kept[largest].mean()) if known.all() else None,
    }
