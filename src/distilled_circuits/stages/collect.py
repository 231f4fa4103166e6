"""Everything that a run has stored, read once for the tables and the report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distilled_circuits.artifacts import count_parameters, open_hdf5, read_arrays, read_json, read_plain_json
from distilled_circuits.stages.job import MODELS, Job


@dataclass(frozen=True)
class Influence:
    """One model's sweep: component names, logit differences unablated (prompt,) and ablated (component, prompt)."""

    components: list[str]
    unablated: np.ndarray
    ablated: np.ndarray


@dataclass(frozen=True)
class TaskResults:
    """All artifacts of one pair and task, prompts by model; `battery` and `noise` are None where they were not run."""

    task: str
    title: str
    published_as: str
    left_out: dict[str, int]
    prompts: dict[str, list[dict[str, Any]]]
    influence: dict[str, Influence]
    circuit: dict[str, Any]
    evaluation: dict[str, dict[str, np.ndarray]]
    edges: dict[str, dict[str, np.ndarray]]
    stability: dict[str, Any]
    heads: dict[str, np.ndarray]
    roles_played: dict[str, Any]
    mlps: dict[str, np.ndarray]
    roles: dict[str, dict[str, np.ndarray]]
    shift: dict[str, np.ndarray]
    alignment: dict[str, Any]
    sampling: dict[str, np.ndarray]
    battery: dict[str, np.ndarray] | None
    noise: dict[str, np.ndarray] | None

    @property
    def count(self) -> int:
        """Number of prompts, which both models read."""
        return len(self.prompts["teacher"])


@dataclass(frozen=True)
class PairResults:
    """All artifacts of one pair."""

    pair: str
    models: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    parameters: dict[str, int]
    tasks: list[TaskResults]


@dataclass(frozen=True)
class DistillationResults:
    """All artifacts of one story task, one family and one student, but for the trained models themselves.

    `models` has model.json of the teacher before tuning, the tuned teacher, and the base student.
    """

    teacher: int
    student: str
    task: str
    example: dict[str, str]
    models: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    mapping: dict[str, Any]
    untrained: dict[str, Any]
    verdicts: dict[str, Any]
    sweeps: dict[str, dict[str, Any]]


def collect(job: Job) -> Iterator[PairResults]:
    """Yield the results of each pair that params.yaml runs, from the folder of all pairs."""
    for pair in job.param("pairs"):
        place = job.input("pairs") / pair
        yield PairResults(
            pair=pair,
            models={name: read_json(place / name / "model.json", "model/1") for name in MODELS},
            parameters={name: count_parameters(place / name) for name in MODELS},
            configs={name: read_plain_json(place / name / "config.json") for name in MODELS},
            tasks=[
                _task(place / task, task, task in job.param("noise.tasks"), pair in job.param("battery.pairs"))
                for task in job.param("tasks")
            ],
        )


def collect_distillations(job: Job) -> Iterator[DistillationResults]:
    """Yield the results of each student and story task that params.yaml runs, task by task."""
    folder = job.input("distillation")
    chosen = (job.param(f"distillation.{name}") for name in ("tasks", "teachers", "students"))
    swept = job.param("distillation.sweep").conditions
    for task, teacher, student in itertools.product(*chosen):
        family = folder / str(teacher)
        place = family / student / task
        models = {
            "pretrained": family / f"tuned/{task}/pretrained",
            "teacher": family / f"tuned/{task}/teacher",
            "base": place / "base",
        }
        yield DistillationResults(
            teacher=teacher,
            student=student,
            task=task,
            example=example_of(folder / f"stories/{task}/questions.h5"),
            models={name: read_json(path / "model.json", "model/1") for name, path in models.items()},
            configs={name: read_plain_json(path / "config.json") for name, path in models.items()},
            mapping=read_json(place / "mapping.json", "mapping/3"),
            untrained=read_json(place / "untrained.json", "untrained/1"),
            verdicts=read_json(place / "verdicts.json", "verdicts/2"),
            sweeps={name: read_json(place / f"sweeps/{name}.json", "sweep/2") for name in swept},
        )


def shape_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return architecture and sizes of a model from its config.json, whatever the architecture calls them."""
    known = {
        "layers": ("n_layer", "num_hidden_layers", "n_layers"),
        "heads": ("n_head", "num_attention_heads", "n_heads"),
        "width": ("n_embd", "hidden_size", "dim"),
    }
    sizes = {size: next(config[name] for name in names if name in config) for size, names in known.items()}
    return {"architecture": config["model_type"], **sizes}


def example_of(questions: Path) -> dict[str, str]:
    """Return the first test prompt of a `questions` artifact with its corrupted twin and its answer."""
    (texts,) = read_arrays(questions, "questions/1", ["test/example"])
    return dict(zip(("clean", "corrupted", "answer"), texts, strict=True))


def _task(place: Path, task: str, has_noise: bool, has_battery: bool) -> TaskResults:
    prompts = read_json(place / "prompts.json", "prompts/3")
    influence = _arrays(place / "influence.h5", "influence/2")
    return TaskResults(
        task=task,
        title=prompts["title"],
        published_as=prompts["published_as"],
        left_out=prompts["left_out"],
        prompts=prompts["prompts"],
        influence={
            name: Influence(
                list(influence[f"{name}/components"]), influence[f"{name}/unablated"], influence[f"{name}/ablated"]
            )
            for name in MODELS
        },
        circuit=read_json(place / "circuit.json", "circuit/2"),
        evaluation=_by_model(_arrays(place / "evaluation.h5", "evaluation/1")),
        edges=_by_model(_arrays(place / "edges.h5", "edges/1")),
        stability=read_json(place / "stability.json", "stability/1"),
        heads=_arrays(place / "heads.h5", "heads/1"),
        roles_played=read_json(place / "roles_played.json", "roles_played/1"),
        mlps=_arrays(place / "mlps.h5", "mlps/2"),
        roles=_by_model(_arrays(place / "roles.h5", "roles/1")),
        shift=_arrays(place / "shift.h5", "shift/1"),
        alignment=read_json(place / "alignment.json", "alignment/2"),
        sampling=_arrays(place / "sampling.h5", "sampling/1"),
        battery=_arrays(place / "battery.h5", "battery/1") if has_battery else None,
        noise=_arrays(place / "noise.h5", "noise/2") if has_noise else None,
    )


def _by_model(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return arrays named `teacher/x` as those of each model."""
    return {
        model: {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith(f"{model}/")}
        for model in MODELS
    }


def _arrays(path: Path, schema: str) -> dict[str, np.ndarray]:
    """Return all datasets of a small artifact by their path."""
    found: dict[str, np.ndarray] = {}
    with open_hdf5(path, schema) as file:

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "shape"):
                found[name] = item.asstr()[()] if item.dtype.kind == "O" else item[()]

        file.visititems(visit)
    return found
