"""Which components of teacher and student are set beside each other: four ways to match, on many rows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.floating]
Indices = NDArray[np.integer]

MATCHINGS = {
    "greedy": "each component to its most similar one of the other model, which several may share (DC eq. 7)",
    "hungarian": "one to one, for the largest sum of similarities; what is left over does not count (DC Table 5)",
    "soft": "each component to its k most similar ones, weighted by a softmax of similarity / temperature (DC Table 5)",
    "top": "greedy, among the K most influential heads and the K most influential MLPs of each model (DC 4.3)",
}
"""Ways to match, by name."""


@dataclass(frozen=True)
class Pairs:
    """Matched components (row, pair): indices among the teacher's and student's of one kind, similarity, weight."""

    teacher: Indices
    student: Indices
    similarity: Array
    weight: Array

    def reversed(self) -> Pairs:
        """Return the pairs with the two models' places exchanged."""
        return Pairs(self.student, self.teacher, self.similarity, self.weight)


def greedy(similarity: Array) -> Pairs:
    """Match each teacher component to the most similar student component, from (row, teacher, student)."""
    return _of(similarity, similarity.argmax(-1))


def hungarian(similarity: Array) -> Pairs:
    """Match one to one for the largest sum of similarities; as many pairs as the smaller side has components."""
    found = [linear_sum_assignment(row, maximize=True) for row in similarity]
    teacher, student = (np.array(side) for side in zip(*found, strict=True))
    values = np.take_along_axis(similarity.reshape(len(similarity), -1), teacher * similarity.shape[2] + student, 1)
    return Pairs(teacher, student, values, np.ones_like(values))


def soft(similarity: Array, number: int, temperature: float) -> Pairs:
    """Match each teacher component to its `number` most similar student components (all, if there are fewer).

    Weights are the softmax of similarity / temperature over these and sum to one for each teacher component.
    """
    number = min(number, similarity.shape[-1])
    student = np.argsort(-similarity, axis=-1, kind="stable")[..., :number]
    values = np.take_along_axis(similarity, student, -1)
    weight = np.exp((values - values.max(-1, keepdims=True)) / temperature)
    weight /= weight.sum(-1, keepdims=True)
    teacher = np.broadcast_to(np.arange(similarity.shape[1])[:, None], student.shape)
    return Pairs(*(side.reshape(len(similarity), -1) for side in (teacher, student, values, weight)))


def top(similarity: Array, teacher_size: Array, student_size: Array, number: int) -> Pairs:
    """Match greedily among the `number` components of each side with the largest sizes (row, component)."""
    own, other = (np.argsort(-size, axis=-1, kind="stable")[:, :number] for size in (teacher_size, student_size))
    rows = np.arange(len(similarity))[:, None, None]
    within = greedy(similarity[rows, own[:, :, None], other[:, None, :]])
    student = np.take_along_axis(other, within.student, 1)
    return Pairs(own, student, within.similarity, within.weight)


def _of(similarity: Array, student: Indices) -> Pairs:
    values = np.take_along_axis(similarity, student[..., None], -1)[..., 0]
    teacher = np.broadcast_to(np.arange(similarity.shape[1]), student.shape)
    return Pairs(teacher, student, values, np.ones_like(values))
