"""MLPs of teacher and student as pairs: CKA, the divergence of the first token, merged and dropped MLPs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from distilled_circuits.comparison.mlps import unit
from distilled_circuits.distillation.cka import biased_cka

Array = NDArray[np.floating]


def output_cka(teacher: Array, student: Array) -> float:
    """Return linear CKA of two MLPs' outputs (prompt, pos, width) over prompts and positions; widths may differ."""
    rows = [torch.from_numpy(side.reshape(-1, side.shape[-1])).double() for side in (teacher, student)]
    return float(biased_cka(*rows))


def first_token_gap(teacher: Array, student: Array, weights: Array) -> Array:
    """Return how much lower the cosine of mean outputs is at the first token than on average at the others.

    Outputs are (prompt, pos, d_model); `weights` (resample, prompt) says how prompts are averaged, one gap each.
    """
    means = [
        (weights @ side.reshape(len(side), -1)).reshape(len(weights), *side.shape[1:]) for side in (teacher, student)
    ]
    cosine = (unit(means[0]) * unit(means[1])).sum(-1)
    return cosine[:, 1:].mean(1) - cosine[:, 0]


def merged(similarity: Array, similar: float) -> dict[int, list[int]]:
    """Return for each student MLP that is the partner of several teacher MLPs who they are (DC 3.2.2).

    A teacher MLP's partner is the student MLP of the highest `similarity` (teacher MLP, student MLP), if above
    `similar`.
    """
    partner, close = similarity.argmax(1), similarity.max(1) > similar
    groups = {student: np.flatnonzero(close & (partner == student)).tolist() for student in range(similarity.shape[1])}
    return {student: teachers for student, teachers in groups.items() if len(teachers) > 1}


def dropped(similarity: Array, similar: float) -> list[int]:
    """Return the teacher MLPs that no student MLP is like: without a similarity above `similar`."""
    return np.flatnonzero(similarity.max(1) <= similar).tolist()
