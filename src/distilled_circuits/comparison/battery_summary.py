"""What the battery says of each variant: the scores of known pairs, the order it puts them in, and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from distilled_circuits.comparison.battery import KNOWN_ORDER, in_order
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.statistics import percentile_interval

Array = NDArray[np.floating]
SAME_FUNCTION = ("itself", "permuted", "rotated")
"""Candidates that are the teacher itself in other clothes: every score but 1 is a failure of the variant."""


def battery_summary(battery: Mapping[str, Array]) -> dict[str, Any]:
    """Return one task's battery: by variant the scores of all candidates, and the candidates side by side (DC 4.3).

    From the artifact `battery`; lists have one entry for each judged teacher.
    """
    candidates = [str(name) for name in battery["candidates"]]
    scores = battery["score"]
    variants = {
        str(name): _variant(scores[:, :, index], battery, index, candidates)
        for index, name in enumerate(battery["variants"])
    }
    names = list(variants)
    ranking = [
        {
            "candidate": candidate,
            "logit_difference": float(battery["logit_difference"][0, place]),
            "mean_drop": _or_none(battery["mean_drop"][0, place]),
            "scores": {preset: _with_interval(scores[0, place, names.index(preset)]) for preset in PRESETS},
        }
        for place, candidate in enumerate(candidates)
    ]
    return {
        "judged": battery["judged"].tolist(),
        "candidates": candidates,
        "variants": variants,
        "ranking": sorted(ranking, key=lambda row: -_sortable(row["scores"]["recommended"])),
        "gap": (battery["logit_difference"][:, :1] - battery["logit_difference"]).tolist(),
    }


def _variant(scores: Array, battery: Mapping[str, Array], index: int, candidates: list[str]) -> dict[str, Any]:
    """Return one variant's scores (replica, candidate, resample) as numbers."""
    by_candidate = {
        name: {
            "values": [_or_none(value) for value in scores[:, place, 0]],
            "intervals95": [_interval(row[place, 1:]) for row in scores],
        }
        for place, name in enumerate(candidates)
    }
    ordered = in_order(scores.swapaxes(0, 1), candidates)
    printed = list(battery["variants"]).index("printed")
    students = [place for place, name in enumerate(candidates) if name not in SAME_FUNCTION]
    agreements = [
        rank_agreement(row[students, 0], other[students, printed, 0])
        for row, other in zip(scores, battery["score"], strict=True)
    ]
    return {
        "candidates": by_candidate,
        "ordered": [bool(each) for each in ordered[:, 0]],
        "ordered_resamples": float(ordered[:, 1:].mean()),
        "rank_agreement": agreements,
        "chance": {
            kind: [_or_none(row.mean()) for row in battery[f"shuffled_{kind}"][:, index]]
            for kind in ("matching", "influence")
        },
    }


def rank_agreement(one: Array, other: Array) -> float | None:
    """Return Spearman's rank correlation of two lists of scores; None where one has no order or a score is missing."""
    ranks = [rankdata(values) for values in (one, other)]
    if np.isnan(one).any() or np.isnan(other).any() or any(np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def battery_overview(tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a variant over all tasks and judged teachers.

    Mean, smallest and largest score of each candidate; how often the known order holds; how far apart the smallest
    `distilled` and the largest `untrained` are (`gap`, negative where they overlap); mean scores by chance.
    """
    rows = []
    for name in tasks[0]["variants"]:
        found = [task["variants"][name] for task in tasks]
        values = {
            candidate: [value for each in found for value in each["candidates"][candidate]["values"]]
            for candidate in tasks[0]["candidates"]
        }
        if any(value is None for column in values.values() for value in column):
            values = {candidate: [v for v in column if v is not None] for candidate, column in values.items()}
        ordered = [each for entry in found for each in entry["ordered"]]
        agreements = [each for entry in found for each in entry["rank_agreement"] if each is not None]
        first, *_, last = (values[candidate] for candidate in KNOWN_ORDER)
        rows.append(
            {
                "variant": name,
                "candidates": {
                    candidate: {"mean": _mean(column), "range": [min(column), max(column)] if column else None}
                    for candidate, column in values.items()
                },
                "ordered": sum(ordered),
                "of": len(ordered),
                "ordered_resamples": float(np.mean([entry["ordered_resamples"] for entry in found])),
                "same_function": min(
                    (value for candidate in SAME_FUNCTION for value in values[candidate]), default=None
                ),
                "gap": min(first) - max(last) if first and last else None,
                "rank_agreement": _mean(agreements),
                "chance": {
                    kind: _mean([v for entry in found for v in entry["chance"][kind] if v is not None])
                    for kind in ("matching", "influence")
                },
            }
        )
    return rows


def _with_interval(samples: Array) -> dict[str, Any] | None:
    value = _or_none(samples[0])
    return None if value is None else {"value": value, "interval95": _interval(samples[1:])}


def _interval(samples: Array) -> list[float] | None:
    return None if np.isnan(samples).any() else list(percentile_interval(samples))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _sortable(entry: Mapping[str, Any] | None) -> float:
    return -np.inf if entry is None else entry["value"]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
