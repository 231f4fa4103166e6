"""Everything that a run has stored, read once for the tables and the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilled_circuits.artifacts import open_hdf5, read_json

MODELS = ("teacher", "student")


@dataclass(frozen=True)
class Influence:
    """One model's sweep: component names, logit differences unablated (prompt,) and ablated (component, prompt)."""

    components: list[str]
    unablated: np.ndarray
    ablated: np.ndarray


@dataclass(frozen=True)
class TaskResults:
    """All artifacts of one pair and task; `noise` is None where the experiment was not run."""

    task: str
    title: str
    prompts: list[dict[str, Any]]
    influence: dict[str, Influence]
    circuit: dict[str, Any]
    mlps: dict[str, np.ndarray]
    alignment: dict[str, Any]
    noise: dict[str, np.ndarray] | None


@dataclass(frozen=True)
class PairResults:
    """All artifacts of one pair."""

    pair: str
    models: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    tasks: list[TaskResults]
    mapping: dict[str, Any]
    distillations: list[dict[str, Any]]


def collect(
    folder: Path, pairs: list[str], tasks: list[str], noise_tasks: list[str], runs: list[str], seeds: list[int]
) -> Iterator[PairResults]:
    """Yield the results of each pair that params.yaml runs, from the folder of all pairs."""
    for pair in pairs:
        place = folder / pair
        names = [*MODELS, "base"]
        yield PairResults(
            pair=pair,
            models={name: read_json(place / name / "model.json", "model/1") for name in names},
            configs={name: _config(place / name) for name in names},
            tasks=[_task(place / task, task, task in noise_tasks) for task in tasks],
            mapping=read_json(place / "distillation/mapping.json", "mapping/1"),
            distillations=[
                read_json(place / f"distillation/{run}-{seed}/model.json", "distilled/1")
                for run in runs
                for seed in seeds
            ],
        )


def _config(folder: Path) -> dict[str, Any]:
    import json

    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _task(place: Path, task: str, has_noise: bool) -> TaskResults:
    prompts = read_json(place / "prompts.json", "prompts/1")
    influence = _arrays(place / "influence.h5", "influence/1")
    return TaskResults(
        task=task,
        title=prompts["title"],
        prompts=prompts["prompts"],
        influence={
            name: Influence(
                list(influence[f"{name}/components"]), influence[f"{name}/unablated"], influence[f"{name}/ablated"]
            )
            for name in MODELS
        },
        circuit=read_json(place / "circuit.json", "circuit/1"),
        mlps=_arrays(place / "mlps.h5", "mlps/1"),
        alignment=read_json(place / "alignment.json", "alignment/1"),
        noise=_arrays(place / "noise.h5", "noise/1") if has_noise else None,
    )


def _arrays(path: Path, schema: str) -> dict[str, np.ndarray]:
    """Return all datasets of a small artifact by their path."""
    found: dict[str, np.ndarray] = {}
    with open_hdf5(path, schema) as file:

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "shape"):
                found[name] = item.asstr()[:] if item.dtype.kind == "O" else item[()]

        file.visititems(visit)
    return found
