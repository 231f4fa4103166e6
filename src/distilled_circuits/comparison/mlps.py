"""MLPs compared by the directions in which their outputs vary, and token by token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Array = NDArray[np.floating]


def covariance(outputs: Array) -> Array:
    """Return the covariance (d_model, d_model) of outputs (prompt, pos, d_model), centred over both."""
    flat = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
    centred = flat - flat.mean(0)
    return centred.T @ centred / len(flat)


def leading_directions(matrix: Array, number: int) -> tuple[Array, Array]:
    """Return the leading eigenvectors (number, d_model) of a covariance and all shares of variance they explain.

    An eigenvector's sign is arbitrary; it is fixed so that the largest entry is positive, which makes bytes and scatter
    plots repeatable. Similarities take absolute values and do not depend on it.
    """
    size = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[size - number, size - 1])
    directions = vectors[:, ::-1].T
    signs = np.sign(directions[np.arange(number), np.abs(directions).argmax(1)])
    return directions * signs[:, None], values[::-1] / np.trace(matrix)


def direction_similarity(teacher: Array, student: Array) -> Array:
    """Return the mean absolute cosine of paired directions (DC eq. 6), (..., teacher MLP, student MLP).

    Inputs are unit directions (..., mlp, k, d_model); the k-th of one is compared with the k-th of the other.
    """
    return np.abs(np.einsum("...akd,...bkd->...abk", teacher, student, optimize=True)).mean(-1)


def subspace_overlap(teacher: Array, student: Array) -> Array:
    """Return the mean squared cosine of the principal angles between subspaces, (..., teacher MLP, student MLP).

    In [0, 1]. Inputs are orthonormal directions (..., mlp, k, d_model). Neither their signs nor their order matter, nor
    which basis of a subspace they are; two random subspaces of k of d dimensions overlap by k / d.
    """
    cosines = np.einsum("...akd,...bld->...abkl", teacher, student, optimize=True)
    return np.square(cosines).sum((-2, -1)) / teacher.shape[-2]


def signed_mean_similarity(teacher: Array, student: Array) -> Array:
    """Return |mean of all k x k signed cosines| (..., teacher MLP, student MLP), as the released code has it.

    Inputs are unit directions (..., mlp, k, d_model). NOT an invariant: an eigenvector's sign is arbitrary, and turning
    one changes the value (see docs/alignment.md).
    """
    return np.abs(np.einsum("...akd,...bld->...abkl", teacher, student, optimize=True).mean((-2, -1)))


def token_cosine(teacher: Array, student: Array) -> Array:
    """Return cosines (teacher MLP, student MLP, pos) of mean outputs (mlp, pos, d_model), as used for Fig. 7."""
    return np.einsum("apd,bpd->abp", unit(teacher), unit(student))


def scatter_coordinates(outputs: Array, number: int) -> Array:
    """Return outputs (prompt, pos, d_model) of the first `number` prompts in their first two principal directions.

    Shape (prompt, pos, 2), centred as the covariance is; for PCA scatter plots (Fig. 2).
    """
    directions, _ = leading_directions(covariance(outputs), 2)
    mean = outputs.reshape(-1, outputs.shape[-1]).mean(0)
    return (outputs[:number] - mean) @ directions.T.astype(outputs.dtype)


def unit(vectors: Array) -> Array:
    """Return vectors (..., d) of length one; a zero vector stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
