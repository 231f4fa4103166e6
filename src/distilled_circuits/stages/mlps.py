"""Stage `mlps`: compare the MLPs of teacher and student by principal directions and token by token."""

from __future__ import annotations

import numpy as np

from distilled_circuits.artifacts import open_hdf5, write_hdf5
from distilled_circuits.comparison.mlps import (
    covariance,
    direction_similarity,
    leading_directions,
    scatter_coordinates,
    token_cosine,
)
from distilled_circuits.stages.job import MODELS, Job

SCATTERED_PROMPTS = 32
"""Prompts whose tokens are drawn in PCA scatter plots: more would only hide each other."""


def run(job: Job) -> None:
    """Write directions, similarities (teacher MLP, student MLP) and scatter coordinates."""
    number = job.param("mlps.directions")
    directions, means = {}, {}
    with write_hdf5(job.output("mlps"), job.provenance("mlps/1")) as out:
        with open_hdf5(job.input("activations"), "activations/1") as stored:
            for name in MODELS:
                outputs = [stored[f"{name}/mlp_out"][:, layer] for layer in range(stored[f"{name}/mlp_out"].shape[1])]
                found = [leading_directions(covariance(values), number) for values in outputs]
                directions[name] = np.array([vectors for vectors, _ in found])
                means[name] = np.array([values.mean(0) for values in outputs])
                scatter = np.array([scatter_coordinates(values, SCATTERED_PROMPTS) for values in outputs])
                out.put(f"{name}/directions", directions[name], ("mlp", "direction", "d_model"))
                out.put(f"{name}/explained", np.array([shares for _, shares in found]), ("mlp", "direction"))
                out.put(f"{name}/scatter", scatter, ("mlp", "prompt", "pos", "axis"))
        similarity = direction_similarity(directions["teacher"], directions["student"])
        out.put("similarity", similarity, ("teacher_mlp", "student_mlp"))
        cosine = token_cosine(means["teacher"], means["student"])
        out.put("token_cosine", cosine, ("teacher_mlp", "student_mlp", "pos"))
