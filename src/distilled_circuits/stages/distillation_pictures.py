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
        "sweeps": _best_trials(result.sweeps),
        "pictures": {**_circuit_pictures(result), **_run_pictures(result, numbers), **_sweep_pictures(result)},
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


def _sweep_pictures(result: DistillationResults) -> dict[str, Picture]:
    sweeps = result.sweeps
    done = [trial for trial in sweeps["trials"] if trial["accuracy"] is not None]
    weighted, sized = ([trial for trial in done if trial["sweep"] == kind] for kind in ("weight", "size"))
    alone = _best_trials(sweeps).get("ce_circuit")
    shown = {}
    if weighted:
        names = list(dict.fromkeys(trial["condition"] for trial in weighted))
        shown["weights"] = Picture.of(
            weight_curves(weighted, alone and alone["best"], sweeps["base"], names),
            f"One seed, {sweeps['prompts']} validation prompts. Cross entropy alone: ce_circuit at its best learning "
            "rate of the trials.",
            "accuracy against lambda and against CKA",
        )
    if sized:
        shown["sizes"] = Picture.of(
            size_curves(sized, sweeps["base"], sweeps["teacher"]),
            f"The same number of steps on more or fewer prompts that the teacher labelled; one seed, "
            f"{sweeps['prompts']} validation prompts.",
            "accuracy against the number of training prompts",
        )
    return shown


def _best_trials(sweeps: Mapping[str, Any]) -> dict[str, Any]:
    """Return for each condition its trials by learning rate, the best of them, and whether the run used that one."""
    trials = [trial for trial in sweeps["trials"] if trial["sweep"] == "learning_rate"]
    conditions = sweeps["provenance"]["params"]["conditions"]
    found = {}
    for name in dict.fromkeys(trial["condition"] for trial in trials):
        own = [trial for trial in trials if trial["condition"] == name]
        known = [trial for trial in own if trial["accuracy"] is not None]
        best = max(known, key=lambda trial: trial["accuracy"]) if known else None
        found[name] = {"trials": own, "best": best, "used": conditions[name]["learning_rate"]}
    return found
