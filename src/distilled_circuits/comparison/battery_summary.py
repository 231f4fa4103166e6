"""What the battery says of each variant: the scores of known pairs, the order it puts them in, and chance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from distilled_circuits.comparison.alignment import PARTS
from distilled_circuits.comparison.battery import EXPECTED, KNOWN_ORDER, SAME_FUNCTION, in_order
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.statistics import recentred_interval

Array = NDArray[np.floating]


def battery_summary(battery: Mapping[str, Array]) -> dict[str, Any]:
    """Return one task's battery: by variant the scores of all candidates, and the candidates side by side (DC 4.3).

    From the artifact `battery`; lists have one entry for each judged teacher. The ranking is of the pair's own.
    """
    candidates = _names(battery["candidates"])
    names = _names(battery["variants"])
    own = battery["judged"].tolist().index(0)
    ranking = [
        {
            "candidate": candidate,
            "logit_difference": float(battery["logit_difference"][own, place]),
            "mean_drop": _or_none(battery["mean_drop"][own, place]),
            "scores": {
                preset: _estimates({part: battery[part][own, place, names.index(preset)] for part in PARTS})
                for preset in PRESETS
            },
        }
        for place, candidate in enumerate(candidates)
    ]
    return {
        "judged": battery["judged"].tolist(),
        "candidates": candidates,
        "variants": {
            name: {
                candidate: [_or_none(value) for value in battery["score"][:, place, index, 0]]
                for place, candidate in enumerate(candidates)
            }
            for index, name in enumerate(names)
        },
        "ranking": sorted(ranking, key=lambda row: -_sortable(row["scores"]["recommended"])),
        "gap": (battery["logit_difference"][:, :1] - battery["logit_difference"]).tolist(),
    }


def battery_overview(batteries: Sequence[Mapping[str, Array]]) -> list[dict[str, Any]]:
    """Return one row a variant over all tasks and judged teachers (cases), from the artifacts `battery` of the tasks.

    Scores of each candidate: mean over cases with an interval over prompts, the two parts alone, smallest and largest
    case. `ordered`: in how many cases the known order holds, for the score and for the mean similarity alone; `reach`:
    distilled less untrained, mean over cases; `margin`: the smallest step of the known order in any case, negative
    where it breaks; `expected`: in how many cases the first of a pair of students is above the second; `chance`: mean
    scores.
    """
    candidates = _names(batteries[0]["candidates"])
    names = _names(batteries[0]["variants"])
    # Each (case, candidate, variant, resample).
    parts = {part: np.concatenate([battery[part] for battery in batteries]) for part in PARTS}
    students = [place for place, each in enumerate(candidates) if each not in SAME_FUNCTION]
    ranked = parts["score"][:, students][..., 0]
    rows = []
    for index, name in enumerate(names):
        cases = {part: values[:, :, index] for part, values in parts.items()}
        point = dict(zip(candidates, cases["score"][:, :, 0].T, strict=True))
        steps = np.array([point[high] - point[low] for high, low in itertools.pairwise(KNOWN_ORDER)])
        agreements = [rank_agreement(case[:, index], case[:, names.index("printed")]) for case in ranked]
        rows.append(
            {
                "variant": name,
                "candidates": {
                    each: _over_cases({part: values[:, place] for part, values in cases.items()})
                    for place, each in enumerate(candidates)
                },
                "ordered": int(in_order(cases["score"][:, :, 0].T, candidates).sum()),
                "ordered_similarity": int(in_order(cases["mean_similarity"][:, :, 0].T, candidates).sum()),
                "of": len(cases["score"]),
                "ordered_resamples": float(in_order(_recentred(cases["score"]).swapaxes(0, 1), candidates).mean()),
                "same_function": _or_none(min(point[each].min() for each in SAME_FUNCTION)),
                "reach": _or_none((point["distilled"] - point["untrained"]).mean()),
                "margin": _or_none(steps.min()),
                "expected": [int((point[high] > point[low]).sum()) for high, low in EXPECTED],
                "rank_agreement": _mean([each for each in agreements if each is not None]),
                "chance": {
                    kind: _or_none(np.mean([battery[f"shuffled_{kind}"][:, index].mean() for battery in batteries]))
                    for kind in ("matching", "influence")
                },
            }
        )
    return rows


def rank_agreement(one: Array, other: Array) -> float | None:
    """Return Spearman's rank correlation of two lists of scores; None where one has no order or a score is missing."""
    ranks = [rankdata(values) for values in (one, other)]
    if np.isnan(one).any() or np.isnan(other).any() or any(np.ptp(each) == 0 for each in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _recentred(scores: Array) -> Array:
    """Return resampled scores (..., resample) moved to the score itself, which stands before them."""
    resampled = scores[..., 1:]
    return resampled + (scores[..., :1] - resampled.mean(-1, keepdims=True))


def _over_cases(parts: Mapping[str, Array]) -> dict[str, Any] | None:
    """Return means over cases, from (case, resample) of each part, and the range of the score over cases."""
    if np.isnan(parts["score"]).any():
        return None
    point = parts["score"][:, 0]
    means = _estimates({part: values.mean(0) for part, values in parts.items()})
    return {**means, "range": [float(point.min()), float(point.max())]}


def _estimates(parts: Mapping[str, Array]) -> dict[str, Any] | None:
    """Return the score (resample,), the plain one first, with its interval over prompts, and its two parts."""
    score = parts["score"]
    if np.isnan(score).any():
        return None
    alone = {part: float(parts[part][0]) for part in PARTS[1:]}
    return {"value": float(score[0]), "interval95": list(recentred_interval(float(score[0]), score[1:])), **alone}


def _names(values: Array) -> list[str]:
    return [str(value) for value in values]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _sortable(entry: Mapping[str, Any] | None) -> float:
    return -np.inf if entry is None else entry["value"]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
