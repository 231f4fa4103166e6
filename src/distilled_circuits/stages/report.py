"""Stage `report`: draw every figure and write the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from distilled_circuits.artifacts import library_versions, read_json, write_text
from distilled_circuits.circuits.edges import edge_drop
from distilled_circuits.comparison.scores import baseline_problem, retained_percent
from distilled_circuits.comparison.variants import PRESETS, TABLE_5
from distilled_circuits.figures.circuits import circuit_drawing, minimality_bars, size_curves
from distilled_circuits.figures.influence import ablation_histograms, component_grid
from distilled_circuits.figures.training import accuracy_curves
from distilled_circuits.progress import track
from distilled_circuits.report.page import Picture, render
from distilled_circuits.report.sources import DISTILLATION, PAIR, RUN, TASK, Artifact, artifacts_of, sources_of
from distilled_circuits.stages.alignment_pictures import alignment_pictures, pair_pictures
from distilled_circuits.stages.collect import PairResults, TaskResults, collect, collect_distillations
from distilled_circuits.stages.distillation_pictures import distillation_section
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.stages.role_pictures import head_pictures, mlp_pictures, role_pictures, shift_pictures


def run(job: Job) -> None:
    """Write results/report.html."""
    compared = read_json(job.input("comparison"), "comparison/1")
    artifacts = artifacts_of(job.input(name) for name in ("comparison", "pairs", "distillation"))
    with track(len(job.param("pairs")) * len(job.param("tasks")), f"{job.name} tasks drawn") as progress:
        sections = [
            _section(result, compared["pairs"][result.pair], compared["register"][result.pair], progress.advance)
            for result in collect(job)
        ]
        distillations = [
            distillation_section(result, numbers)
            for result, numbers in zip(collect_distillations(job), compared["distillation"], strict=True)
        ]
    _add_sources(sections, distillations, artifacts, job)
    rows = compared["distillation_register"]
    for row in rows:
        row["setting_text"] = _setting_text(row)
    page = render(
        sections=sections,
        distillations=distillations,
        distillation_register=rows,
        claims=compared["claims"],
        sources=sources_of(RUN, job.input("pairs"), artifacts),
        artifacts=artifacts,
        libraries=library_versions(),
    )
    write_text(job.output("report"), page)


def _add_sources(
    sections: list[dict[str, Any]], distillations: list[dict[str, Any]], artifacts: list[Artifact], job: Job
) -> None:
    """Say of each part of the page which artifacts it is made of."""
    for section in sections:
        place = job.input("pairs") / section["numbers"]["pair"]
        section["sources"] = sources_of(PAIR, place, artifacts)
        for task, shown in section["tasks"].items():
            shown["sources"] = sources_of(TASK, place / task, artifacts)
    for section in distillations:
        names = section["numbers"]["of"]
        section["sources"] = sources_of(DISTILLATION, job.input("distillation"), artifacts, **names)


def _setting_text(row: dict[str, Any]) -> str:
    return ", ".join(f"{value}" for value in row["setting"].values() if value is not None)


def _section(
    result: PairResults,
    numbers: dict[str, Any],
    rows: list[dict[str, Any]],
    advance: Callable[[], None],
) -> dict[str, Any]:
    """Return all that the page shows of one pair."""
    plateau = next(row["published"] for row in rows if row["quantity"] == "alignment plateau under noise")
    for row in rows:
        row["setting_text"] = _setting_text(row)
    logs = {name: result.models[name]["training"] for name in MODELS if result.models[name]["training"]}
    battery = numbers["battery"]
    by_variant = {row["variant"]: row for row in battery["rows"]} if battery else {}
    tasks = {}
    for task in result.tasks:
        tasks[task.task] = _task(task, numbers, plateau)
        advance()
    return {
        "numbers": numbers,
        "training": Picture.of(accuracy_curves(logs), "Accuracy by task while training.", "training curves")
        if logs
        else None,
        "tasks": tasks,
        "presets": list(PRESETS),
        "pictures": pair_pictures(numbers),
        "sensitivity": [
            {
                "label": " + ".join(key),
                "variant": name,
                "agreement": by_variant[name]["rank_agreement"] if battery else None,
            }
            for key, name in TABLE_5.items()
        ],
        "battery_presets": [by_variant[name] for name in PRESETS] if battery else [],
        "cases": by_variant["printed"]["of"] if battery else 0,
        "judged": len(next(iter(numbers["tasks"].values()))["battery"]["judged"]) if battery else 0,
        "measured": [row for row in rows if row["measured"]],
        "unmeasured": [row for row in rows if not row["measured"]],
    }


def _task(task: TaskResults, numbers: dict[str, Any], plateau: float) -> dict[str, Any]:
    """Return the figures of one task."""
    compared = numbers["tasks"][task.task]
    return {
        "example": task.prompts["teacher"][0],
        **_ablation_pictures(task, numbers),
        **_circuit_pictures(task, numbers),
        **head_pictures(task),
        **mlp_pictures(task, compared["mlps"], numbers["mlps_similar"]),
        **role_pictures(task, compared, numbers["first_tokens"]),
        **shift_pictures(compared["shift"]),
        **alignment_pictures(task, compared, plateau),
    }


def _ablation_pictures(task: TaskResults, numbers: dict[str, Any]) -> dict[str, Picture]:
    found = task.influence
    drop = {
        name: np.full(len(found[name].components), np.nan)
        if baseline_problem(found[name].unablated)
        else 100 - retained_percent(found[name].unablated, found[name].ablated)
        for name in MODELS
    }
    components = {name: found[name].components for name in MODELS}
    nodes = {name: task.circuit[name]["nodes"] for name in MODELS}
    count = task.count
    means = numbers["ablation"].replace("_", " ")
    origin = "iterative pruning keeps" if numbers["circuit_source"] == "pruned" else "were imported"
    return {
        "histograms": Picture.of(
            ablation_histograms(drop),
            f"Drop of the mean logit difference when one head or MLP is ablated (by: {means}), N = {count} prompts. "
            "Below zero: the model does better without the component.",
            "histograms of ablation drops",
        ),
        "grid": Picture.of(
            component_grid(components, drop, nodes),
            f"Every component: number and colour are its drop when ablated alone (%), N = {count}; framed are the "
            f"nodes that {origin}.",
            "circuits",
        ),
    }


def _circuit_pictures(task: TaskResults, numbers: dict[str, Any]) -> dict[str, Picture]:
    """Return the drawing of both circuits, and of those models that have one what their nodes and sizes are worth."""
    names, drops = {}, {}
    for model in MODELS:
        found = task.edges[model]
        kept = found["kept"].astype(bool)
        drop = edge_drop(found["patched"], found["circuit"], found["full"], "circuit")
        names[model], drops[model] = [name for name, keep in zip(found["edges"], kept, strict=True) if keep], drop[kept]
    nodes = {model: task.circuit[model]["nodes"] for model in MODELS}
    prompts = len(task.edges["teacher"]["full"])
    shown = {
        "drawing": Picture.of(
            circuit_drawing(nodes, names, drops),
            "Both circuits, layers upward; an arrow is an edge that is kept, the wider the more of what the circuit "
            f"keeps is lost when it alone is patched; N = {prompts} prompts. Widths are each model's own; dashed: more "
            "is left. A node without an arrow has no single edge that costs so much.",
            "circuits with their edges",
        )
    }
    compared = numbers["tasks"][task.task]["circuit"]
    having = [model for model in MODELS if not compared[model]["why_none"]]
    if having:
        count = task.count
        shown["minimality"] = Picture.of(
            minimality_bars({model: compared[model]["minimality"] for model in having}),
            "What each node adds to the circuit: points of the full logit difference that go when it alone is ablated "
            f"in the circuit, N = {count} prompts, bars 95 % over prompts.",
            "what each node adds",
        )
        shown["sizes"] = Picture.of(
            size_curves({model: compared[model] for model in having}),
            f"Logit difference that is left when only so many nodes are kept, N = {count} prompts. The bar of the "
            "random circuits (as many heads and MLPs as the circuit) spans all draws.",
            "circuits by size",
        )
    return shown
