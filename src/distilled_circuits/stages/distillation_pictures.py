"""What the page shows of circuit distillation: the figures of each student and task, from stored artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distilled_circuits.figures.distillation import (
    accuracy_bars,
    faithfulness_curves,
    head_maps,
    loss_curves,
    mapping_diagram,
    size_curves,
    weight_curves,
)
from distilled_circuits.report.page import Picture
from distilled_circuits.stages.collect import DistillationResults

NEAR = 0.05
"""Accuracy below the teacher's from which on a student has all but reached it."""
SHOWN_MAPPINGS = ("impact", "impact_own", "hungarian")


def distillation_section(result: DistillationResults, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the page shows of one student and task; `numbers` is what `comparison` says of it."""
    return {
        "numbers": numbers,
        "anchor": f"distillation-{result.task}-{result.teacher}-{result.student}",
        "example": result.example,
        "mapping": result.mapping,
        "untrained": result.untrained,
        "sweeps": _rates(result.sweeps),
        "scarce": _scarce(result.sweeps),
        "pictures": {**_circuit_pictures(result), **_run_pictures(result, numbers), **_sweep_pictures(result.sweeps)},
    }


def _circuit_pictures(result: DistillationResults) -> dict[str, Picture]:
    sides = ("teacher", "student")
    maps = {side: _scores(result.mapping[side]) for side in sides}
    chosen = {side: {name: group["heads"] for name, group in result.mapping[side]["groups"].items()} for side in sides}
    patched = result.mapping["method"] == "path_patching"
    what = (
        "Path patching: relative change of the answer's probability when a head sends what it does on the corrupted "
        "prompt, to the logits or to the query, key or value of the group before. White: no path."
        if patched
        else "Mean ablation: loss of the answer's logit over the best other choice when a head alone is ablated."
    )
    impacts = {side: _impacts(result.mapping[side]) for side in sides}
    pairs = {
        name: [(pair["student"], pair["teacher"]) for pair in result.mapping["mappings"][name]["pairs"]]
        for name in SHOWN_MAPPINGS
    }
    curves = {side: result.mapping[side].get("curves", {}) for side in sides}
    shown = {}
    if any(curves.values()):
        shown["curves"] = Picture.of(
            faithfulness_curves(curves),
            "Accuracy of the first heads alone, as a share of the model's own, on the prompts that were searched: in "
            "the order of the search that found the circuit, and in that of single ablations. The circuit ends where "
            "the target is reached, or at the best value.",
            "faithfulness against the number of heads",
        )
    return shown | {
        "heads": Picture.of(
            head_maps(maps, chosen),
            f"{what} Framed: chosen as circuit heads. N = {result.mapping['prompts']} prompts.",
            "how circuit heads were found",
        ),
        "mapping": Picture.of(
            mapping_diagram(impacts["teacher"], impacts["student"], pairs),
            "Circuit heads in the order of what their ablation costs (points of accuracy, each model's own baseline), "
            f"and who is paired with whom. N = {result.mapping['prompts']} prompts.",
            "pairs of heads",
        ),
    }


def _scores(model: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the scores of each search as (layer, head)."""
    layers = 1 + max(int(head["head"][1:].split("H")[0]) for head in model["heads"])
    scores = {name: group["scores"] for name, group in model["groups"].items()}
    return {
        name: np.array([np.nan if score is None else score for score in row]).reshape(layers, -1)
        for name, row in scores.items()
    }


def _impacts(model: Mapping[str, Any]) -> dict[str, float]:
    return {
        head["head"]: model["accuracy"] - head["accuracy"]
        for head in model["heads"]
        if head["head"] in model["circuit"]
    }


def _run_pictures(result: DistillationResults, numbers: Mapping[str, Any]) -> dict[str, Picture]:
    rows = [
        {"condition": name, "accuracy": found["full"], "circuit_accuracy": found["circuit"]}
        for name, found in numbers["models"].items()
    ]
    seeds = len(numbers["seeds"])
    return {
        "bars": Picture.of(
            accuracy_bars(rows),
            f"Accuracy on {numbers['prompts']} unseen prompts, of circuits alone on the first "
            f"{numbers['circuit_prompts']}; {seeds} seeds, bars are 95 % over seeds and prompts.",
            "accuracy by condition",
        ),
        "losses": Picture.of(
            loss_curves(result.verdicts["curves"]),
            f"Training of each condition: mean over {seeds} seeds, bands from the smallest to the largest, each value "
            "on one batch, whose prompts are the rows of CKA. The cross entropy is that of the teacher's labels for "
            "every condition, also for one that does not train on it.",
            "losses by condition",
        ),
    }


def _sweep_pictures(sweeps: Mapping[str, Mapping[str, Any]]) -> dict[str, Picture]:
    first = next(iter(sweeps.values()))
    done = [trial for found in sweeps.values() for trial in found["trials"] if trial["accuracy"] is not None]
    used, weighted, sized = ([trial for trial in done if trial["sweep"] == kind] for kind in ("used", "weight", "size"))
    alone = next((trial["accuracy"] for trial in used), None)
    shown = {}
    if weighted:
        names = list(dict.fromkeys(trial["condition"] for trial in weighted))
        shown["weights"] = Picture.of(
            weight_curves(weighted, alone, first["base"], names),
            f"One seed, {first['prompts']} validation prompts."
            + (" Cross entropy alone: ce_circuit, trained like the others." if alone is not None else ""),
            "accuracy against lambda and against CKA",
        )
    if sized:
        shown["sizes"] = Picture.of(
            size_curves(sized, first["base"], first["teacher"]),
            "The same number of steps on more or fewer prompts that the teacher labelled, as many as these steps see; "
            f"one seed, {first['prompts']} validation prompts.",
            "accuracy against the number of training prompts",
        )
    return shown


def _scarce(sweeps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return what the most prompts make of training everything, and if that is near the teacher; None if untried."""
    found = sweeps.get("ce_full", {"trials": []})
    tried = [trial for trial in found["trials"] if trial["sweep"] == "size" and trial["accuracy"] is not None]
    if not tried:
        return None
    most = max(tried, key=lambda trial: trial["seen"])
    near = found["teacher"] - most["accuracy"] <= NEAR
    return {"seen": most["seen"], "accuracy": most["accuracy"], "teacher": found["teacher"], "verdict": near}


def _rates(sweeps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each condition its trials by learning rate, and the one that the runs use."""
    trials = {
        name: [trial for trial in found["trials"] if trial["sweep"] == "learning_rate"]
        for name, found in sweeps.items()
    }
    return {name: {"trials": own, "used": sweeps[name]["used"]["learning_rate"]} for name, own in trials.items() if own}
