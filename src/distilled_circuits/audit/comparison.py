"""Invariants of comparison.json: what it prints is what the artifacts below results/ say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from distilled_circuits.audit.expect import close, same
from distilled_circuits.audit.findings import Wrong
from distilled_circuits.audit.place import Place
from distilled_circuits.comparison.scores import baseline_problem, clipped_drop, retained_percent
from distilled_circuits.stages.job import MODELS


def comparison(at: Place) -> Iterator[Wrong]:
    """Each pair and task, and each student of circuit distillation, against its own artifacts."""
    content = at.json
    yield from same("pairs", list(content["pairs"]), at.params["pairs"])
    for pair, said in content["pairs"].items():
        yield from same(f"pairs.{pair}.tasks", list(said["tasks"]), at.params["tasks"])
        for model in MODELS:
            training = at.store.json(at.inputs["pairs"] / pair / model)["training"]
            last = training[-1]["accuracy"] if training else {}
            yield from same(f"pairs.{pair}.models.{model}.accuracy", said["models"][model]["accuracy"], last)
        for task, numbers in said["tasks"].items():
            yield from of_task(at, f"pairs.{pair}.tasks.{task}", pair, task, numbers)
    for said in content["distillation"]:
        yield from of_student(at, said)


def of_task(at: Place, place: str, pair: str, task: str, said: dict[str, Any]) -> Iterator[Wrong]:
    """Prompts, logit differences, robustness, circuits, edges, roles and alignment of one task."""
    folder = at.inputs["pairs"] / pair / task
    influence, edges = (at.store.arrays(folder / f"{name}.h5") for name in ("influence", "edges"))
    circuit, scored, played = (
        at.store.json(folder / f"{name}.json") for name in ("circuit", "alignment", "roles_played")
    )
    prompts = at.store.json(folder / "prompts.json")["prompts"]["teacher"]
    yield from same(f"{place}.prompts", said["prompts"], len(prompts))
    for model in MODELS:
        unablated, ablated = (influence[f"{model}/{name}"].astype(float) for name in ("unablated", "ablated"))
        yield from close(
            f"{place}.logit_difference.{model}", said["logit_difference"][model]["value"], unablated.mean(), 1e-9
        )
        drop = None if baseline_problem(unablated) else clipped_drop(retained_percent(unablated, ablated)).mean()
        yield from close(
            f"{place}.robustness.{model}", _number(said["robustness"][model]["value"]), _number(drop), 1e-9
        )
        yield from same(f"{place}.circuit.{model}.nodes", said["circuit"][model]["nodes"], circuit[model]["nodes"])
        yield from same(f"{place}.edges.{model}.kept", said["edges"][model]["kept"], int(edges[f"{model}/kept"].sum()))
        yield from same(f"{place}.roles.{model}", said["roles"][model], played[model])
    for name, row in scored["variants"].items():
        found = said["alignment"]["variants"][name]
        yield from same(f"{place}.alignment.{name}.why_none", found["why_none"], row["why_none"])
        if row["why_none"] is None:
            yield from close(f"{place}.alignment.{name}.score", found["score"]["value"], row["score"], 1e-9)
    yield from of_circuits(at, place, folder / "evaluation.h5", said["circuit"])


def of_circuits(at: Place, place: str, evaluated: Any, said: dict[str, Any]) -> Iterator[Wrong]:
    """Require what a circuit keeps, and what goes with each node, in percent of the full model's logit difference."""
    arrays = at.store.arrays(evaluated)
    for model in MODELS:
        if said[model]["why_none"]:
            continue
        full, only, without = (arrays[f"{model}/{name}"] for name in ("full", "only_circuit", "without_node"))
        percent = said[model]["only_circuit"]["percent"]["value"]
        yield from close(f"{place}.circuit.{model}.only_circuit", percent, 100 * only.mean() / full.mean(), 1e-9)
        points = [row["value"] for row in said[model]["minimality"]]
        expected = 100 * (only - without).mean(1) / full.mean()
        yield from close(f"{place}.circuit.{model}.minimality", points, expected, 1e-9)


def of_student(at: Place, said: dict[str, Any]) -> Iterator[Wrong]:
    """Verdicts, accuracies and contrasts of one student and task are those of its verdicts.json."""
    of = said["of"]
    stored = at.store.json(
        at.inputs["distillation"] / str(of["teacher"]) / of["student"] / of["task"] / "verdicts.json"
    )
    place = f"distillation.{of['teacher']}-{of['student']}-{of['task']}"
    for key in ("verdict", "claims", "contrasts", "models", "setting", "majority"):
        yield from same(f"{place}.{key}", said[key], stored[key])


def _number(value: float | None) -> float:
    return np.nan if value is None else value
