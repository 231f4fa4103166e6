"""MLP directions, noise and the summaries of tables, against hand-worked and independent values."""

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from scipy.linalg import svd

from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.comparison.alignment import align
from distilled_circuits.comparison.mlps import (
    covariance,
    direction_similarity,
    leading_directions,
    scatter_coordinates,
    token_cosine,
)
from distilled_circuits.comparison.noise import NOISED_SITES, Reading, added, spreads, unit_noise
from distilled_circuits.comparison.variants import PRESETS
from distilled_circuits.errors import UserError
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.stages.measured_records import measured_record
from distilled_circuits.stages.noise import noise_levels

PROMPTS, CORRUPTED = random_prompts(9), random_prompts(9, seed=2).ids


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


READINGS = [
    Reading(site, layer, relative) for site in NOISED_SITES for layer in (None, 1) for relative in (False, True)
]


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_noise_of_level_zero_changes_nothing(reading):
    """Every reading at level 0 gives the record, and with it each score, of no noise at all, bit for bit."""
    lens = HookLens(random_model("gpt2", seed=5))
    replaced = constant(mean_activations(lens, CORRUPTED, 64))
    noise = unit_noise(lens, reading, 9, 6, seed=1, spreads=spreads(lens, PROMPTS.ids))
    assert noise and all(values.abs().max() > 0 for values in noise.values())
    again = measured_record(lens, PROMPTS, replaced, 64, {site: 0.0 * values for site, values in noise.items()})
    without = measured_record(lens, PROMPTS, replaced, 64)
    for name, values in vars(without).items():
        assert np.array_equal(getattr(again, name), values), name
    teacher = measured_record(HookLens(random_model("gpt2")), PROMPTS, replaced, 64)
    for variant in PRESETS.values():
        one, other = (align(teacher, each, variant, 3).score.score for each in (again, without))
        assert np.array_equal(one, other)


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_noise_is_where_it_is_said_to_be_and_as_strong(reading):
    """Absolute levels are in the activation's units, relative ones in its own standard deviations; other sites stay."""
    lens = HookLens(random_model("gpt2"))
    own = spreads(lens, PROMPTS.ids)
    noise = unit_noise(lens, reading, 9, 6, seed=1, spreads=own)
    names = {"components": {"z", "mlp_out"}, "residual": {"resid_pre"}}.get(reading.site, {reading.site})
    layers = range(3) if reading.layer is None else [reading.layer]
    assert set(noise) == {(name, layer) for name in names for layer in layers}
    for site, values in noise.items():
        expected = own[site] if reading.relative else 1.0
        assert values.std().item() == pytest.approx(expected, rel=0.1)
        assert not torch.equal(values[0], values[1])
        _, cache = lens.cache(PROMPTS.ids, [site])
        assert own[site] == pytest.approx(cache[site].std().item())


def test_noise_in_a_layer_that_is_not_there_is_a_mistake_of_the_settings():
    """The error says which layers there are."""
    with pytest.raises(UserError, match=r"noise.readings: layer 3, allowed: all, or the student's layers 0 to 2"):
        Reading("z", 3, relative=False).places(3)


@pytest.mark.parametrize("site", ["components", "residual"])
def test_noise_is_shared_by_ablated_runs(site):
    """What a sweep under noise says of a component is what a run with noise and that ablation alone says."""
    lens = HookLens(random_model("gpt2"))
    unit = unit_noise(lens, Reading(site, None, relative=False), 9, 6, 1, {})
    shifts = {place: 0.7 * values for place, values in unit.items()}
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
    from distilled_circuits.param_analysis import NoiseLevels

    levels = noise_levels(NoiseLevels(stop=2.0, step=0.05))
    assert len(levels) == 41
    assert levels[-1] == pytest.approx(2.0)
