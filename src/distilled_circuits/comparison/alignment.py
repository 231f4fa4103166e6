"""The alignment score as printed (DC equations 5 to 8), with a bootstrap over prompts; arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.mlps import direction_similarity, leading_directions
from distilled_circuits.comparison.scores import scale_to_largest
from distilled_circuits.statistics import bootstrap_weights, percentile_interval

Array = NDArray[np.floating]


@dataclass(frozen=True)
class ModelRecord:
    """What alignment reads of one model on one task.

    `unablated` (prompt,), `ablated` (component, prompt) logit differences, components ordered by layer, heads then MLP;
    `z` (prompt, layer, pos, head, d_head); `output_weights` (layer, head, d_head, d_model); `mlp_out` (prompt, layer,
    pos, d_model).
    """

    unablated: Array
    ablated: Array
    z: Array
    output_weights: Array
    mlp_out: Array

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.z.shape[1]

    @property
    def heads(self) -> int:
        """Number of heads a layer."""
        return self.z.shape[3]

    @property
    def is_head(self) -> NDArray[np.bool_]:
        """Which components are heads (component,)."""
        return np.arange(self.layers * (self.heads + 1)) % (self.heads + 1) < self.heads


@dataclass(frozen=True)
class Alignment:
    """A score with what it is made of; arrays have one entry a teacher component."""

    score: float
    mean_similarity: float
    mean_agreement: float
    partner: NDArray[np.integer]
    similarity: Array
    teacher_influence: Array
    student_influence: Array


@dataclass(frozen=True)
class Intervals:
    """95 % intervals over prompts of the score and its two parts."""

    score: tuple[float, float]
    mean_similarity: tuple[float, float]
    mean_agreement: tuple[float, float]


def alignment_score(
    teacher_influence: Array, student_influence: Array, similarity: Array, allowed: NDArray[np.bool_]
) -> Alignment:
    """Match each teacher component to the most similar student component of its kind, and score (DC eq. 7, 8).

    `similarity` and `allowed` (which pairs are of one kind) are (teacher component, student component). Several teacher
    components may share a partner. The score is the mean over teacher components of S (1 - |I_T - I_S|).
    """
    partner = np.where(allowed, similarity, -np.inf).argmax(1)
    matched = similarity[np.arange(len(partner)), partner]
    agreement = 1 - np.abs(teacher_influence - student_influence[partner])
    return Alignment(
        score=float((matched * agreement).mean()),
        mean_similarity=float(matched.mean()),
        mean_agreement=float(agreement.mean()),
        partner=partner,
        similarity=matched,
        teacher_influence=teacher_influence,
        student_influence=student_influence[partner],
    )


def head_similarity(teacher: Array, student: Array) -> Array:
    """Return cosines (teacher head, student head) of mean outputs (head, pos, d_model), each taken as one vector."""
    units = [
        flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        for flat in (teacher.reshape(len(teacher), -1), student.reshape(len(student), -1))
    ]
    return units[0] @ units[1].T


def head_outputs(mean_z: Array, output_weights: Array) -> Array:
    """Return mean head outputs in the residual basis (layer x head, pos, d_model).

    From mean z (layer, pos, head, d_head) and W_O (layer, head, d_head, d_model).

    The coordinates of z itself are arbitrary in each head, so those of two models cannot be compared.
    """
    outputs = np.einsum("lphd,lhdm->lhpm", mean_z, output_weights, optimize=True)
    return outputs.reshape(-1, *outputs.shape[2:])


def align(teacher: ModelRecord, student: ModelRecord, directions: int) -> Alignment:
    """Return the alignment of two models on the prompts of their records."""
    weights = np.full((1, len(teacher.unablated)), 1 / len(teacher.unablated), dtype=np.float32)
    return next(iter(_weighted_alignments(teacher, student, directions, weights)))


def bootstrap(
    teacher: ModelRecord,
    student: ModelRecord,
    directions: int,
    resamples: int,
    rng: np.random.Generator,
    advance: Callable[[], None] = lambda: None,
) -> Intervals:
    """Return intervals over prompts: influence and similarity are resampled together, and matching is redone."""
    weights = bootstrap_weights(len(teacher.unablated), resamples, rng)
    samples = []
    for result in _weighted_alignments(teacher, student, directions, weights):
        samples.append((result.score, result.mean_similarity, result.mean_agreement))
        advance()
    return Intervals(*(percentile_interval(column) for column in np.array(samples).T))


def _weighted_alignments(
    teacher: ModelRecord, student: ModelRecord, directions: int, weights: Array
) -> Iterator[Alignment]:
    """Yield the alignment for each row of prompt weights (resample, prompt)."""
    summaries = [_Summary(record, weights) for record in (teacher, student)]
    for row in range(len(weights)):
        heads, mlps, influence = zip(*(summary.of(row, directions) for summary in summaries), strict=True)
        similarity = np.zeros((len(influence[0]), len(influence[1])))
        is_head = [teacher.is_head, student.is_head]
        similarity[np.ix_(*is_head)] = head_similarity(*heads)
        similarity[np.ix_(~is_head[0], ~is_head[1])] = direction_similarity(*mlps)
        allowed = is_head[0][:, None] == is_head[1][None, :]
        yield alignment_score(*influence, similarity, allowed)


class _Summary:
    """Weighted means of one record for many rows of weights at once: the products over prompts are done once."""

    def __init__(self, record: ModelRecord, weights: Array) -> None:
        self._record = record
        prompts = len(record.unablated)
        self._z = (weights @ record.z.reshape(prompts, -1)).reshape(-1, *record.z.shape[1:])
        self._unablated = weights @ record.unablated
        self._ablated = weights @ record.ablated.T
        # Centred once over everything, so that no large common mean cancels in the second moments.
        outputs = record.mlp_out - record.mlp_out.mean((0, 2), keepdims=True)
        self._mean = weights @ outputs.mean(2).reshape(prompts, -1)
        self._moment = []
        for layer in range(outputs.shape[1]):
            # One outer product a prompt, summed over its positions: resampling prompts is then a weighted sum.
            each = outputs[:, layer].transpose(0, 2, 1) @ outputs[:, layer] / outputs.shape[2]
            self._moment.append(weights @ each.reshape(prompts, -1))

    def of(self, row: int, directions: int) -> tuple[Array, Array, Array]:
        """Return head outputs, MLP directions and influence scores under one row of weights."""
        width = self._record.mlp_out.shape[-1]
        means = self._mean[row].reshape(-1, width)
        mlps = []
        for layer, mean in enumerate(means):
            matrix = self._moment[layer][row].reshape(width, width) - np.outer(mean, mean)
            mlps.append(leading_directions(matrix.astype(np.float64), directions)[0])
        drop = np.maximum(self._unablated[row] - self._ablated[row], 0)
        return head_outputs(self._z[row], self._record.output_weights), np.array(mlps), scale_to_largest(drop)
