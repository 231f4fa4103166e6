"""What the page shows of circuit distillation: the figures of each student and task, from stored artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distilled_circuits.figures.distillation import (
    accuracy_bars,
    head_maps,
    loss_curves,
    mapping_diagram,
    size_curves,
    weight_curves,
)
from distilled_circuits.report.page import Picture
from distilled_circuits.stages.collect import DistillationResults

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
    return {
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
            f"Accuracy on {numbers['prompts']} unseen prompts, {seeds} seeds; bars are 95 % over seeds and prompts.",
            "accuracy by condition",
        ),
        "losses": Picture.of(
            loss_curves(result.verdicts["curves"]),
            f"Training of each condition: mean over {seeds} seeds, bands from the smallest to the largest. The cross "
            "entropy is that of the teacher's labels for every condition, also for one that does not train on it.",
            "losses by condition",
        ),
    }


def _sweep_pictures(sweeps: Mapping[str, Mapping[str, Any]]) -> dict[str, Picture]:
    first = next(iter(sweeps.values()))
    done = [trial for found in sweeps.values() for trial in found["trials"] if trial["accuracy"] is not None]
    weighted, sized = ([trial for trial in done if trial["sweep"] == kind] for kind in ("weight", "size"))
    shown = {}
    if weighted:
        names = list(dict.fromkeys(trial["condition"] for trial in weighted))
        shown["weights"] = Picture.of(
            weight_curves(weighted, _alone(sweeps), first["base"], names),
            f"One seed, {first['prompts']} validation prompts. Cross entropy alone: ce_circuit with as many prompts.",
            "accuracy against lambda and against CKA",
        )
    if sized:
        shown["sizes"] = Picture.of(
            size_curves(sized, first["base"], first["teacher"]),
            "The same number of steps on more or fewer prompts that the teacher labelled; one seed, "
            f"{first['prompts']} validation prompts.",
            "accuracy against the number of training prompts",
        )
    return shown


def _alone(sweeps: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the accuracy of cross entropy alone on the circuit, trained like the trials over lambda."""
    weighted = next(trial for found in sweeps.values() for trial in found["trials"] if trial["sweep"] == "weight")
    trials = sweeps.get("ce_circuit", {"trials": []})["trials"]
    same = [trial["accuracy"] for trial in trials if trial["prompts"] == weighted["prompts"]]
    return max((value for value in same if value is not None), default=None)


def _rates(sweeps: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each condition its trials by learning rate, and the one that the runs use."""
    trials = {
        name: [trial for trial in found["trials"] if trial["sweep"] == "learning_rate"]
        for name, found in sweeps.items()
    }
    return {name: {"trials": own, "used": sweeps[name]["used"]["learning_rate"]} for name, own in trials.items() if own}
