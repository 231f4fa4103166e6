"""Stage `shift`: both models, their circuits and the heads of each role on prompts unlike those of training."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from distilled_circuits.artifacts import HDF5Writer, read_json, write_hdf5
from distilled_circuits.circuits.ablation import PromptTensors, replacement
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.loading import choose_device
from distilled_circuits.models.reading import load_reader
from distilled_circuits.progress import track
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, record_tensors
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.tasks.encoding import encode_prompts
from distilled_circuits.tasks.lexicon import load_lexicon
from distilled_circuits.tasks.shifts import shifts_of

USUAL = "usual"
"""The prompts of the task itself, beside which every shift stands."""


@dataclass(frozen=True)
class Variant:
    """One kind of prompts: in words, an example, and the prompts, or why these models cannot be asked them."""

    title: str
    example: str
    prompts: dict[str, PromptTensors] | None
    why_none: str = ""


def run(job: Job) -> None:
    """Write logit differences of every kind of prompts: of the model, of its circuit, and without each role's head."""
    settings = job.param("shift")
    device = choose_device(job.param("device"))
    variants = _variants(job, device)
    played = read_json(job.input("roles_played"), "roles_played/1")
    circuits = read_json(job.input("circuit"), "circuit/2")
    possible = {name: variant for name, variant in variants.items() if variant.prompts}
    provenance = job.provenance("shift/1", device=device, seeds={"prompts": settings.seed})
    with (
        write_hdf5(job.output("shift"), provenance) as out,
        track(len(MODELS) * len(possible), f"{job.name} variants") as progress,
    ):
        out.put("variant", np.array(list(variants), dtype=str), ("variant",))
        for key in ("title", "example", "why_none"):
            out.put(key, np.array([getattr(variant, key) for variant in variants.values()], dtype=str), ("variant",))
        for model in MODELS:
            lens = hook_lens(job, model, variants[USUAL].prompts[model], device)
            heads = sorted({entry["best"] for entry in played[model].values() if entry["plays"]})
            out.put(f"{model}/heads", np.array(heads, dtype=str), ("head",))
            nodes = [Component.parse(node) for node in circuits[model]["nodes"]]
            for name, variant in possible.items():
                _measure(out, f"{name}/{model}", lens, variant.prompts[model], nodes, heads, job)
                progress.advance()


def _variants(job: Job, device: torch.device) -> dict[str, Variant]:
    settings = job.param("shift")
    usual = {model: prompt_tensors(job.input("prompts"), model, device, settings.prompts) for model in MODELS}
    prompts = read_json(job.input("prompts"), "prompts/3")
    variants = {USUAL: Variant("as in training", prompts["prompts"]["teacher"][0]["clean"], usual)}
    if not prompts["generated"]:
        return variants
    readers = {model: load_reader(job.input(model), f"the {model}") for model in MODELS}
    for name, shift in shifts_of(job.item["task"], load_lexicon(job.input("lexicon"))).items():
        # A generator for each: a shift more does not change the others.
        made = shift.prompts(settings.prompts, random.Random(settings.seed))
        try:
            encoded = {model: record_tensors(encode_prompts(made, reader), device) for model, reader in readers.items()}
        except UserError as error:
            # A finding about these tokenizers: another pair may know such words as single tokens.
            variants[name] = Variant(shift.title, made[0].clean, None, str(error))
            continue
        variants[name] = Variant(shift.title, made[0].clean, encoded)
    return variants


@torch.no_grad()
def _measure(
    out: HDF5Writer,
    place: str,
    lens: HookLens,
    prompts: PromptTensors,
    nodes: list[Component],
    heads: list[str],
    job: Job,
) -> None:
    """Write what is left of the logit difference; what replaces a component is of the variant's own prompts."""
    batch_size = job.param("circuit.batch_size")
    replaced = replacement(lens, job.param("circuit.ablation"), prompts, batch_size)
    nested_over = prompts.corrupted if job.param("circuit.means") == "nested" else None
    sets = NodeSets(lens, prompts, replaced, batch_size, nested_over=nested_over)
    correct = torch.cat([lens.run(batch.ids).argmax(-1) == batch.answers for batch in prompts.batches(64)])
    out.put(f"{place}/correct", correct.cpu().numpy(), ("prompt",))
    out.put(f"{place}/full", sets.differences(()), ("prompt",))
    out.put(f"{place}/only_circuit", sets.only(nodes), ("prompt",))
    without = [sets.only([node for node in nodes if str(node) != head]) for head in heads]
    out.put(f"{place}/in_circuit", np.array(without).reshape(len(heads), len(prompts)), ("head", "prompt"))
