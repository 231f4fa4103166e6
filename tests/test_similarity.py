"""Representations of heads and MLPs: against slow definitions, and under changes that should not matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from scipy.linalg import svd

from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.comparison.alignment import align, aligned
from distilled_circuits.comparison.moments import weighted_moments
from distilled_circuits.comparison.representations import ModelRecord, Summary, equal_weights
from distilled_circuits.comparison.similarity import HEADS, MLPS, Similarities, problem
from distilled_circuits.comparison.variants import PRESETS, PRINTED, RELEASED, VARIANTS
from distilled_circuits.distillation.cka import biased_cka
from distilled_circuits.errors import UserError
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.models.disguises import permute_heads, rotate_stream
from distilled_circuits.stages.measured_records import measured_record
from distilled_circuits.statistics import bootstrap_weights, subset_weights

PROMPTS, CORRUPTED = random_prompts(9), random_prompts(9, seed=2).ids
DIRECTIONS = 3
NOT_ONE_FOR_ITSELF = {name for name, each in VARIANTS.items() if each.matching == "soft"} | {
    "MLPs signed_mean",
    "released, no rescaling",
    "released, indirect objects",
}
"""Variants in which a model is not perfectly aligned with itself: soft matching adds lesser partners, and the mean of
all signed cosines of k directions with themselves is 1/k."""


def record(model) -> ModelRecord:
    """Return what alignment reads of a model, measured on random prompts."""
    lens = HookLens(model)
    return measured_record(lens, PROMPTS, constant(mean_activations(lens, CORRUPTED, 64)), 64)


@pytest.fixture(scope="module")
def teacher() -> ModelRecord:
    """A random model's record."""
    return record(random_model("gpt2"))


@pytest.fixture(scope="module")
def student() -> ModelRecord:
    """Another random model's record."""
    return record(random_model("gpt2", seed=5))


@pytest.fixture(scope="module")
def llama() -> ModelRecord:
    """A record of another width, with other heads."""
    return record(random_model("llama"))


def between(one: ModelRecord, other: ModelRecord, weights: np.ndarray | None = None) -> Similarities:
    """Return the similarities of two records."""
    rows = equal_weights(len(one.unablated)) if weights is None else weights
    return Similarities(*(Summary(each, rows, DIRECTIONS) for each in (one, other)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of two arrays taken as vectors."""
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def outputs_of_heads(one: ModelRecord) -> list[np.ndarray]:
    """Return z W_O (prompt, pos, d_model) of each head."""
    return [one.z[:, n, :, h] @ one.output_weights[n, h] for n in range(one.layers) for h in range(one.heads)]


def slow_directions(flat: np.ndarray, *, centred: bool) -> np.ndarray:
    """Return right singular vectors, with signs by the largest entry."""
    vectors = svd(flat - flat.mean(0) * centred)[2][:DIRECTIONS]
    return vectors * np.sign(vectors[np.arange(DIRECTIONS), np.abs(vectors).argmax(1)])[:, None]


def slow_cka(a: np.ndarray, b: np.ndarray, kind: str) -> float:
    """Return linear CKA of (prompt, pos, channel) arrays by the loss's own function."""
    if kind == "cka_last":
        a, b = a[:, -1:], b[:, -1:]
    if kind == "cka_by_position":
        a, b = a - a.mean(0), b - b.mean(0)
    rows = (torch.from_numpy(x.reshape(-1, x.shape[-1])).double() for x in (a, b))
    return float(biased_cka(*rows))


def slow_heads(kind: str, one: ModelRecord, other: ModelRecord) -> np.ndarray:
    """Return similarities of heads by their definition, pair by pair."""
    if kind.startswith("cka"):
        return np.array([[slow_cka(a, b, kind) for b in outputs_of_heads(other)] for a in outputs_of_heads(one)])
    if kind == "output":
        means = [[each.mean(0) for each in outputs_of_heads(side)] for side in (one, other)]
    else:
        means = [list(side.pattern.mean(0).reshape(-1, *side.pattern.shape[3:])) for side in (one, other)]
    if kind == "pattern_rows":
        return np.array([[np.mean([cosine(*q) for q in zip(a, b, strict=True)]) for b in means[1]] for a in means[0]])
    return np.array([[cosine(a, b) for b in means[1]] for a in means[0]])


def slow_mlps(kind: str, one: ModelRecord, other: ModelRecord) -> np.ndarray:
    """Return similarities of MLPs by their definition, pair by pair."""
    if kind.startswith("cka"):
        sides = [side.mlp_out.swapaxes(0, 1) for side in (one, other)]
        return np.array([[slow_cka(a, b, kind) for b in sides[1]] for a in sides[0]])
    flats = [
        list(side.stream.swapaxes(0, 1))
        if kind == "stream"
        else [side.mlp_out[:, n].reshape(-1, side.width) for n in range(side.layers)]
        for side in (one, other)
    ]
    found = [[slow_directions(flat.astype(float), centred=kind != "signed_mean") for flat in side] for side in flats]

    def similarity(u: np.ndarray, v: np.ndarray) -> float:
        cosines = u @ v.T
        if kind == "signed_mean":
            return abs(cosines.mean())
        return (cosines**2).sum() / DIRECTIONS if kind == "subspace" else np.abs(cosines.diagonal()).mean()

    return np.array([[similarity(u, v) for v in found[1]] for u in found[0]])


@pytest.mark.parametrize("kind", HEADS)
def test_heads_are_compared_by_the_definition(kind, teacher, student):
    """Every representation of heads equals a slow loop over pairs."""
    assert between(teacher, student).heads(kind)[0] == pytest.approx(slow_heads(kind, teacher, student), abs=2e-4)


@pytest.mark.parametrize("kind", MLPS)
def test_mlps_are_compared_by_the_definition(kind, teacher, student):
    """Every representation of MLPs equals a slow loop over pairs."""
    assert between(teacher, student).mlps(kind)[0] == pytest.approx(slow_mlps(kind, teacher, student), abs=2e-4)


def by_hand(z: list, pattern: list, mlp_out: list) -> ModelRecord:
    """Return a record of one layer with one head and one MLP on prompts of two tokens, with numbers to work out."""
    shape = (len(z), 1, 2)
    return ModelRecord(
        unablated=np.ones(len(z)),
        ablated=np.zeros((2, len(z))),
        z=np.array(z, float).reshape(*shape, 1, 1),
        output_weights=np.array([[[[3.0, 4.0]]]]),
        mlp_out=np.array(mlp_out, float).reshape(*shape, 2),
        pattern=np.array(pattern, float).reshape(len(z), 1, 1, 2, 2),
    )


def test_representations_by_hand():
    """Two prompts of two tokens, one head that writes z (3, 4), one MLP of two channels, two directions.

    Mean z of the teacher (1, 2), of the student (2, 1): cosine of (1, 2) and (2, 1) is 4/5. Mean attention: first
    queries alike, second ones (1, 1)/2 against (3, 1)/4: cosine 2 / sqrt(5). MLP outputs of the teacher vary along the
    first channel (spread 2), then the second (1); the student's the other way round, so paired directions are
    orthogonal, the subspace is the same, and uncentred signed cosines (0, 1; 1, 0) average to 1/2.
    """
    one, half = [1, 0], [0.5, 0.5]
    wide, narrow = [[2, 0], [-2, 0]], [[0, 1], [0, -1]]
    teacher = by_hand([[0, 1], [2, 3]], [[one, half]] * 2, [wide, narrow])
    turned = [[[b, a] for a, b in tokens] for tokens in (wide, narrow)]
    student = by_hand([[1, 1], [3, 1]], [[one, [1, 0]], [one, half]], turned)
    weights = equal_weights(2)
    found = Similarities(*(Summary(each, weights, 2) for each in (teacher, student)))
    assert found.heads("output").item() == pytest.approx(4 / 5)
    assert found.heads("pattern_rows").item() == pytest.approx((1 + 2 / 5**0.5) / 2)
    assert found.heads("pattern_flat").item() == pytest.approx((1 + 0.375 + 0.125) / np.sqrt(1.5 * (1 + 0.625)))
    assert found.mlps("directions").item() == pytest.approx(0)
    assert found.mlps("subspace").item() == pytest.approx(1)
    assert found.mlps("signed_mean").item() == pytest.approx(1 / 2)
    # CKA: tokens 2, -2 of the first channel and 1, -1 of the second are the same rows in another basis.
    assert found.mlps("cka").item() == pytest.approx(1)
    # z: 0, 1, 2, 3 less 3/2, against 1, 1, 3, 1 less 3/2: covariance 1 of variances 5 and 3, squared over both.
    assert found.heads("cka").item() == pytest.approx(1 / 15)
    # By position: 0, 2 against 1, 3 move alike; 1, 3 against 1, 1 do not move: one half of the teacher's variance.
    assert found.heads("cka_by_position").item() == pytest.approx(1 / 2)
    # At the last token the student does not move at all.
    assert found.heads("cka_last").item() == 0


@pytest.mark.parametrize("part", ["heads", "mlps"])
def test_resampling_equals_starting_over_on_the_drawn_prompts(part, teacher, student):
    """Weighted sums give every similarity, influence and score that drawing prompts and starting over gives."""
    weights = bootstrap_weights(9, 3, np.random.default_rng(3))
    kinds = {"heads": HEADS, "mlps": MLPS}[part]
    together = between(teacher, student, weights)
    for row, counts in enumerate((weights * 9).round().astype(int)):
        drawn = np.repeat(np.arange(9), counts)
        parts = [
            ModelRecord(
                each.unablated[drawn],
                each.ablated[:, drawn],
                each.z[drawn],
                each.output_weights,
                each.mlp_out[drawn],
                each.pattern[drawn],
                each.stream[drawn],
            )
            for each in (teacher, student)
        ]
        alone = between(*parts)
        assert together.teacher.drop[row] == pytest.approx(alone.teacher.drop[0], abs=1e-5)
        for kind in kinds:
            assert getattr(together, part)(kind)[row] == pytest.approx(getattr(alone, part)(kind)[0], abs=2e-3), kind
        for name, variant in PRESETS.items():
            score = aligned(together, variant).score.score[row]
            assert score == pytest.approx(aligned(alone, variant).score.score[0], abs=2e-3), name


def test_both_ways_to_a_moment_agree():
    """Few rows of weights take one product each, many share the products of the prompts."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 4, 3)), rng.normal(size=(7, 4, 5))
    weights = bootstrap_weights(7, 6, rng)
    many = weighted_moments(x, y, weights)
    few = np.concatenate([weighted_moments(x, y, weights[[row]]) for row in range(6)])
    slow = np.einsum("rp,ptc,ptd->rcd", weights, x, y) / 4
    assert many == pytest.approx(slow, abs=1e-5)
    assert few == pytest.approx(slow, abs=1e-5)


def test_fewer_prompts_are_different_ones():
    """Each draw has so many prompts, none twice, of equal weight."""
    weights = subset_weights(10, 4, 50, np.random.default_rng(0))
    assert weights.sum(1) == pytest.approx(1)
    assert np.array_equal((weights > 0).sum(1), np.full(50, 4))
    assert len({tuple(row) for row in weights}) > 30


@pytest.mark.parametrize("name", VARIANTS)
def test_a_model_is_aligned_with_itself(name, teacher):
    """The identity scores exactly 1, except in the variants of which that is not true."""
    score = align(teacher, teacher, VARIANTS[name], DIRECTIONS).score.score[0]
    if name in NOT_ONE_FOR_ITSELF:
        assert score < 0.99
    else:
        assert score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_order_of_heads_does_not_matter(name, teacher):
    """A copy with permuted heads scores what the model itself scores."""
    permuted = record(permute_heads(random_model("gpt2"), 3))
    own = align(teacher, teacher, VARIANTS[name], DIRECTIONS).score.score[0]
    assert align(teacher, permuted, VARIANTS[name], DIRECTIONS).score.score[0] == pytest.approx(own, abs=2e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_which_heads_survive_another_basis_of_the_stream(kind, teacher):
    """The same function in a rotated basis has the same heads, except for outputs in the residual basis."""
    rotated = record(rotate_stream(random_model("gpt2"), 3))
    own = between(teacher, rotated).heads(kind)[0].diagonal()
    assert own.max() < 0.9 if kind == "output" else own == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", MLPS)
def test_which_mlps_survive_another_basis_of_the_stream(kind, teacher):
    """Only CKA compares MLPs without a common basis; every published representation needs one."""
    rotated = record(rotate_stream(random_model("gpt2"), 3))
    own = between(teacher, rotated).mlps(kind)[0].diagonal()
    assert own == pytest.approx(1, abs=1e-3) if kind.startswith("cka") else own.max() < 0.9


def test_disguises_keep_the_function():
    """Permuted heads and a rotated stream give the same logits."""
    model = random_model("gpt2")
    logits = model(PROMPTS.ids).logits
    for disguise in (permute_heads, rotate_stream):
        other = disguise(model, 3)
        assert torch.allclose(other(PROMPTS.ids).logits, logits, atol=1e-5)
        assert not torch.equal(other.transformer.h[0].attn.c_proj.weight, model.transformer.h[0].attn.c_proj.weight)
    with pytest.raises(UserError, match="GPT-2 models only, not llama"):
        rotate_stream(random_model("llama"), 0)


def test_the_basis_of_z_does_not_matter(teacher, student):
    """Rotating a head's z and its W_O together changes coordinates, not what it writes."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0].astype(np.float32)
    turned = replace(teacher, z=teacher.z @ rotation, output_weights=rotation.T @ teacher.output_weights)
    for kind in HEADS:
        expected = between(teacher, student).heads(kind)
        assert between(turned, student).heads(kind) == pytest.approx(expected, abs=1e-4), kind


@pytest.mark.parametrize("kind", [name for name in MLPS if not name.startswith("cka")])
def test_only_the_released_mlps_depend_on_the_signs_of_eigenvectors(kind, teacher, student):
    """An eigenvector's sign is arbitrary: turning one may change nothing. The released similarity changes."""
    found, turned = between(teacher, student), between(teacher, student)
    flipped = turned.student
    for name in ("directions", "uncentred_directions", "stream_directions"):
        flipped.__dict__[name] = getattr(flipped, name) * np.array([[-1], [1], [1]])
    changed = np.abs(found.mlps(kind) - turned.mlps(kind)).max()
    assert changed > 0.01 if kind == "signed_mean" else changed < 1e-9


def test_another_scale_of_all_drops_changes_no_score(teacher, student):
    """Logits in other units, as of a model with a larger unembedding, leave every variant as it is."""
    louder = replace(student, unablated=3 * student.unablated, ablated=3 * student.ablated)
    for name, variant in VARIANTS.items():
        one, other = (align(teacher, each, variant, DIRECTIONS).score.score[0] for each in (student, louder))
        assert one == pytest.approx(other, abs=1e-6), name


def test_models_of_other_widths_are_compared_by_what_allows_it(teacher, llama):
    """Patterns and CKA need no common basis; for the others the error names these."""
    found = between(teacher, llama)
    for kind in HEADS.keys() - {"output"}:
        assert found.heads(kind).shape == (1, 15, 18)
    for kind in ("cka", "cka_by_position", "cka_last"):
        assert found.mlps(kind)[0] == pytest.approx(slow_mlps(kind, teacher, llama), abs=2e-4)
    with pytest.raises(
        UserError,
        match=r"heads: output needs residual streams of one width, not 20 and 24; .* compared by pattern_rows, "
        r"pattern_flat, cka, cka_by_position, cka_last",
    ):
        found.heads("output")
    with pytest.raises(UserError, match=r"mlps: directions needs .* compared by cka, cka_by_position, cka_last"):
        align(teacher, llama, replace(PRINTED, heads="cka"), DIRECTIONS)
    recommended = align(teacher, llama, PRESETS["recommended"], DIRECTIONS).score.score[0]
    assert 0 <= recommended <= 1


def test_models_with_other_token_counts_are_compared_by_what_allows_it(teacher, student):
    """Two tokenizers give two lengths: directions, streams and the last token can be compared, positions cannot."""
    shorter = replace(
        student, z=student.z[:, :, 1:], mlp_out=student.mlp_out[:, :, 1:], pattern=student.pattern[:, :, :, 1:, 1:]
    )
    found = between(teacher, shorter)
    for kind in ("directions", "subspace", "signed_mean", "stream", "cka_last"):
        assert found.mlps(kind).shape == (1, 3, 3)
    assert found.heads("cka_last")[0] == pytest.approx(slow_heads("cka_last", teacher, shorter), abs=2e-4)
    with pytest.raises(UserError, match=r"pattern_rows needs prompts of the same tokens .*, not 6 and 5; .* cka_last$"):
        align(teacher, shorter, RELEASED, DIRECTIONS)


def test_a_stream_that_was_not_cached_is_named(teacher, student):
    """activations.sites may leave the stream out; the variant that needs it says so."""
    without = replace(student, stream=None)
    assert "activations.sites" in problem("mlps", "stream", teacher, without)
    assert problem("mlps", "directions", teacher, without) is None
