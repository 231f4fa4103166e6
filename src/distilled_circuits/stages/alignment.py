"""Stage `alignment`: the alignment score of teacher and student, with intervals over prompts; no model is loaded."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from distilled_circuits.artifacts import read_arrays, write_json
from distilled_circuits.comparison.alignment import ModelRecord, align, bootstrap
from distilled_circuits.progress import track
from distilled_circuits.stages.job import MODELS, Job


def run(job: Job) -> None:
    """Score from the stored influence and activations."""
    settings = job.param("alignment")
    directions = job.param("mlps.directions")
    records = {}
    names = {}
    for model in MODELS:
        components, unablated, ablated = read_arrays(
            job.input("influence"), "influence/2", [f"{model}/{key}" for key in ("components", "unablated", "ablated")]
        )
        z, weights, mlp_out = read_arrays(
            job.input("activations"), "activations/1", [f"{model}/{key}" for key in ("z", "output_weights", "mlp_out")]
        )
        records[model] = ModelRecord(unablated, ablated, z, weights, mlp_out)
        names[model] = list(components)
    result = align(records["teacher"], records["student"], directions)
    with track(settings.resamples, f"{job.name} resamples") as progress:
        rng = np.random.default_rng(settings.seed)
        intervals = bootstrap(
            records["teacher"], records["student"], directions, settings.resamples, rng, progress.advance
        )
    matches = [
        {
            "teacher": names["teacher"][index],
            "student": names["student"][partner],
            "similarity": float(result.similarity[index]),
            "teacher_influence": float(result.teacher_influence[index]),
            "student_influence": float(result.student_influence[index]),
        }
        for index, partner in enumerate(result.partner)
    ]
    content = {
        "score": result.score,
        "mean_similarity": result.mean_similarity,
        "mean_agreement": result.mean_agreement,
        "intervals95": asdict(intervals),
        "matches": matches,
    }
    write_json(job.output("alignment"), job.provenance("alignment/1", seeds={"bootstrap": settings.seed}), content)
