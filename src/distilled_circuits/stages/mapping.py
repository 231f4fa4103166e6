"""Stage `mapping`: the circuit heads of teacher and base student by ablation impact, and which is paired with which."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from distilled_circuits.artifacts import write_json
from distilled_circuits.circuits.ablation import mean_activations
from distilled_circuits.distillation.impact import measure_impacts
from distilled_circuits.distillation.mapping import ModelImpacts, circuit_heads, map_by_impact
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device, load_model
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import prompt_tensors
from distilled_circuits.stages.job import Job


def run(job: Job) -> None:
    """Measure every head's impact in both models, select the circuits before any training, and pair them both ways."""
    share = job.param("distillation.circuit_share")
    device = choose_device(job.param("device"))
    prompts = prompt_tensors(job.input("prompts"), device)
    impacts = {}
    lenses = {name: HookLens(load_model(job.input(name), device)) for name in ("teacher", "base")}
    heads = sum(lens.dimensions.layers * lens.dimensions.heads for lens in lenses.values())
    with track(heads, f"{job.name} heads") as progress:
        for name, lens in lenses.items():
            means = mean_activations(lens, prompts.corrupted, len(prompts))
            impacts[name] = measure_impacts(lens, prompts, means, progress.advance)
    circuits = {name: circuit_heads(found, share) for name, found in impacts.items()}
    student = impacts["base"]
    mappings = {
        name: map_by_impact(student, circuits["base"], circuits["teacher"], baseline.accuracy)
        for name, baseline in (("impact", student), ("impact_own", impacts["teacher"]))
    }
    content: dict[str, Any] = {
        name: _describe(found, [impact.head for impact in circuits[name]]) for name, found in impacts.items()
    }
    content["mappings"] = {
        name: {
            "tied": mapping.tied,
            "pairs": [{"student": str(own), "teacher": str(other)} for own, other in mapping.pairs],
        }
        for name, mapping in mappings.items()
    }
    write_json(job.output("mapping"), job.provenance("mapping/1", device=device), content)


def _describe(impacts: ModelImpacts, circuit: list[Any]) -> dict[str, Any]:
    return {
        "accuracy": impacts.accuracy,
        "log_probability": impacts.log_probability,
        "circuit": [str(head) for head in circuit],
        "heads": [{**asdict(impact), "head": str(impact.head)} for impact in impacts.heads],
    }
