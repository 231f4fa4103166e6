"""The sweep agrees with slow loops that know nothing of the lens, for every ablation and architecture."""

import pytest
import torch
from checkpoints import random_model, random_prompts
from slow_loops import slow_difference, slow_edits, slow_logit_difference, slow_means, slow_sweep

from distilled_circuits.circuits.ablation import (
    ABLATIONS,
    PromptTensors,
    activations,
    constant,
    mean_activations,
    replacement,
)
from distilled_circuits.circuits.batching import SIZES, measured_batch_size
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.comparison.noise import Reading, added, unit_noise
from distilled_circuits.errors import UserError
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


def test_means_are_those_of_a_slow_loop(any_model, prompts):
    """Streamed means over batches equal means over prompts run one by one."""
    means = mean_activations(HookLens(any_model), prompts.corrupted, batch_size=3)
    z_mean, mlp_mean = slow_means(any_model, prompts.corrupted)
    assert torch.allclose(means.z[:, 0].flatten(-2), z_mean, atol=1e-5)
    assert torch.allclose(means.mlp_out[:, 0], mlp_mean, atol=1e-5)


def test_sweep_equals_a_slow_loop(any_model, prompts):
    """Every component's and prompt's logit difference agrees to 1e-4, also when batches cut the prompts."""
    lens = HookLens(any_model)
    means = constant(mean_activations(lens, prompts.corrupted, 64))
    expected = slow_sweep(any_model, prompts, *slow_means(any_model, prompts.corrupted), lens.components)
    for batch_size in (3, 15, 1000):
        sweep = influence_sweep(lens, prompts, means, batch_size)
        assert torch.allclose(sweep.ablated, expected, atol=1e-4)
        assert torch.allclose(sweep.unablated, slow_difference(any_model, prompts), atol=1e-4)


@pytest.mark.parametrize("kind", ABLATIONS)
def test_every_ablation_equals_full_passes(any_model, prompts, kind):
    """Logit differences and log-probabilities of each kind of ablation, against a whole pass for each component."""
    lens = HookLens(any_model)
    z, mlp_out = (torch.zeros_like(part) for part in vars(activations(lens, prompts.ids)).values())
    values = activations(lens, prompts.ids if kind == "clean_mean" else prompts.corrupted)
    if kind.endswith("_mean"):
        z, mlp_out = values.z.mean(1, keepdim=True), values.mlp_out.mean(1, keepdim=True)
    elif kind == "resample":
        z, mlp_out = values.z, values.mlp_out
    swapped = type(values)(z, mlp_out)
    sweep = influence_sweep(lens, prompts, replacement(lens, kind, prompts, 3), 4, log_probabilities=True)
    for index, component in enumerate(lens.components):
        logits = lens.run(prompts.ids, slow_edits([component], swapped))
        assert torch.allclose(sweep.ablated[index], slow_logit_difference(logits, prompts), atol=1e-4)
        chosen = logits.log_softmax(-1)[torch.arange(len(prompts)), prompts.answers]
        assert torch.allclose(sweep.ablated_log_probability[index], chosen, atol=1e-4)
    chosen = lens.logits(prompts.ids).log_softmax(-1)[torch.arange(len(prompts)), prompts.answers]
    assert torch.allclose(sweep.unablated_log_probability, chosen, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_sweep_through_both_engines_agrees(name, prompts):
    """Plain hooks and TransformerBridge give the same influence to 1e-4."""
    ours, theirs = HookLens(random_model(name)), BridgeLens(random_model(name))
    means = constant(mean_activations(ours, prompts.corrupted, 64))
    first, second = (influence_sweep(lens, prompts, means, 20, log_probabilities=True) for lens in (ours, theirs))
    for part, values in vars(first).items():
        assert torch.allclose(values, getattr(second, part), atol=1e-4), part


@pytest.mark.parametrize("site", ["components", "residual"])
def test_a_sweep_under_noise_equals_noisy_full_passes(any_model, prompts, site):
    """Shifts are added in every run, and a component that is ablated keeps no noise."""
    lens = HookLens(any_model)
    means = mean_activations(lens, prompts.corrupted, 64)
    unit = unit_noise(lens, Reading(site, None, relative=False), *prompts.ids.shape, 3, {})
    shifts = {place: 0.5 * noise for place, noise in unit.items()}
    sweep = influence_sweep(lens, prompts, constant(means), 4, shifts=shifts)
    for index, component in enumerate(lens.components):
        logits = lens.run(prompts.ids, [*added(shifts), *slow_edits([component], means)])
        assert torch.allclose(sweep.ablated[index], slow_logit_difference(logits, prompts), atol=1e-4)


def test_a_part_of_the_components_can_be_swept(gpt2, prompts):
    """Rows come in the order that was asked for, and are those of the whole sweep."""
    lens = HookLens(gpt2)
    means = constant(mean_activations(lens, prompts.corrupted, 64))
    whole = influence_sweep(lens, prompts, means, 20)
    chosen = [Component(2), Component(0, 3), Component(1, 1)]
    part = influence_sweep(lens, prompts, means, 20, components=chosen)
    assert torch.allclose(part.ablated, whole.ablated[[lens.components.index(c) for c in chosen]], atol=1e-6)


def test_sweep_reports_every_component_once(gpt2, prompts):
    """Progress adds up to the number of components."""
    lens = HookLens(gpt2)
    done = []
    influence_sweep(lens, prompts, constant(mean_activations(lens, prompts.corrupted, 64)), 4, advance=done.append)
    assert sum(done) == pytest.approx(len(lens.components))


def test_bfloat16_stays_near_float32(prompts):
    """The sweep runs in the model's type; sums of two differ by its rounding, not more."""
    exact, rounded = (HookLens(random_model("llama").to(dtype)) for dtype in (torch.float32, torch.bfloat16))
    means = constant(mean_activations(exact, prompts.corrupted, 64))
    first, second = (influence_sweep(lens, prompts, means, 20) for lens in (exact, rounded))
    assert second.ablated.dtype == torch.float32
    assert 0 < (first.ablated - second.ablated).abs().max() < 0.3


def test_numbers_that_are_none_are_refused(gpt2, prompts):
    """NaN weights give an error that says what to do, and no result."""
    lens = HookLens(gpt2)
    means = constant(mean_activations(lens, prompts.corrupted, 64))
    gpt2.transformer.h[1].mlp.c_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"are NaN or infinite; check that the checkpoint.*influence\.dtype is float32"):
        influence_sweep(lens, prompts, means, 20)


def test_resampling_without_partners_is_refused(gpt2, prompts):
    """An ablation that needs corrupted prompts says so."""
    alone = PromptTensors(prompts.ids, prompts.answers, prompts.distractors)
    with pytest.raises(UserError, match="choose zero or clean_mean"):
        replacement(HookLens(gpt2), "corrupted_mean", alone, 8)


def test_a_measured_batch_size_is_one_of_those_tried(gpt2):
    """The choice by measurement ends, and gives a size that can be used."""
    assert measured_batch_size(HookLens(gpt2), random_prompts(40), seconds=0.01) in SIZES
