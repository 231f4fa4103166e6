"""Influence scores, MLP directions, matching and the alignment score, against hand-worked and independent values."""

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from scipy.linalg import svd

from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.comparison.alignment import (
    ModelRecord,
    align,
    alignment_score,
    bootstrap,
    head_outputs,
    head_similarity,
)
from distilled_circuits.comparison.mlps import (
    covariance,
    direction_similarity,
    leading_directions,
    scatter_coordinates,
    token_cosine,
)
from distilled_circuits.comparison.noise import added, noise_shifts
from distilled_circuits.comparison.scores import influence_scores
from distilled_circuits.comparison.summary import contrasts, distillation_summary, noise_summary
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.stages.noise import noise_levels

PROMPTS, CORRUPTED = random_prompts(9), random_prompts(9, seed=2).ids


def record(lens: HookLens, shifts=None) -> ModelRecord:
    """Return what alignment reads of a model, computed on random prompts."""
    layers = range(lens.dimensions.layers)
    sweep = influence_sweep(lens, PROMPTS, constant(mean_activations(lens, CORRUPTED, 64)), 64, shifts=shifts)
    _, cache = lens.cache(PROMPTS.ids, [(site, n) for n in layers for site in ("z", "mlp_out")], added(shifts or {}))
    return ModelRecord(
        sweep.unablated.numpy(),
        sweep.ablated.numpy(),
        torch.stack([cache["z", n] for n in layers], 1).numpy(),
        torch.stack([lens.output_weights(n) for n in layers]).numpy(),
        torch.stack([cache["mlp_out", n] for n in layers], 1).numpy(),
    )


@pytest.fixture(scope="module")
def teacher() -> ModelRecord:
    """A random model's record."""
    return record(HookLens(random_model("gpt2")))


@pytest.fixture(scope="module")
def student() -> ModelRecord:
    """Another random model's record."""
    return record(HookLens(random_model("gpt2", seed=5)))


def test_alignment_by_hand():
    """Two heads and an MLP against one head and two MLPs, equations 7 and 8 step by step.

    Similarities: heads 0.9 and 0.4 with the only head; the MLP 0.3 and 0.8. Influences: teacher 1, 0.5, 0.2; student
    0.7, 0.1, 0.6. Matches: head, head, second MLP. Terms: 0.9 (1 - 0.3), 0.4 (1 - 0.2), 0.8 (1 - 0.4).
    """
    similarity = np.array([[0.9, 0.95, 0.99], [0.4, 0.95, 0.99], [0.97, 0.3, 0.8]])
    allowed = np.array([[True, False, False], [True, False, False], [False, True, True]])
    result = alignment_score(np.array([1, 0.5, 0.2]), np.array([0.7, 0.1, 0.6]), similarity, allowed)
    assert result.partner.tolist() == [0, 0, 2]
    assert result.score == pytest.approx((0.9 * 0.7 + 0.4 * 0.8 + 0.8 * 0.6) / 3)
    assert result.mean_similarity == pytest.approx(0.7)
    assert result.mean_agreement == pytest.approx(0.7)


def test_a_model_is_aligned_with_itself(teacher):
    """The identity scores exactly 1, every component its own partner."""
    result = align(teacher, teacher, 3)
    assert result.score == pytest.approx(1, abs=1e-6)
    assert result.partner.tolist() == list(range(len(result.partner)))


def test_alignment_equals_a_slow_computation(teacher, student):
    """Similarities and score equal plain loops over components, from the definitions."""
    result = align(teacher, student, 3)

    def outputs(r):
        return [r.z[:, n, :, h].mean(0) @ r.output_weights[n, h] for n in range(r.layers) for h in range(r.heads)]

    def directions(r):
        found = []
        for n in range(r.layers):
            flat = r.mlp_out[:, n].reshape(-1, r.mlp_out.shape[-1]).astype(float)
            found.append(svd(flat - flat.mean(0))[2][:3])
        return found

    def cosine(a, b):
        return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())

    influence = [influence_scores(r.unablated.astype(float), r.ablated.astype(float)) for r in (teacher, student)]
    terms = []
    positions = [[n for n, head in enumerate(r.is_head) if head] for r in (teacher, student)]
    for own, output in zip(positions[0], outputs(teacher), strict=True):
        found = [cosine(output, other) for other in outputs(student)]
        partner = positions[1][int(np.argmax(found))]
        terms.append(max(found) * (1 - abs(influence[0][own] - influence[1][partner])))
    others = [[n for n, head in enumerate(r.is_head) if not head] for r in (teacher, student)]
    for own, vectors in zip(others[0], directions(teacher), strict=True):
        found = [np.mean([abs(cosine(a, b)) for a, b in zip(vectors, w, strict=True)]) for w in directions(student)]
        partner = others[1][int(np.argmax(found))]
        terms.append(max(found) * (1 - abs(influence[0][own] - influence[1][partner])))
    assert result.score == pytest.approx(np.mean(terms), abs=1e-4)


def test_bootstrap_equals_recomputing_on_resampled_prompts(teacher, student):
    """Weighted sums give what drawing prompts and starting over gives."""
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    intervals = bootstrap(teacher, student, 3, 12, rng)
    counts = again.multinomial(9, np.full(9, 1 / 9), size=12)
    scores = []
    for row in counts:
        drawn = np.repeat(np.arange(9), row)
        parts = [
            ModelRecord(r.unablated[drawn], r.ablated[:, drawn], r.z[drawn], r.output_weights, r.mlp_out[drawn])
            for r in (teacher, student)
        ]
        scores.append(align(*parts, 3).score)
    assert intervals.score == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])), abs=1e-3)


def test_head_similarity_does_not_depend_on_the_basis_of_z(teacher):
    """Rotating a head's z and its W_O together changes coordinates, not what it writes."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    mean = teacher.z.mean(0)
    first = head_outputs(mean, teacher.output_weights)
    second = head_outputs(mean @ rotation, rotation.T @ teacher.output_weights)
    assert np.allclose(head_similarity(first, second).diagonal(), 1, atol=1e-5)


def test_leading_directions_are_those_of_an_svd():
    """Eigenvectors of the centred covariance are right singular vectors; shares of variance add up."""
    outputs = np.random.default_rng(1).normal(size=(6, 5, 8)) * np.arange(1, 9) + 3
    directions, shares = leading_directions(covariance(outputs), 8)
    flat = outputs.reshape(-1, 8)
    values, vectors = svd(flat - flat.mean(0))[1:]
    assert np.allclose(np.abs((directions * vectors).sum(1)), 1)
    assert np.allclose(shares, values**2 / (values**2).sum())


def test_direction_similarity_ignores_signs():
    """An eigenvector's sign is arbitrary: flipping it changes nothing."""
    a, b = np.linalg.qr(np.random.default_rng(2).normal(size=(2, 6, 3)))[0].transpose(0, 2, 1)
    flipped = a * np.array([[-1], [1], [-1]])
    assert direction_similarity(a[None], b[None]) == pytest.approx(direction_similarity(flipped[None], b[None]))
    assert direction_similarity(a[None], a[None]) == pytest.approx(1)


def test_token_cosine_compares_position_by_position():
    """Equal, opposite and orthogonal mean outputs give 1, -1 and 0 at their positions."""
    teacher = np.array([[[1.0, 0], [0, 2], [3, 0]]])
    student = np.array([[[5.0, 0], [0, -1], [0, 1]]])
    assert token_cosine(teacher, student).tolist() == [[[1, -1, 0]]]


def test_scatter_keeps_the_variance_of_the_first_two_directions():
    """Coordinates are centred and their variances are the two largest eigenvalues."""
    outputs = np.random.default_rng(4).normal(size=(20, 5, 6)) * np.arange(1, 7)
    points = scatter_coordinates(outputs, 20).reshape(-1, 2)
    eigenvalues = np.linalg.eigvalsh(covariance(outputs))[::-1]
    assert np.allclose(points.mean(0), 0, atol=1e-9)
    assert np.allclose(points.var(0), eigenvalues[:2])


def test_noise_of_level_zero_changes_nothing(student):
    """The record at level 0 is the unnoised one, bit for bit."""
    lens = HookLens(random_model("gpt2", seed=5))
    again = record(lens, noise_shifts(lens, "components", 0.0, 9, 6, seed=1))
    for name in ("unablated", "ablated", "z", "mlp_out"):
        assert np.array_equal(getattr(again, name), getattr(student, name))


@pytest.mark.parametrize("site", ["components", "residual"])
def test_noise_has_the_stated_deviation_and_is_shared_by_ablated_runs(site):
    """What a sweep under noise says of a component is what a run with noise and that ablation alone says."""
    lens = HookLens(random_model("gpt2"))
    shifts = noise_shifts(lens, site, 0.7, 9, 6, seed=1)
    first_site = next(iter(shifts))
    _, clean = lens.cache(PROMPTS.ids, [first_site])
    _, noised = lens.cache(PROMPTS.ids, [first_site], added(shifts)[:1])
    assert (noised[first_site] - clean[first_site]).std().item() == pytest.approx(0.7, rel=0.1)
    means = mean_activations(lens, CORRUPTED, 64)
    stacked, alone, cut = (influence_sweep(lens, PROMPTS, constant(means), size, shifts=shifts) for size in (64, 9, 1))
    assert torch.allclose(stacked.ablated, alone.ablated, atol=1e-4)
    assert torch.allclose(stacked.ablated, cut.ablated, atol=1e-4)
    zeroed = [*added(shifts), (("mlp_out", 2), lambda _: means.mlp_out[2].expand(9, -1, -1))]
    logits = lens.run(PROMPTS.ids, zeroed)
    rows = torch.arange(9)
    expected = logits[rows, PROMPTS.answers] - logits[rows, PROMPTS.distractors]
    assert torch.allclose(stacked.ablated[-1], expected, atol=1e-4)


def test_noise_levels_are_the_papers():
    """0.00, 0.05, ..., 2.00: 41 levels, the last one included."""
    from distilled_circuits.params import NoiseLevels

    levels = noise_levels(NoiseLevels(stop=2.0, step=0.05))
    assert len(levels) == 41
    assert levels[-1] == pytest.approx(2.0)


def test_noise_summary_averages_the_last_quarter():
    """The plateau of eight levels is the mean of the last two."""
    level = np.arange(8) / 10
    score = np.array([[1, 1], [0.9, 0.7], [0.5, 0.5], [0.4, 0.4], [0.3, 0.3], [0.3, 0.3], [0.2, 0.4], [0.1, 0.1]])
    found = noise_summary(level, score)
    assert found["plateau"] == pytest.approx(0.2)
    assert found["plateau_from"] == 0.6
    assert found["standard_deviation"][1] == pytest.approx(np.sqrt(0.02))


def test_contrasts_test_each_seed_on_its_own():
    """Only discordant prompts count, and seeds are never pooled."""

    def answers(condition, seed, correct):
        return {
            "condition": condition,
            "seed": seed,
            "pairs": [],
            "pairs_of_impact_own": 0,
            "log": [{"debiased_cka": None}],
            "after": {"full": correct, "circuit": correct},
        }

    runs = [
        answers("a", 0, [1] * 8 + [0] * 2),
        answers("a", 1, [1] * 5 + [0] * 5),
        answers("b", 0, [0] * 6 + [1] * 2 + [0] * 2),
        answers("b", 1, [1] * 5 + [0] * 5),
    ]
    (row,) = contrasts(runs, [("a", "b"), ("a", "missing")])
    assert [(t["only_first"], t["only_second"], t["p"]) for t in row["tests"]] == [(6, 0, 0.03125), (0, 0, 1.0)]
    assert row["difference"] == pytest.approx(0.3)
    assert distillation_summary(runs)[0]["accuracy"] == {"value": 0.65, "range": [0.5, 0.8]}
