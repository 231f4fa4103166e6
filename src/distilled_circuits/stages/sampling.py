"""Stage `sampling`: every variant of the alignment score on resampled prompts, and the named ones on fewer prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distilled_circuits.artifacts import write_hdf5
from distilled_circuits.comparison.alignment import PARTS, aligned, applies
from distilled_circuits.comparison.representations import Summary
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, Variant, known_variants
from distilled_circuits.progress import track
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.stored_records import stored_record
from distilled_circuits.statistics import bootstrap_weights, subset_weights

ROWS_AT_ONCE = 50
"""Weightings of the prompts in memory at a time: each needs all covariances."""


def run(job: Job) -> None:
    """Influence and similarity are resampled together, and matching is redone."""
    resamples, subsets, seed = (job.param(f"alignment.{name}") for name in ("resamples", "subsets", "seed"))
    variants = known_variants(job.param("alignment.custom").model_dump())
    paths = job.input("influence"), job.input("activations")
    records = [stored_record(*paths, model) for model in MODELS]
    prompts = len(records[0].unablated)
    rng = np.random.default_rng(seed)
    resampled = bootstrap_weights(prompts, resamples, rng)
    # Half of them where there are fewer prompts than any of the sizes.
    sizes = [size for size in sorted(job.param("alignment.sizes")) if size <= prompts] or [prompts // 2]
    fewer = [subset_weights(prompts, size, subsets, rng) for size in sizes]
    names = [name for name, variant in variants.items() if applies(variant, *records)]
    presets = [name for name in names if name in PRESETS]
    total = resamples + subsets * len(sizes)
    with track(total, f"{job.name} resamples") as progress:

        def scores(weights: np.ndarray, wanted: list[str]) -> np.ndarray:
            summaries = (Summary(record, weights, job.param("mlps.directions")) for record in records)
            values = _scores(Similarities(*summaries), [variants[name] for name in wanted])
            progress.advance(len(weights))
            return values

        parts = np.array_split(resampled, range(ROWS_AT_ONCE, len(resampled), ROWS_AT_ONCE))
        by_resample = np.concatenate([scores(part, names) for part in parts], 2)
        by_size = np.stack([scores(part, presets)[:, 0] for part in fewer], 1)
    with write_hdf5(job.output("sampling"), job.provenance("sampling/1", seeds={"resamples": seed})) as file:
        file.put("variants", names, ("variant",))
        for index, part in enumerate(PARTS):
            file.put(part, by_resample[:, index], ("variant", "resample"))
        file.put("presets", presets, ("preset",))
        file.put("sizes", np.array(sizes), ("size",))
        file.put("score_by_size", by_size, ("preset", "size", "subset"))


def _scores(found: Similarities, variants: Sequence[Variant]) -> np.ndarray:
    """Return score and its two parts (variant, part, row); there may be no variant that applies."""
    results = [aligned(found, variant).score for variant in variants]
    scores = [[getattr(result, part) for part in PARTS] for result in results]
    return np.array(scores).reshape(len(variants), len(PARTS), found.teacher.rows)
