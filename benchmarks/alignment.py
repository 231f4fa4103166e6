"""Time the alignment score from arrays: on the stored artifacts of the default pair, and at the shape of GPT-2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from distilled_circuits.comparison.alignment import aligned
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, VARIANTS, Variant
from distilled_circuits.stages.job import MODELS
from distilled_circuits.stages.stored_records import stored_record

DIRECTIONS = 3
GPT2, DISTILGPT2 = (12, 12, 768), (6, 12, 768)
"""Layers, heads and width."""


def alignment_times(root: Path, seconds: Callable[[Callable[[], object]], tuple[float, object]]) -> list[str]:
    """Return lines with the seconds that single scores and all variants take, from arrays alone."""
    lines = []
    place = root / "results/pairs/mini/numerals"
    if (place / "activations.h5").exists():
        paths = place / "influence.h5", place / "activations.h5"
        taken, records = seconds(lambda: [stored_record(*paths, name) for name in MODELS])
        lines += [f"{'mini, 384 prompts: read':56s} {taken:6.2f} s", *_scores("mini, 384 prompts", records, seconds)]
    records = [_random_record(*shape, prompts=100, seed=seed) for seed, shape in enumerate((GPT2, DISTILGPT2))]
    return [*lines, *_scores("GPT-2 with DistilGPT2's shape, 100 prompts", records, seconds)]


def _scores(
    label: str, records: list[ModelRecord], seconds: Callable[[Callable[[], object]], tuple[float, object]]
) -> list[str]:
    def score(variants: list[Variant]) -> None:
        weights = equal_weights(len(records[0].unablated))
        found = Similarities(*(Summary(record, weights, DIRECTIONS) for record in records))
        for variant in variants:
            aligned(found, variant)

    wanted = {**{name: [variant] for name, variant in PRESETS.items()}, f"all {len(VARIANTS)}": list(VARIANTS.values())}
    times = {name: seconds(partial(score, chosen))[0] for name, chosen in wanted.items()}
    return [f"{f'{label}: {name}':56s} {taken:6.2f} s" for name, taken in times.items()]


def _random_record(layers: int, heads: int, width: int, prompts: int, seed: int) -> ModelRecord:
    rng, tokens, size = np.random.default_rng(seed), 23, width // heads

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    return ModelRecord(
        unablated=draw(prompts) + 4,
        ablated=draw(layers * (heads + 1), prompts) + 4,
        z=draw(prompts, layers, tokens, heads, size),
        output_weights=draw(layers, heads, size, width),
        mlp_out=draw(prompts, layers, tokens, width),
        pattern=np.abs(draw(prompts, layers, heads, tokens, tokens)),
        stream=draw(prompts, layers, width),
    )
