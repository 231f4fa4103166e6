"""What the battery says of each variant: the scores of known pairs, the order it puts them in, and chance."""

from __future__ import annotations

import itertools
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
    return {
        "candidates": by_candidate,
        "ordered": [bool(each) for each in ordered[:, 0]],
        "ordered_resamples": float(ordered[:, 1:].mean()),
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


def battery_overview(batteries: Sequence[Mapping[str, Array]]) -> list[dict[str, Any]]:
    """Return one row a variant over all tasks and judged teachers (cases), from the artifacts `battery` of the tasks.

    Scores of each candidate: mean over cases with an interval over prompts, smallest and largest case. `ordered`: in
    how many cases the known order holds; `reach`: distilled less untrained, mean over cases; `margin`: the smallest
    step of the known order in any case, negative where the order breaks; `copied_above_alone` and
    `untrained_above_distilled`: in how many cases a student that does not do the task scores higher than one that
    does; `chance`: mean scores.
    """
    candidates = [str(name) for name in batteries[0]["candidates"]]
    printed = list(batteries[0]["variants"]).index("printed")
    scores = np.concatenate([battery["score"] for battery in batteries])  # (case, candidate, variant, resample)
    rows = []
    for index, name in enumerate(batteries[0]["variants"]):
        cases = scores[:, :, index]
        point = dict(zip(candidates, cases[:, :, 0].T, strict=True))
        steps = np.array([point[high] - point[low] for high, low in itertools.pairwise(KNOWN_ORDER)])
        ordered = in_order(cases.swapaxes(0, 1), candidates)
        students = [place for place, each in enumerate(candidates) if each not in SAME_FUNCTION]
        agreements = [rank_agreement(case[students, index, 0], case[students, printed, 0]) for case in scores]
        rows.append(
            {
                "variant": str(name),
                "candidates": {each: _over_cases(cases[:, place]) for place, each in enumerate(candidates)},
                "ordered": int(ordered[:, 0].sum()),
                "of": len(cases),
                "ordered_resamples": float(ordered[:, 1:].mean()),
                "same_function": _or_none(min(point[each].min() for each in SAME_FUNCTION)),
                "reach": _or_none((point["distilled"] - point["untrained"]).mean()),
                "margin": _or_none(steps.min()),
                "copied_above_alone": int((point["copied"] > point["alone"]).sum()),
                "untrained_above_distilled": int((point["untrained"] > point["distilled"]).sum()),
                "rank_agreement": _mean([each for each in agreements if each is not None]),
                "chance": {
                    kind: _or_none(np.mean([battery[f"shuffled_{kind}"][:, index].mean() for battery in batteries]))
                    for kind in ("matching", "influence")
                },
            }
        )
    return rows


def _over_cases(scores: Array) -> dict[str, Any] | None:
    """Return the mean over cases (case, resample) with its interval over prompts, and the range over cases."""
    if np.isnan(scores).any():
        return None
    mean = scores.mean(0)
    return {
        "value": float(mean[0]),
        "interval95": _interval(mean[1:]),
        "range": [float(scores[:, 0].min()), float(scores[:, 0].max())],
    }


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
