"""Stage `mlps`: compare the MLPs of teacher and student, and say what each adds to the answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from distilled_circuits.artifacts import HDF5Writer, open_hdf5, write_hdf5
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.comparison.mlp_pairs import dropped, first_token_gap, merged, output_cka
from distilled_circuits.comparison.mlps import (
    covariance,
    direction_similarity,
    leading_directions,
    scatter_coordinates,
    subspace_overlap,
    token_cosine,
)
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.models.loading import choose_device
from distilled_circuits.progress import track
from distilled_circuits.roles.readout import logit_lens, residual_attribution, why_no_attribution
from distilled_circuits.stages.inputs import hook_lens, prompt_tensors, replacement_of
from distilled_circuits.stages.job import MODELS, Job
from distilled_circuits.statistics import bootstrap_weights

SCATTERED_PROMPTS = 32
"""Prompts whose tokens are drawn in PCA scatter plots: more would only hide each other."""
PAIRS = ("teacher_mlp", "student_mlp")


def run(job: Job) -> None:
    """Write similarities (teacher MLP, student MLP), what MLPs add, the logit lens, and joint ablations of groups."""
    device = choose_device(job.param("device"))
    asked = {name: prompt_tensors(job.input("prompts"), name, device) for name in MODELS}
    total = 2 * sum(len(prompts) for prompts in asked.values())
    settings = job.param("mlps")
    provenance = job.provenance("mlps/2", device=device, seeds={"resampled prompts": settings.seed})
    with write_hdf5(job.output("mlps"), provenance) as out, track(total, f"{job.name} prompts") as progress:
        similarity = _compare(out, _outputs(job), {name: part.read_at for name, part in asked.items()}, settings)
        for name in MODELS:
            prompts = asked[name]
            lens = hook_lens(job, name, prompts, device)
            if why_no_attribution(Blocks(lens)) is None:
                found = residual_attribution(lens, prompts, settings.batch_size, progress.advance)
                out.put(f"{name}/attribution/mlp", found.mlp.mean(0), ("layer", "pos"))
                for part, dimensions in (("embedding", ()), ("attention", ("layer",)), ("mlp", ("layer",))):
                    out.put(
                        f"{name}/attribution_at_last/{part}", getattr(found, part)[..., -1], ("prompt", *dimensions)
                    )
                out.put(f"{name}/attribution_at_last/constant", found.constant, ("prompt",))
            read = logit_lens(lens, prompts, settings.batch_size, progress.advance)
            for token in read.ranks:
                out.put(f"{name}/logit_lens/{token}_rank", read.ranks[token], ("prompt", "stage"))
                out.put(f"{name}/logit_lens/{token}_probability", read.probabilities[token], ("prompt", "stage"))
            # CKA says that MLPs tell the same tokens apart, not that they are alike: it makes no partners.
            if name == "teacher" and similarity is not None:
                replaced = replacement_of(
                    job.input("activations"), name, job.param("influence.ablation"), lens, prompts
                )
                sets = NodeSets(lens, prompts, replaced, settings.batch_size)
                _ablate_groups(out, sets, similarity, settings.similar)


def _outputs(job: Job) -> dict[str, np.ndarray]:
    """Return the outputs (mlp, prompt, pos, width) of both models' MLPs."""
    with open_hdf5(job.input("activations"), "activations/1") as stored:
        return {name: stored[f"{name}/mlp_out"][()].swapaxes(0, 1) for name in MODELS}


def _compare(
    out: HDF5Writer, outputs: dict[str, np.ndarray], read_at: dict[str, int], settings: Any
) -> np.ndarray | None:
    """Write how alike MLPs are by every measure that widths and tokens allow; return the printed one where it exists.

    Where the models read prompts as tokens of another number, CKA is of what they do where the answer is read.
    """
    directions = {}
    for name, values in outputs.items():
        found = [leading_directions(covariance(part), settings.directions) for part in values]
        directions[name] = np.array([vectors for vectors, _ in found])
        out.put(f"{name}/directions", directions[name], ("mlp", "direction", "d_model"))
        out.put(f"{name}/explained", np.array([shares for _, shares in found]), ("mlp", "direction"))
        scatter = np.array([scatter_coordinates(part, SCATTERED_PROMPTS) for part in values])
        out.put(f"{name}/scatter", scatter, ("mlp", "prompt", "pos", "axis"))
    teacher, student = (outputs[name] for name in MODELS)
    same_tokens = teacher.shape[2] == student.shape[2]
    rows = [values if same_tokens else values[:, :, [read_at[name]]] for name, values in outputs.items()]
    cka = np.array([[output_cka(one, other) for other in rows[1]] for one in rows[0]])
    out.put("same_tokens", same_tokens, ())
    out.put("cka", cka, PAIRS)
    if teacher.shape[-1] != student.shape[-1]:
        # Directions of spaces of different width have no cosine: CKA takes their place, and the artifact says so.
        out.put("similarity", cka, PAIRS)
        out.put("measure", np.array(["cka"]), ("one",))
        return None
    similarity = direction_similarity(directions["teacher"], directions["student"])
    out.put("similarity", similarity, PAIRS)
    out.put("measure", np.array(["directions"]), ("one",))
    out.put("overlap", subspace_overlap(directions["teacher"], directions["student"]), PAIRS)
    if not same_tokens:
        return similarity
    out.put("token_cosine", token_cosine(teacher.mean(1), student.mean(1)), (*PAIRS, "pos"))
    rng = np.random.default_rng(settings.seed)
    weights = bootstrap_weights(teacher.shape[1], settings.resamples, rng)
    partner = similarity.argmax(1)
    gaps = [first_token_gap(one, student[other], weights) for one, other in zip(teacher, partner, strict=True)]
    out.put("first_token_gap", np.array(gaps), ("teacher_mlp", "resample"))
    return similarity


def _ablate_groups(out: HDF5Writer, sets: NodeSets, similarity: np.ndarray, similar: float) -> None:
    """Write the teacher's logit differences without each MLP, and without those that belong together."""
    groups = {f"partners of S-MLP{student}": members for student, members in merged(similarity, similar).items()}
    groups["without a partner"] = dropped(similarity, similar)
    groups = {name: members for name, members in groups.items() if members}
    alone = [sets.differences([Component(mlp)]) for mlp in range(len(similarity))]
    together = [sets.differences([Component(mlp) for mlp in members]) for members in groups.values()]
    out.put("groups/full", sets.differences(()), ("prompt",))
    out.put("groups/alone", np.array(alone), ("mlp", "prompt"))
    out.put("groups/name", np.array(list(groups), dtype=str), ("group",))
    members = [" ".join(str(Component(mlp)) for mlp in group) for group in groups.values()]
    out.put("groups/members", np.array(members, dtype=str), ("group",))
    out.put("groups/together", np.array(together).reshape(len(groups), len(alone[0])), ("group", "prompt"))
