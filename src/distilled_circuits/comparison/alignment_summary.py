"""The alignment of one task as numbers for tables: variants with intervals, fewer prompts, noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.alignment import PARTS
from distilled_circuits.comparison.curves import fits, largest_rise, plateau, spread_over_seeds
from distilled_circuits.statistics import recentred_interval

Array = NDArray[np.floating]
CLOSE = 0.02
"""So many prompts are said to be enough when every choice of them scores this near the score on all."""
PAPERS_PLATEAU = (0.15, 0.25)
"""What counts as a plateau near 0.2, if it is flat (DC 4.2.1) ..."""
FLAT = 0.03
"""A plateau moves by less than this for one unit of noise."""
PAPERS_START = 0.85
"""... and what as a start near the 0.94 of Table 3."""


def alignment_summary(alignment: Mapping[str, Any], sampling: Mapping[str, Array]) -> dict[str, Any]:
    """Return every variant with its three intervals, and of the named ones what chance gives and the influence term.

    From the artifacts `alignment` and `sampling`.
    """
    names = list(sampling["variants"])
    variants: dict[str, Any] = {}
    for name, row in alignment["variants"].items():
        if row["why_none"]:
            variants[name] = {"parts": row["parts"], "why_none": row["why_none"]}
            continue
        samples = {part: sampling[part][names.index(name)] for part in PARTS}
        intervals = {part: list(recentred_interval(row[part], values)) for part, values in samples.items()}
        values = {part: {"value": row[part], "interval95": intervals[part]} for part in PARTS}
        variants[name] = {"parts": row["parts"], "why_none": None, **values, "pairs": row["pairs"]}
    presets = {
        name: {
            **{part: variants[name][part] for part in PARTS},
            "pairs": variants[name]["pairs"],
            "chance": found["chance"],
            "influence_term": _influence_term(variants[name]),
        }
        for name, found in alignment["presets"].items()
    }
    return {"presets": presets, "variants": variants, "by_size": _by_size(sampling, presets)}


def _influence_term(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return how far influence moves the score from the mean similarity; under l1 over pairs, 2 / |M| at most."""
    bounded = row["parts"]["influence"] == "abs_l1" and row["parts"]["over"] == "pairs"
    return {
        "moved": row["mean_similarity"]["value"] - row["score"]["value"],
        "bound": 2 / row["pairs"] if bounded else None,
    }


def _by_size(sampling: Mapping[str, Array], presets: Mapping[str, Any]) -> dict[str, Any]:
    sizes = [int(size) for size in sampling["sizes"]]
    curves = {}
    for name, scores in zip(sampling["presets"], sampling["score_by_size"], strict=True):
        low, high = scores.min(1), scores.max(1)
        final = presets[name]["score"]["value"]
        close = np.maximum(np.abs(low - final), np.abs(high - final)) <= CLOSE
        # The first size from which on all are close.
        enough = next((size for index, size in enumerate(sizes) if close[index:].all()), None)
        curves[str(name)] = {
            "mean": scores.mean(1).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "enough": enough,
        }
    return {"sizes": sizes, "subsets": int(sampling["score_by_size"].shape[-1]), "presets": curves}


def noise_summary(noise: Mapping[str, Array]) -> dict[str, Any] | None:
    """Return the curves of the noise experiment by reading and named variant, from the artifact `noise`.

    None where no named variant applies to the two models.
    """
    if not len(noise["main/presets"]):
        return None
    main = _curves(noise, "main")[0]
    survey = _curves(noise, "survey") if "survey/level" in noise else []
    near = [
        {"reading": curve["reading"], "preset": name, **{key: found[key] for key in ("unnoised", "plateau")}}
        for curve in (main, *survey)
        for name, found in curve["presets"].items()
        if found["near_the_papers_plateau"]
    ]
    like_the_paper = [found for found in near if found["unnoised"] >= PAPERS_START]
    return {**main, "survey": survey, "near_the_papers_plateau": near, "like_the_paper": like_the_paper}


def _curves(noise: Mapping[str, Array], part: str) -> list[dict[str, Any]]:
    level = noise[f"{part}/level"]
    return [
        {
            "reading": str(reading),
            "level": level.tolist(),
            "seeds": int(scores.shape[-1]),
            "presets": {
                str(name): _curve(level, values) for name, values in zip(noise[f"{part}/presets"], scores, strict=True)
            },
        }
        for reading, scores in zip(noise[f"{part}/readings"], noise[f"{part}/score"], strict=True)
    ]


def _curve(level: Array, score: Array) -> dict[str, Any]:
    """Return one curve (level, seed): mean and standard deviation, plateau, fits, rises."""
    mean = score.mean(1)
    end = plateau(level, score)
    slope = end["change"] / (level[-1] - end["from"])
    near = PAPERS_PLATEAU[0] <= end["value"] <= PAPERS_PLATEAU[1] and abs(slope) < FLAT
    return {
        "score": mean.tolist(),
        "standard_deviation": spread_over_seeds(score).tolist(),
        "unnoised": float(mean[0]),
        "plateau": end,
        "fits": fits(level, mean),
        "rise": largest_rise(score),
        "near_the_papers_plateau": bool(near),
    }
