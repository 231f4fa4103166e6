"""The numbers of distribution shift: what each model keeps of its logit difference, and what its role heads cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.scores import baseline_problem
from distilled_circuits.statistics import (
    bootstrap_weights,
    exact_mcnemar,
    percentile_interval,
    weighted_mean,
    weighted_ratio,
)

Array = NDArray[np.floating]
MODELS = ("teacher", "student")
USUAL = "usual"
VERDICTS = ("student keeps less", "student keeps more")


def shift_summary(
    found: Mapping[str, Any],
    circuits: Mapping[str, Any],
    played: Mapping[str, Any],
    resamples: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Return one row for each kind of prompts, and for each role what the circuit loses without its head.

    `kept` is a model's mean logit difference over that on its usual prompts, in percent; None for a model that prefers
    the distractor there, or neither. The student is more brittle under a shift when it keeps less: when the interval of
    the difference (student minus teacher, points) is below zero at 95 % for all shifts of the task together
    (Bonferroni). Prompts of two kinds are resampled independently, those of one kind together for both models.
    """
    names = list(found["variant"])
    weights = {
        name: bootstrap_weights(len(found[f"{name}/teacher/full"]), resamples, rng).astype(float)
        for name in names
        if f"{name}/teacher/full" in found
    }
    rows = []
    for index, name in enumerate(names):
        row = {key: str(found[key][index]) for key in ("title", "example", "why_none")}
        if name in weights:
            row |= _row(found, name, weights, level=5 / max(len(weights) - 1, 1))
        rows.append({"name": name, **row})
    return {"variants": rows, "roles": _roles(found, circuits, played, weights)}


def _row(found: Mapping[str, Any], name: str, weights: Mapping[str, Array], level: float) -> dict[str, Any]:
    row: dict[str, Any] = {"prompts": weights[name].shape[1]}
    samples = {}
    for model in MODELS:
        full, usual = found[f"{name}/{model}/full"], found[f"{USUAL}/{model}/full"]
        row[model] = {
            **weighted_mean(full, weights[name]),
            "accuracy": float(found[f"{name}/{model}/correct"].mean()),
            "kept": None,
        }
        if name != USUAL and usual.mean() > 0 and baseline_problem(usual) is None:
            samples[model] = 100 * (weights[name] @ full) / (weights[USUAL] @ usual)
            value = 100 * float(full.mean() / usual.mean())
            row[model]["kept"] = {"value": value, "interval95": list(percentile_interval(samples[model]))}
    row["right"] = _right(*(found[f"{name}/{model}/correct"] for model in MODELS))
    row["difference"], row["verdict"] = None, ""
    if len(samples) == len(MODELS):
        apart = samples["student"] - samples["teacher"]
        value = row["student"]["kept"]["value"] - row["teacher"]["kept"]["value"]
        row["difference"] = {"value": value, "interval95": list(percentile_interval(apart))}
        low, high = np.percentile(apart, [level / 2, 100 - level / 2])
        row["verdict"] = (
            "student keeps less" if high < 0 else "student keeps more" if low > 0 else "no difference shown"
        )
    return row


def _right(teacher: Array, student: Array) -> dict[str, Any]:
    """Return how many prompts only one of the models answers, and the exact p of that by McNemar's test."""
    only = {"only_teacher": int((teacher & ~student).sum()), "only_student": int((student & ~teacher).sum())}
    return {**only, "p": exact_mcnemar(*only.values())}


def _roles(
    found: Mapping[str, Any], circuits: Mapping[str, Any], played: Mapping[str, Any], weights: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """Return what the circuit loses without each role's head, on every kind of prompts, by role and model."""
    rows = []
    for role in played["teacher"]:
        for model in MODELS:
            entry = played[model].get(role)
            if not entry or not entry["plays"]:
                continue
            head = entry["best"]
            in_circuit = not circuits[model]["why_none"] and head in circuits[model]["nodes"]
            heads = list(found[f"{model}/heads"])
            changes = {
                name: _change(found, f"{name}/{model}", heads.index(head), weights[name]) if in_circuit else None
                for name in weights
            }
            rows.append(
                {"role": entry["title"], "model": model, "head": head, "in_circuit": in_circuit, "changes": changes}
            )
    return rows


def _change(found: Mapping[str, Any], place: str, head: int, weights: Array) -> dict[str, Any] | None:
    """Return the change in points of the full logit difference when a head leaves the circuit (as in DC Table 1)."""
    full = found[f"{place}/full"]
    if baseline_problem(full):
        return None
    change = found[f"{place}/in_circuit"][head] - found[f"{place}/only_circuit"]
    return weighted_ratio(100 * change, full, weights)


def answer_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say in one sentence whether the student is more brittle off distribution, from the verdicts of the shifts."""
    verdicts = [row["verdict"] for row in rows if row.get("verdict")]
    less, more = (verdicts.count(verdict) for verdict in VERDICTS)
    if not verdicts:
        return "No shift could be measured against both models' usual prompts."
    if less and not more:
        lead = "The student is more brittle off distribution"
    elif more and not less:
        lead = "The student is not more brittle off distribution"
    elif less:
        lead = "Neither model is more brittle throughout"
    else:
        lead = "No difference in brittleness is shown"
    return (
        f"{lead}: of {len(verdicts)} shifts it keeps a smaller share of its logit difference than the teacher under "
        f"{less}, a larger one under {more}."
    )
