"""How alike heads and MLPs of two models are: every published representation, and some that need no common basis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distilled_circuits.comparison.mlps import direction_similarity, signed_mean_similarity, subspace_overlap, unit
from distilled_circuits.comparison.representations import ModelRecord, Summary
from distilled_circuits.comparison.weighted_cka import weighted_cka
from distilled_circuits.errors import UserError

Array = NDArray[np.floating]
Measure = Callable[[Summary, Summary], Array]


@dataclass(frozen=True)
class Kind:
    """A representation with its measure: (row, teacher component, student component) from two summaries.

    `meaning` is one line for tables. `same_width` and `same_tokens` say what both models must share.
    """

    meaning: str
    measure: Measure
    same_width: bool = False
    same_tokens: bool = False


def _outputs(teacher: Summary, student: Summary) -> Array:
    pairs = zip(teacher.head_outputs(), student.head_outputs(), strict=True)
    return np.array([_cosines(own.reshape(len(own), -1), other.reshape(len(other), -1)) for own, other in pairs])


def _pattern_rows(teacher: Summary, student: Summary) -> Array:
    own, other = (unit(side.patterns).transpose(0, 2, 1, 3) for side in (teacher, student))
    return (own @ other.swapaxes(-1, -2)).mean(1)


def _pattern_flat(teacher: Summary, student: Summary) -> Array:
    own, other = (side.patterns.reshape(*side.patterns.shape[:2], -1) for side in (teacher, student))
    return _cosines(own, other)


def _directions(teacher: Summary, student: Summary) -> Array:
    return direction_similarity(teacher.directions, student.directions)


def _subspace(teacher: Summary, student: Summary) -> Array:
    return subspace_overlap(teacher.directions, student.directions)


def _signed_mean(teacher: Summary, student: Summary) -> Array:
    return signed_mean_similarity(teacher.uncentred_directions, student.uncentred_directions)


def _stream(teacher: Summary, student: Summary) -> Array:
    return direction_similarity(teacher.stream_directions, student.stream_directions)


def _cka_of_heads(centring: str, *, answer_only: bool = False) -> Measure:
    return lambda teacher, student: weighted_cka(
        *(_places(side.record, _head_coordinates(side.record), answer_only) for side in (teacher, student)),
        teacher.weights, centring,
    )  # fmt: skip


def _cka_of_mlps(centring: str, *, answer_only: bool = False) -> Measure:
    return lambda teacher, student: weighted_cka(
        *(_places(side.record, side.record.mlp_out[:, :, :, None], answer_only) for side in (teacher, student)),
        teacher.weights, centring,
    )  # fmt: skip


def _places(record: ModelRecord, values: Array, answer_only: bool) -> Array:
    """Return values (prompt, layer, pos, ...) at all positions, or at the one that the answer is read at."""
    return values[:, :, [record.read_at]] if answer_only else values


BASIS = {"same_width": True}
TOKENS = {"same_tokens": True}
HEADS = {
    "output": Kind("cosine of the mean outputs z W_O, as one vector (DC eq. 6)", _outputs, **BASIS, **TOKENS),
    "pattern_rows": Kind("mean over queries of the cosines of mean attention (released)", _pattern_rows, **TOKENS),
    "pattern_flat": Kind("cosine of mean attention maps (released, BERT and Llama)", _pattern_flat, **TOKENS),
    "cka": Kind("linear CKA of outputs z W_O over prompts and tokens", _cka_of_heads("all"), **TOKENS),
    "cka_by_position": Kind("the same, centred at each position", _cka_of_heads("by_position"), **TOKENS),
    "cka_last": Kind(
        "linear CKA of outputs z W_O where the answer is read, over prompts",
        _cka_of_heads("by_position", answer_only=True),
    ),
}
"""Measures of two heads, by name."""
MLPS = {
    "directions": Kind("mean |cosine| of the k leading directions, centred (DC eq. 6)", _directions, **BASIS),
    "subspace": Kind("mean squared cosine of the principal angles of the same directions", _subspace, **BASIS),
    "signed_mean": Kind("|mean of the signed k x k cosines|, uncentred (released)", _signed_mean, **BASIS),
    "stream": Kind("directions of the stream behind the block, token averages (released, Llama)", _stream, **BASIS),
    "cka": Kind("linear CKA of outputs over prompts and tokens", _cka_of_mlps("all"), **TOKENS),
    "cka_by_position": Kind("the same, centred at each position", _cka_of_mlps("by_position"), **TOKENS),
    "cka_last": Kind(
        "linear CKA of outputs where the answer is read, over prompts", _cka_of_mlps("by_position", answer_only=True)
    ),
}
"""Measures of two MLPs, by name."""


class Similarities:
    """All similarities of two models on the same rows of prompt weights; each kind is computed once."""

    def __init__(self, teacher: Summary, student: Summary) -> None:
        if teacher.weights is not student.weights and not np.array_equal(teacher.weights, student.weights):
            raise ValueError("teacher and student are weighted differently")
        self.teacher, self.student = teacher, student
        self._found: dict[tuple[str, str], Array] = {}

    def heads(self, kind: str) -> Array:
        """Return similarities (row, teacher head, student head); raise UserError where the models do not allow it."""
        return self._get("heads", HEADS, kind)

    def mlps(self, kind: str) -> Array:
        """Return similarities (row, teacher MLP, student MLP); raise UserError where the models do not allow it."""
        return self._get("mlps", MLPS, kind)

    def _get(self, part: str, kinds: dict[str, Kind], kind: str) -> Array:
        if (part, kind) not in self._found:
            found = problem(part, kind, self.teacher.record, self.student.record)
            if found:
                raise UserError(found)
            self._found[part, kind] = kinds[kind].measure(self.teacher, self.student).astype(np.float64)
        return self._found[part, kind]


def problem(part: str, kind: str, teacher: ModelRecord, student: ModelRecord) -> str | None:
    """Say why two models cannot be compared by a kind of `heads` or `mlps`, and by which they can; None if they can."""
    kinds = {"heads": HEADS, "mlps": MLPS}[part]
    obstacles = {name: _obstacle(name, known, teacher, student) for name, known in kinds.items()}
    if obstacles[kind] is None:
        return None
    allowed = ", ".join(name for name, obstacle in obstacles.items() if obstacle is None)
    return f"{part}: {kind} {obstacles[kind]}; these models can be compared by {allowed}"


def _obstacle(name: str, kind: Kind, teacher: ModelRecord, student: ModelRecord) -> str | None:
    if kind.same_width and teacher.width != student.width:
        return f"needs residual streams of one width, not {teacher.width} and {student.width}"
    if kind.same_tokens and teacher.tokens != student.tokens:
        return f"needs prompts of the same tokens in both models, not {teacher.tokens} and {student.tokens}"
    if name == "stream" and (teacher.stream is None or student.stream is None):
        return "needs the residual stream, which activations.sites in params.yaml leaves out"
    return None


def _head_coordinates(record: ModelRecord) -> Array:
    """Return outputs z W_O in d_head coordinates of one Gram matrix with them (prompt, layer, pos, head, d_head).

    CKA sees only products of outputs, z (W_O W_O') z', so the root of W_O W_O' in place of W_O gives the same at a
    fraction of the cost.
    """
    gram = np.einsum("lhdm,lhem->lhde", record.output_weights, record.output_weights).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
    return np.einsum("nlphd,lhde->nlphe", record.z, root.astype(np.float32), optimize=True)


def _cosines(own: Array, other: Array) -> Array:
    """Return cosines (..., a, b) of vectors (..., a, d) and (..., b, d)."""
    return unit(own) @ unit(other).swapaxes(-1, -2)
