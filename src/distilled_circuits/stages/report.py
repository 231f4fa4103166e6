"""Stage `report`: draw every figure and write the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from distilled_circuits.artifacts import library_versions, read_json, write_text
from distilled_circuits.comparison.scores import retained_percent
from distilled_circuits.figures.alignment import matched_pairs, noise_curve
from distilled_circuits.figures.influence import ablation_histograms, component_grid
from distilled_circuits.figures.mlps import mlp_heat_map, mlp_scatter
from distilled_circuits.figures.training import accuracy_bars, accuracy_curves, loss_curves
from distilled_circuits.report.page import Picture, render
from distilled_circuits.stages.collect import MODELS, PairResults, TaskResults, collect
from distilled_circuits.stages.job import Job


def run(job: Job) -> None:
    """Write results/report.html."""
    results = collect(
        job.input("pairs"),
        job.param("pairs"),
        job.param("tasks"),
        job.param("noise.tasks"),
        job.param("distillation.runs"),
        job.param("distillation.seeds"),
    )
    compared = read_json(job.input("comparison"), "comparison/1")
    similar = job.param("mlps.similar")
    sections = [
        _section(result, compared["pairs"][result.pair], compared["register"][result.pair], similar)
        for result in results
    ]
    write_text(job.output("report"), render(sections=sections, libraries=library_versions()))


def _section(
    result: PairResults, numbers: dict[str, Any], rows: list[dict[str, Any]], similar: float
) -> dict[str, Any]:
    distilled = numbers["distillation"]
    plateau = next(row["published"] for row in rows if row["quantity"] == "alignment plateau under noise")
    for row in rows:
        row["setting_text"] = ", ".join(f"{value}" for value in row["setting"].values() if value is not None)
    return {
        "numbers": numbers,
        "training": Picture(
            accuracy_curves(
                {name: result.models[name]["training"] for name in MODELS}, numbers["models"]["base"]["steps"]
            ),
            "Accuracy by task while training the teacher from scratch and distilling the student; the dotted line is the "
            "state that is kept as the base of circuit distillation.",
            "training curves",
        ),
        "tasks": {task.task: _task(task, numbers["tasks"][task.task], similar, plateau) for task in result.tasks},
        "bars": Picture(
            accuracy_bars(distilled["conditions"], distilled["base"], distilled["teacher"]),
            f"Accuracy on {len(result.distillations[0]['after']['full'])} unseen prompts; whiskers span the seeds.",
            "accuracy by condition",
        ),
        "losses": Picture(
            loss_curves(result.distillations),
            "Training of each condition: mean over seeds, bands from the smallest to the largest. cka_aligned does not train on "
            "the cross entropy, the ce conditions have no pairs and so no CKA.",
            "losses by condition",
        ),
        "measured": [row for row in rows if row["measured"]],
        "unmeasured": [row for row in rows if not row["measured"]],
    }


def _task(task: TaskResults, numbers: dict[str, Any], similar: float, plateau: float) -> dict[str, Any]:
    count = len(task.prompts)
    drop = {
        name: 100 - retained_percent(task.influence[name].unablated, task.influence[name].ablated) for name in MODELS
    }
    similarity = task.mlps["similarity"]
    best = np.unravel_index(similarity.argmax(), similarity.shape)
    shown: dict[str, Any] = {
        "example": task.prompts[0],
        "histograms": Picture(
            ablation_histograms(drop),
            f"Drop of the mean logit difference when one head or MLP is replaced by its mean over corrupted prompts, "
            f"N = {count} prompts. Below zero: the model does better without the component.",
            "histograms of ablation drops",
        ),
        "grid": Picture(
            component_grid(
                {name: task.influence[name].components for name in MODELS},
                drop,
                {name: task.circuit[name]["nodes"] for name in MODELS},
            ),
            f"Every component: the number and colour are its drop when ablated alone (%), N = {count}; framed are the nodes that "
            "iterative pruning keeps.",
            "circuits",
        ),
        "heat_map": Picture(
            mlp_heat_map(similarity, similar),
            f"Mean |cosine| of the leading directions of MLP outputs over all prompts and tokens; above {similar} framed.",
            "similarity of MLPs",
        ),
        "scatter": Picture(
            mlp_scatter(
                task.mlps["teacher/scatter"][best[0]],
                task.mlps["student/scatter"][best[1]],
                (f"T-MLP{best[0]}", f"S-MLP{best[1]}"),
            ),
            f"The most similar pair: outputs at every token of {task.mlps['teacher/scatter'].shape[1]} prompts in each model's own "
            "first two principal directions (signs are arbitrary).",
            "principal directions of an MLP pair",
        ),
        "matches": Picture(
            matched_pairs(task.alignment["matches"]),
            f"The {len(task.alignment['matches'])} matched pairs behind the score; a pair on the dashed line has equal influence. "
            "Named: the six with the largest influence.",
            "matched pairs",
        ),
    }
    if task.noise:
        seeds = task.noise["score"].shape[1]
        shown["noise"] = Picture(
            noise_curve(*(task.noise[key] for key in ("level", "score", "mean_similarity", "mean_agreement")), plateau),
            f"Mean over {seeds} seeds, bars one standard deviation; the student's influence and similarity are redone at each "
            "level.",
            "alignment under noise",
        )
    return shown
