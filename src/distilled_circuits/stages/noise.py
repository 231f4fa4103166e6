"""Stage `noise`: alignment with a student whose activations are noised, by level and seed, for several readings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from distilled_circuits.artifacts import HDF5Writer, write_hdf5
from distilled_circuits.circuits.batching import chosen_batch_size
from distilled_circuits.comparison.alignment import PARTS, aligned
from distilled_circuits.comparison.noise import Reading, spreads, unit_noise
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.similarity import Similarities
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors, replacement_of
from distilled_circuits.stages.job import Job
from distilled_circuits.stages.measured_records import measured_record
from distilled_circuits.stages.stored_records import stored_record


def run(job: Job) -> None:
    """Redo the student's influence and similarity under each noise; the teacher stays as it is."""
    device = choose_device(job.param("device"))
    everything = prompt_tensors(job.input("prompts"), device)
    prompts = everything.rows(0, job.param("noise.prompts"))
    lens = HookLens(load_model(job.input("student"), device))
    # What replaces a component is that of the student without noise.
    replaced = replacement_of(job.input("activations"), "student", job.param("influence.ablation"), lens, everything)
    own_spreads = spreads(lens, prompts.ids)
    batch_size = chosen_batch_size(job.param("influence.batch_size"), lens, prompts)
    weights = equal_weights(len(prompts))
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
            columns.append(_scores(teacher, record, weights, directions))
            advance()
        return np.stack(columns, -1)

    main, others = _reading(job.param("noise.reading")), [_reading(each) for each in job.param("noise.readings")]
    for reading in (main, *others):
        reading.places(lens.dimensions.layers)  # a layer that is not there is said before any work
    survey = job.param("noise.survey")
    levels, few = noise_levels(job.param("noise.levels")), noise_levels(survey)
    seeds = job.param("noise.seeds")
    total = len(levels) * len(seeds) + len(others) * len(few) * len(survey.seeds)
    provenance = job.provenance("noise/2", device=device, seeds={"noise": seeds, "survey": survey.seeds})
    with write_hdf5(job.output("noise"), provenance) as file, track(total, f"{job.name} sweeps") as progress:
        values = np.stack([curve(main, levels, seed, progress.advance) for seed in seeds], -1)
        _put(file, "main", [main], levels, values[None])
        found = [
            np.stack([curve(reading, few, seed, progress.advance) for seed in survey.seeds], -1) for reading in others
        ]
        if found:
            _put(file, "survey", others, few, np.array(found))


def noise_levels(levels: Any) -> np.ndarray:
    """Return standard deviations from 0 to `stop`, both included, without the drift of repeated sums."""
    return levels.step * np.arange(int(np.floor(levels.stop / levels.step + 1e-9)) + 1)


def _reading(settings: Any) -> Reading:
    return Reading(settings.site, None if settings.layer == "all" else settings.layer, settings.scale == "relative")


@torch.no_grad()
def _scores(teacher: Summary, student: ModelRecord, weights: np.ndarray, directions: int) -> np.ndarray:
    """Return (preset, part) of the score."""
    found = Similarities(teacher, Summary(student, weights, directions))
    return np.array([[getattr(aligned(found, each).score, part)[0] for part in PARTS] for each in PRESETS.values()])


def _put(file: HDF5Writer, name: str, readings: Sequence[Reading], levels: np.ndarray, values: np.ndarray) -> None:
    """Write curves (reading, preset, part, level, seed)."""
    file.put(f"{name}/readings", [str(reading) for reading in readings], ("reading",))
    file.put(f"{name}/presets", list(PRESETS), ("preset",))
    file.put(f"{name}/level", levels, ("level",))
    for index, part in enumerate(PARTS):
        file.put(f"{name}/{part}", values[:, :, index], ("reading", "preset", "level", "seed"))
