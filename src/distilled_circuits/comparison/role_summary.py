"""The numbers of role validation: what patches bring back and where, what heads promote, what probes reach."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.scores import baseline_problem
from distilled_circuits.lens.components import Component
from distilled_circuits.roles.effects import recovery, within_layer, z_within_layer
from distilled_circuits.statistics import bootstrap_weights, interval_over_splits, weighted_mean, weighted_ratio

Array = NDArray[np.floating]
Arrays = Mapping[str, Array]
PARTS = ("attention", "mlp", "z", "qk", "v")
"""What was patched: blocks, whole heads, and heads by path."""


def patching_summary(found: Arrays, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return, for each named place and part, the layer or head whose clean activation brings back most (DC App. J).

    `value` is the share of the gap between corrupted and clean prompts, `logits` the same in logits. For heads,
    `within_layer` is the share of the layer's summed absolute recoveries at that place, and `z` the distance from the
    layer's mean in standard deviations. The largest is chosen on the prompts that it is measured on: it is the winner
    of so many. `attention_by_layer` has the logits that each attention block brings back. Where clean and corrupted
    prompts hardly differ shares mean nothing: then `why_none` says so, and there are no places.
    """
    clean, corrupted = found["patching/clean"].astype(float), found["patching/corrupted"].astype(float)
    weights = bootstrap_weights(len(clean), resamples, rng).astype(float)
    gap = clean - corrupted
    places = list(found["patching/named_places"])
    whole = list(found["patching/whole_places"])
    rows: dict[str, Any] = {}
    problem = baseline_problem(gap)
    for place in () if problem else places:
        rows[place] = {}
        for part in PARTS:
            values = found[f"patching/{part}"].astype(float)
            index = (places if part in ("qk", "v") else whole).index(place)
            rows[place][part] = _strongest(values[..., index, :], clean, corrupted, weights)
        at = found["patching/attention"].astype(float)[:, whole.index(place)]
        rows[place]["attention_by_layer"] = [weighted_mean(layer - corrupted, weights) for layer in at]
    return {
        "prompts": len(clean),
        "clean": weighted_mean(clean, weights),
        "corrupted": weighted_mean(corrupted, weights),
        "gap": weighted_mean(gap, weights),
        "why_none": problem and "corrupted prompts give about the same: there is nothing to bring back",
        "places": rows,
    }


def _strongest(patched: Array, clean: Array, corrupted: Array, weights: Array) -> dict[str, Any]:
    """Return the largest recovery among layers (layer, prompt) or heads (layer, head, prompt), by absolute value."""
    recovered = recovery(patched, clean, corrupted)
    where = np.unravel_index(int(np.abs(recovered).argmax()), recovered.shape)
    gained = patched[where] - corrupted
    entry = {
        "where": f"layer {where[0]}" if len(where) == 1 else str(Component(int(where[0]), int(where[1]))),
        **weighted_ratio(gained, clean - corrupted, weights),
        "logits": weighted_mean(gained, weights),
    }
    if len(where) == 1:
        return entry
    shares = within_layer(recovered)
    return {**entry, "within_layer": float(shares[where]), "z": float(z_within_layer(recovered)[where])}


def output_summary(found: Arrays, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return how often heads promote answer and distractor (DC App. J.3): all in percent, the highest, the average.

    On sequences these are the successor and the copy score. `z` is the distance of the highest score from its layer's
    mean in the layer's standard deviations.
    """
    scores = {}
    for kind in ("answer", "distractor"):
        hits = found[f"promoted/{kind}"].astype(float)
        weights = bootstrap_weights(hits.shape[-1], resamples, rng).astype(float)
        percent = 100 * hits.mean(-1)
        where = np.unravel_index(int(percent.argmax()), percent.shape)
        scores[kind] = {
            "heads": percent.tolist(),
            "mean": weighted_mean(100 * hits.mean((0, 1)), weights),
            "best": str(Component(int(where[0]), int(where[1]))),
            "best_score": weighted_mean(100 * hits[where], weights),
            "best_z": float(z_within_layer(percent)[where]),
        }
    return scores


def probe_summary(found: Arrays) -> dict[str, Any]:
    """Return the curves of each probe over the residual stages, and of the best head of each layer, with controls.

    A head's curve takes the best head of a layer; so does its control, which is the best of as many permuted ones.
    """
    names = sorted({name.split("/")[1] for name in found if name.startswith("probes/") and name.count("/") == 2})
    summary = {"stages": list(found["probes/stages"]), "targets": {}}
    for name in names:
        place = f"probes/{name}"
        entry: dict[str, Any] = {
            "title": str(found[f"{place}/title"]),
            "chance": float(found[f"{place}/chance"]),
            "residual": _curve(found[f"{place}/residual_reached"]),
            "residual_control": _curve(found[f"{place}/residual_control"]),
        }
        if f"{place}/head_reached" in found:
            entry["head"], entry["best_heads"] = _best_heads(found[f"{place}/head_reached"])
            entry["head_control"], _ = _best_heads(found[f"{place}/head_control"])
        # A chance below one prompt's share cannot be hit: every control is at 0, and its interval says nothing.
        seen = entry["chance"] * found["promoted/answer"].shape[-1] >= 1
        control = entry["residual_control"]
        entry["control_contains_chance"] = _share_containing(control, entry["chance"]) if seen else None
        summary["targets"][name] = entry
    return summary


def _curve(values: Array) -> dict[str, list[float]]:
    mean, low, high = interval_over_splits(values)
    return {"mean": mean.tolist(), "low": low.tolist(), "high": high.tolist()}


def _best_heads(values: Array) -> tuple[dict[str, list[float]], list[str]]:
    """Return the curve over layers of the head with the highest mean, from (layer, head, split), and its names."""
    best = values.mean(-1).argmax(1)
    names = [str(Component(layer, int(head))) for layer, head in enumerate(best)]
    return _curve(values[np.arange(len(values)), best]), names


def _share_containing(curve: Mapping[str, list[float]], chance: float) -> float:
    inside = [low <= chance <= high for low, high in zip(curve["low"], curve["high"], strict=True)]
    return float(np.mean(inside))
