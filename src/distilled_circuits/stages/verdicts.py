"""Stage `verdicts`: what all seeds and conditions of one student and task say of the paper's claims."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from distilled_circuits.artifacts import open_hdf5, read_json, write_json
from distilled_circuits.distillation.contrasts import Answers, Contrast, gap_closed, measure_contrasts
from distilled_circuits.distillation.verdicts import Setting, claim_verdicts, judge_task
from distilled_circuits.stages.job import Job
from distilled_circuits.statistics import least_mcnemar_difference, percentile_interval, two_level_bootstrap

KINDS = ("full", "circuit", "choice")
"""Accuracies that get intervals: of the model, of its circuit alone, and among the choices."""
REACHED = 0.2
"""Share of the first step's cross entropy that training is to come down to: how fast conditions learn (CD Fig. 5)."""
MEASURES = ("pairs_cka", "aligned_cka", "companion", "mean_drop")


def run(job: Job) -> None:
    """Read every run, and write accuracies with intervals, contrasts with their tests, and verdicts."""
    runs, written, resamples = (job.param(f"distillation.{name}") for name in ("runs", "seeds", "resamples"))
    gap = job.param("family.gap")
    folder = job.input("runs")
    trained = {
        name: [
            record
            for entry in written
            for record in read_json(folder / f"{name}/{entry}/model.json", "distilled/3")["seeds"]
        ]
        for name in runs
    }
    untrained = read_json(job.input("untrained"), "untrained/1")
    with open_hdf5(job.input("questions"), "questions/1") as file:
        kinds, right_answers = file["test/kind"].asstr()[()], file["test/answer"][()]
    answers = {kind: _answers(kind, trained, untrained) for kind in KINDS}
    contrasts = measure_contrasts(answers["full"], resamples, seed=0)
    alone = measure_contrasts(answers["circuit"], resamples, seed=0)
    curves = {name: _curves(records) for name, records in trained.items() if records[0]["runs"][0]["log"]}
    setting = Setting(
        base=answers["full"].accuracy("base"),
        teacher=answers["full"].accuracy("teacher"),
        teacher_circuit=float(np.mean(untrained["teacher"]["circuit"])),
        base_range=(gap.base[0], gap.base[1]),
        least_teacher=gap.teacher,
    )
    content: dict[str, Any] = {
        "prompts": answers["full"].prompts,
        "circuit_prompts": answers["circuit"].prompts,
        "seeds": [record["seed"] for record in trained[runs[0]]],
        "setting": asdict(setting),
        "majority": float(np.bincount(right_answers).max() / len(right_answers)),
        "verdict": asdict(judge_task(contrasts, setting)),
        "claims": [asdict(claim) for claim in claim_verdicts(job.item["task"], contrasts, setting)],
        "contrasts": {
            name: {**asdict(contrast), "detectable": _detectable(contrast, answers["full"].prompts)}
            for name, contrast in contrasts.items()
        },
        "circuit_contrasts": {name: asdict(contrast) for name, contrast in alone.items()},
        "models": {
            name: {**_accuracies(name, answers, resamples), **_described(name, trained, untrained, kinds, answers)}
            for name in ("base", *runs, "teacher")
        },
        "curves": curves,
        "reached": _reached(curves),
    }
    write_json(job.output("verdicts"), job.provenance("verdicts/2"), content)


def _answers(kind: str, trained: dict[str, list[dict[str, Any]]], untrained: dict[str, Any]) -> Answers:
    """Return which prompts were answered right: (seed, map, prompt) for each condition.

    Circuits of trained students are asked the first of the test prompts: all models' answers to these are compared.
    """
    conditions = {
        name: np.array([[found[kind] for found in record["runs"]] for record in records])
        for name, records in trained.items()
    }
    asked = min(right.shape[-1] for right in conditions.values())
    return Answers(
        conditions,
        base=np.array(untrained["student"][kind])[:asked],
        teacher=np.array(untrained["teacher"][kind])[:asked],
    )


def _accuracies(name: str, answers: dict[str, Answers], resamples: int) -> dict[str, Any]:
    """Return each accuracy with its 95 % interval over seeds and prompts."""
    found = {}
    for kind, given in answers.items():
        right = given.models(name).mean(1)
        samples = two_level_bootstrap(right, resamples, np.random.default_rng(0))
        found[kind] = {
            "value": float(right.mean()),
            "interval95": list(percentile_interval(samples)),
            "by_seed": right.mean(1).tolist(),
        }
    # Of the model itself the answers to the prompts that its circuit is asked.
    whole = answers["full"].models(name)[..., : answers["circuit"].prompts].mean()
    found["faithfulness"] = float(answers["circuit"].accuracy(name) / whole) if whole else None
    return found


def _described(
    name: str,
    trained: dict[str, list[dict[str, Any]]],
    untrained: dict[str, Any],
    kinds: np.ndarray,
    answers: dict[str, Answers],
) -> dict[str, Any]:
    """Return what else is known of a model, means over seeds and maps; None where it does not apply."""
    found: list[dict[str, Any]] = [each for record in trained.get(name, []) for each in record["runs"]]
    if not found:
        found = [untrained["student" if name == "base" else "teacher"]]
    right = answers["full"].models(name).mean((0, 1))
    records = trained.get(name)
    return {
        "by_kind": {kind: float(right[kinds == kind].mean()) for kind in sorted(set(kinds))},
        "variants": {v: float(np.mean([each["variants"][v] for each in found])) for v in found[0]["variants"]},
        "random_circuits": float(np.mean([each["random_circuits"]["value"] for each in found])),
        **{measure: _mean([each.get(measure) for each in found]) for measure in MEASURES},
        "gap_closed": gap_closed(answers["full"], name),
        "trained_parameters": records[0]["trained_parameters"] if records else None,
        "pairs": len(found[0].get("pairs", [])),
        "changed_pairs": _mean([each.get("changed_pairs") for each in found]),
        "skipped_pairs": max((step["skipped"] for each in found for step in each.get("log", [])), default=0),
    }


def _detectable(contrast: Contrast, prompts: int) -> float | None:
    """Return the least difference that McNemar's test would find between two models that disagree as often."""
    tests = [test for seed in contrast.seeds for test in seed.tests]
    discordant = np.mean([test.only_first + test.only_second for test in tests])
    return least_mcnemar_difference(prompts, round(float(discordant)))


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _reached(curves: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return by condition the logged steps (run,) at which cross entropy is first `REACHED` of what it began with.

    None for a run that never gets there, and for the whole without training on prompts.
    """
    if not curves:
        return None
    level = REACHED * float(np.mean([run[0] for curve in curves.values() for run in curve["cross_entropy"]]))
    steps = {
        name: [
            next((step for step, value in zip(curve["step"], run, strict=True) if value <= level), None)
            for run in curve["cross_entropy"]
        ]
        for name, curve in curves.items()
    }
    return {"level": level, "steps": steps}


def _curves(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return cross entropy and debiased CKA (run, entry) at the logged steps."""
    logs = [found["log"] for record in records for found in record["runs"]]
    return {
        "step": [entry["step"] for entry in logs[0]],
        **{key: [[entry[key] for entry in log] for log in logs] for key in ("cross_entropy", "debiased_cka")},
    }
