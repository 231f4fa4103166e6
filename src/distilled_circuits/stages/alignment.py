"""Stage `alignment`: every variant of the alignment score from stored artifacts; no model is loaded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from distilled_circuits.artifacts import write_json
from distilled_circuits.comparison.alignment import Alignment, aligned
from distilled_circuits.comparison.nulls import other_signs, shuffled_influence, shuffled_matching
from distilled_circuits.comparison.representations import Summary, equal_weights
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, Variant, known_variants
from distilled_circuits.errors import UserError
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.stored_records import component_names, stored_record
from distilled_circuits.statistics import percentile_interval


def run(job: Job) -> None:
    """Score all variants, and hold the named ones against chance."""
    seed, draws = job.param("alignment.seed"), job.param("alignment.draws")
    paths = job.input("influence"), job.input("activations")
    records = {model: stored_record(*paths, model) for model in MODELS}
    names = {model: component_names(paths[0], model) for model in MODELS}
    weights = equal_weights(len(records["teacher"].unablated))
    found = Similarities(*(Summary(records[model], weights, job.param("mlps.directions")) for model in MODELS))
    rng = np.random.default_rng(seed)
    rows: dict[str, Any] = {}
    presets: dict[str, Any] = {}
    for name, variant in known_variants(job.param("alignment.custom").model_dump()).items():
        try:
            result = aligned(found, variant)
        except UserError as error:
            rows[name] = {"parts": asdict(variant), "why_none": str(error)}
            continue
        rows[name] = {"parts": asdict(variant), "why_none": None, **_values(result)}
        if name in PRESETS:
            presets[name] = {
                "matches": _matches(result, names),
                "chance": _chance(found, result, variant, draws, rng),
            }
    content = {"variants": rows, "presets": presets}
    write_json(job.output("alignment"), job.provenance("alignment/2", seeds={"draws": seed}), content)


def _values(result: Alignment) -> dict[str, float]:
    score = {name: float(values[0]) for name, values in vars(result.score).items()}
    return {**score, "pairs": float(result.pairs[0])}


def _chance(
    found: Similarities, result: Alignment, variant: Variant, draws: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Return mean and 95th percentile of both nulls, and the central 95 % over signs where these matter."""
    nulls = {
        "matching": shuffled_matching(found, result, variant, draws, rng),
        "influence": shuffled_influence(found, result, draws, rng),
    }
    chance: dict[str, Any] = {
        name: {"mean": float(values.mean()), "percentile95": float(np.percentile(values, 95))}
        for name, values in nulls.items()
    }
    if variant.mlps == "signed_mean":
        signs = other_signs(found, variant, draws, rng)
        chance["signs"] = list(percentile_interval(signs))
    return chance


def _matches(result: Alignment, names: dict[str, list[str]]) -> list[dict[str, Any]]:
    columns = zip(
        result.teacher[0],
        result.student[0],
        result.similarity[0],
        result.teacher_influence[0],
        result.student_influence[0],
        result.weight[0],
        strict=True,
    )
    return [
        {
            "teacher": names["teacher"][teacher],
            "student": names["student"][student],
            "similarity": float(similarity),
            "teacher_influence": float(own),
            "student_influence": float(other),
            "weight": float(weight),
        }
        for teacher, student, similarity, own, other, weight in columns
    ]
