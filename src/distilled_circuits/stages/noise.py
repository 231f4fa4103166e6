"""Stage `noise`: alignment with a student whose activations are noised, by level and seed, for several readings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from distilled_circuits.artifacts import HDF5Writer, write_hdf5
from distilled_circuits.circuits.batching import chosen_batch_size
from distilled_circuits.comparison.alignment import PARTS, aligned, applies
from distilled_circuits.comparison.noise import Reading, spreads, unit_noise
from distilled_circuits.comparison.representations import Summary, equal_weights
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS, Variant
from distilled_circuits.models.loading import choose_device
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, replacement_of
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.measured_records import measured_record
from distilled_circuits.stages.stored_records import stored_record


def run(job: Job) -> None:
    """Redo the student's influence and similarity under each noise; the teacher stays as it is."""
    device = choose_device(job.param("device"))
    everything = prompt_tensors(job.input("prompts"), "student", device)
    prompts = everything.rows(0, job.param("noise.prompts"))
    lens = hook_lens(job, "student", everything, device)
    # What replaces a component is that of the student without noise.
    replaced = replacement_of(job.input("activations"), "student", job.param("influence.ablation"), lens, everything)
    own_spreads = spreads(lens, prompts.ids)
    batch_size = chosen_batch_size(job.param("influence.batch_size"), lens, prompts)
    weights = equal_weights(len(prompts))
    presets = _presets(job)
    directions = job.param("mlps.directions")
    teacher = Summary(
        stored_record(job.input("influence"), job.input("activations"), "teacher", len(prompts)), weights, directions
    )

    def curve(reading: Reading, levels: np.ndarray, seed: int, advance: Callable[[], None]) -> np.ndarray:
        """Return (preset, part, level) of one seed."""
        noise = unit_noise(lens, reading, *prompts.ids.shape, seed, own_spreads)
        columns = []
        for level in levels:
            shifts = {site: float(level) * values for site, values in noise.items()}
            record = measured_record(lens, prompts, replaced, batch_size, shifts)
            found = Similarities(teacher, Summary(record, weights, directions))
            scores = [aligned(found, each).score for each in presets.values()]
            columns.append([[getattr(score, part)[0] for part in PARTS] for score in scores])
            advance()
        return np.moveaxis(np.array(columns), 0, -1)

    main, others = _reading(job.param("noise.reading")), [_reading(each) for each in job.param("noise.readings")]
    for reading in (main, *others):
        reading.places(lens.dimensions.layers)  # a layer that is not there is said before any work
    survey = job.param("noise.survey")
    levels, few = noise_levels(job.param("noise.levels")), noise_levels(survey)
    seeds = job.param("noise.seeds")
    provenance = job.provenance("noise/2", device=device, seeds={"noise": seeds, "survey": survey.seeds})
    if not presets:
        with write_hdf5(job.output("noise"), provenance) as file:
            file.put("main/presets", np.array([], dtype=str), ("preset",))
        return
    total = len(levels) * len(seeds) + len(others) * len(few) * len(survey.seeds)
    with write_hdf5(job.output("noise"), provenance) as file, track(total, f"{job.name} sweeps") as progress:
        values = np.stack([curve(main, levels, seed, progress.advance) for seed in seeds], -1)
        _put(file, "main", presets, [main], levels, values[None])
        found = [
            np.stack([curve(reading, few, seed, progress.advance) for seed in survey.seeds], -1) for reading in others
        ]
        if found:
            _put(file, "survey", presets, others, few, np.array(found))


def noise_levels(levels: Any) -> np.ndarray:
    """Return standard deviations from 0 to `stop`, both included, without the drift of repeated sums."""
    return levels.step * np.arange(int(np.floor(levels.stop / levels.step + 1e-9)) + 1)


def _reading(settings: Any) -> Reading:
    return Reading(settings.site, None if settings.layer == "all" else settings.layer, settings.scale == "relative")


def _presets(job: Job) -> dict[str, Variant]:
    """Return the named variants that apply to the two models: none where they read prompts as other tokens."""
    records = [stored_record(job.input("influence"), job.input("activations"), model, 1) for model in MODELS]
    return {name: variant for name, variant in PRESETS.items() if applies(variant, *records)}


def _put(
    file: HDF5Writer,
    name: str,
    presets: Iterable[str],
    readings: Sequence[Reading],
    levels: np.ndarray,
    values: np.ndarray,
) -> None:
    """Write curves (reading, preset, part, level, seed)."""
    file.put(f"{name}/readings", [str(reading) for reading in readings], ("reading",))
    file.put(f"{name}/presets", list(presets), ("preset",))
    file.put(f"{name}/level", levels, ("level",))
    for index, part in enumerate(PARTS):
        file.put(f"{name}/{part}", values[:, :, index], ("reading", "preset", "level", "seed"))
