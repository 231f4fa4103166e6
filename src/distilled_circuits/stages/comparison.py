"""Stage `comparison`: all numbers of a run in one artifact, as DVC metrics and as tables for plots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from distilled_circuits.artifacts import read_plain_json, write_json, write_text
from distilled_circuits.comparison.alignment_summary import CLOSE, alignment_summary, noise_summary
from distilled_circuits.comparison.battery import CANDIDATES, EXPECTED, SAME_FUNCTION
from distilled_circuits.comparison.battery_summary import battery_overview, battery_summary
from distilled_circuits.comparison.circuit_summary import circuit_summary, edge_summary, stability_summary
from distilled_circuits.comparison.mlp_summary import mlp_summary
from distilled_circuits.comparison.role_summary import output_summary, patching_summary, probe_summary
from distilled_circuits.comparison.scores import baseline_problem, influence_scores, mean_drop, retained_percent
from distilled_circuits.comparison.shift_summary import answer_in_words, shift_summary
from distilled_circuits.comparison.summary import (
    logit_difference_summary,
    robustness_summary,
)
from distilled_circuits.comparison.variants import INFLUENCES
from distilled_circuits.progress import track
from distilled_circuits.report.claims import judge
from distilled_circuits.report.distillation_register import distillation_register
from distilled_circuits.report.register import register
from distilled_circuits.stages.collect import (
    DistillationResults,
    PairResults,
    TaskResults,
    collect,
    collect_distillations,
    shape_of,
)
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.tasks.stories import STORIES


def run(job: Job) -> None:
    """Write comparison.json, metrics.yaml and the CSV files that `dvc plots` draws."""
    settings = job.param("comparison")
    results = list(collect(job))
    published = read_plain_json(job.input("published_numbers"))
    with track(sum(len(result.tasks) for result in results), f"{job.name} tasks") as progress:
        pairs = {result.pair: _pair(result, job, progress.advance) for result in results}
    rows = {name: register(published, pair) for name, pair in pairs.items()}
    distilled = [_distillation(result) for result in collect_distillations(job)]
    provenance = job.provenance("comparison/1", seeds={"bootstrap": settings.seed})
    write_json(
        job.output("comparison"),
        provenance,
        {
            "pairs": pairs,
            "register": rows,
            "distillation": distilled,
            "distillation_register": distillation_register(published, distilled),
            "claims": judge(pairs, distilled),
        },
    )
    write_text(job.output("metrics"), _metrics(pairs, distilled))
    _write_csv(job.output("noise"), _noise_table(pairs))
    _write_csv(job.output("training"), _training_table(results))
    _write_csv(job.output("influence"), _influence_table(results))


def _pair(result: PairResults, job: Job, advance: Callable[[], None]) -> dict[str, Any]:
    tasks = {}
    for task in result.tasks:
        # A generator for each task: its intervals do not depend on which other tasks are run.
        tasks[task.task] = _task(task, result.parameters, job)
        advance()
    return {
        "pair": result.pair,
        "trained_here": not any(model["source"] for model in result.models.values()),
        "ablation": job.param("influence.ablation"),
        "circuit_source": job.param("circuit.source"),
        "circuit_ablation": job.param("circuit.ablation"),
        "circuit_means": job.param("circuit.means"),
        "circuit_threshold": job.param("circuit.threshold"),
        "mlps_similar": job.param("mlps.similar"),
        "first_tokens": job.param("output_scores.first"),
        "role_minimum": job.param("heads.minimum"),
        "role_level": job.param("heads.level"),
        "edge_threshold": job.param("edges.threshold"),
        "edges_relative_to": job.param("edges.relative_to"),
        "models": {name: _model(result, name) for name in MODELS},
        "close": CLOSE,
        "tasks": tasks,
        "battery": _battery(result, job.param("battery.prompts")),
    }


def _battery(result: PairResults, prompts: int) -> dict[str, Any] | None:
    batteries = [task.battery for task in result.tasks if task.battery is not None]
    if not batteries:
        return None
    return {
        "rows": battery_overview(batteries),
        "candidates": CANDIDATES,
        "same_function": SAME_FUNCTION,
        "expected": [f"{high} above {low}" for high, low in EXPECTED],
        "logit_difference": {
            name: float(np.mean([battery["logit_difference"][:, place] for battery in batteries]))
            for place, name in enumerate(CANDIDATES)
        },
        "prompts": prompts,
    }


def _model(result: PairResults, name: str) -> dict[str, Any]:
    record, training = result.models[name], result.models[name]["training"]
    return {
        **shape_of(result.configs[name]),
        "origin": record["origin"],
        "source": record["source"],
        "parameters": result.parameters[name],
        "steps": training[-1]["step"] if training else None,
        "accuracy": training[-1]["accuracy"] if training else {},
    }


def _task(task: TaskResults, parameters: dict[str, int], job: Job) -> dict[str, Any]:
    settings = job.param("comparison")
    rng, resamples = np.random.default_rng(settings.seed), settings.resamples
    threshold = job.param("circuit.threshold")
    unablated = {name: task.influence[name].unablated.astype(float) for name in MODELS}
    ablated = {name: task.influence[name].ablated.astype(float) for name in MODELS}
    shift = shift_summary(task.shift, task.circuit, task.roles_played, resamples, rng)
    return {
        "title": task.title,
        "published_as": task.published_as,
        "prompts": task.count,
        "left_out": task.left_out,
        "logit_difference": logit_difference_summary(unablated["teacher"], unablated["student"], resamples, rng),
        "robustness": robustness_summary(unablated, ablated, parameters, resamples, rng),
        "circuit": {
            name: circuit_summary(task.circuit[name], task.evaluation[name], resamples, rng) for name in MODELS
        },
        "edges": {name: edge_summary(task.edges[name], threshold, resamples, rng) for name in MODELS},
        "stability": {name: stability_summary(task.stability[name]) for name in MODELS},
        "mlps": mlp_summary(task.mlps, job.param("mlps.similar"), resamples, rng),
        "roles": {name: task.roles_played[name] for name in MODELS},
        "role_prompts": task.roles_played["prompts"],
        "role_prompts_scattered": task.roles_played["scattered"],
        "patching": {name: patching_summary(task.roles[name], resamples, rng) for name in MODELS},
        "output_scores": {name: output_summary(task.roles[name], resamples, rng) for name in MODELS},
        "probes": {name: probe_summary(task.roles[name]) for name in MODELS},
        "shift": {**shift, "answer": answer_in_words(shift["variants"])},
        "alignment": alignment_summary(task.alignment, task.sampling),
        "battery": None if task.battery is None else battery_summary(task.battery),
        "noise": _noise(task, job.param("noise.prompts")),
    }


def _noise(task: TaskResults, prompts: int) -> dict[str, Any] | None:
    found = noise_summary(task.noise) if task.noise else None
    return {**found, "prompts": min(prompts, task.count)} if found else None


def _distillation(result: DistillationResults) -> dict[str, Any]:
    """Return what one student and task say, without the curves over steps."""
    said = {key: value for key, value in result.verdicts.items() if key not in ("provenance", "curves")}
    names = {"teacher": result.teacher, "student": result.student, "task": result.task}
    return {"of": names, "title": STORIES[result.task].title, **said, "models_trained": _family(result)}


def _family(result: DistillationResults) -> dict[str, Any]:
    return {
        name: {
            **shape_of(result.configs[name]),
            "steps": record["training"][-1]["step"],
            "accuracy": record["training"][-1]["accuracy"],
        }
        for name, record in result.models.items()
    }


def _metrics(pairs: dict[str, Any], distilled: list[dict[str, Any]]) -> str:
    """Return the headline numbers for `dvc metrics show` and `dvc metrics diff`."""
    metrics: dict[str, Any] = {}
    for name, pair in pairs.items():
        tasks = {
            task: {
                "alignment": {name: found["score"]["value"] for name, found in values["alignment"]["presets"].items()},
                "logit_difference": {m: values["logit_difference"][m]["value"] for m in MODELS},
                "mean_drop_percent": {m: values["robustness"][m]["value"] for m in MODELS},
                "circuit_nodes": {m: values["circuit"][m]["heads"] + values["circuit"][m]["mlps"] for m in MODELS},
                "circuit_edges": {m: values["edges"][m]["kept"] for m in MODELS},
            }
            for task, values in pair["tasks"].items()
        }
        models = {model: pair["models"][model]["accuracy"] for model in MODELS}
        metrics[name] = {"accuracy": models, "tasks": tasks}
    metrics["distillation"] = {
        "-".join(str(part) for part in found["of"].values()): {
            "verdict": found["verdict"]["verdict"],
            "accuracy": {name: row["full"]["value"] for name, row in found["models"].items()},
        }
        for found in distilled
    }
    rounded = json.loads(json.dumps(metrics), parse_float=lambda text: round(float(text), 6))
    return "# Headline numbers; comparison.json has the rest, with intervals and provenance.\n" + yaml.safe_dump(
        rounded, sort_keys=False
    )


def _noise_table(pairs: dict[str, Any]) -> pd.DataFrame:
    rows = [
        {
            "pair": name,
            "task": task,
            "variant": preset,
            "level": level,
            "alignment": score,
            "standard_deviation": spread,
        }
        for name, pair in pairs.items()
        for task, values in pair["tasks"].items()
        if values["noise"]
        for preset, curve in values["noise"]["presets"].items()
        for level, score, spread in zip(
            values["noise"]["level"], curve["score"], curve["standard_deviation"], strict=True
        )
    ]
    columns = ["pair", "task", "variant", "level", "alignment", "standard_deviation"]
    return pd.DataFrame(rows, columns=columns)


def _training_table(results: list[PairResults]) -> pd.DataFrame:
    rows = [
        {"pair": result.pair, "model": name, "step": entry["step"], "loss": entry["loss"], **entry["accuracy"]}
        for result in results
        for name in MODELS
        for entry in result.models[name]["training"]
    ]
    return pd.DataFrame(rows, columns=None if rows else ["pair", "model", "step", "loss"])


def _influence_table(results: list[PairResults]) -> pd.DataFrame:
    """Return each component's retained percent and all its influence scores, from stored logit differences."""
    tables = []
    for result in results:
        for task in result.tasks:
            for name in MODELS:
                found = task.influence[name]
                values = (found.unablated.astype(float), found.ablated.astype(float))
                columns = {"pair": result.pair, "task": task.task, "model": name, "component": found.components}
                retained = np.nan if baseline_problem(values[0]) else retained_percent(*values)
                scores = {kind: influence_scores(mean_drop(*values), kind) for kind in INFLUENCES}
                tables.append(pd.DataFrame({**columns, "retained_percent": retained, **scores}))
    return pd.concat(tables)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format="%.8g"))
