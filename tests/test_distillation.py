"""Impacts of single heads and accuracies of circuits are those of full passes with everything replaced by hand."""

from dataclasses import replace

import pytest
import torch
from checkpoints import random_model, random_prompts
from slow_loops import correct_answers, slow_ablation, slow_means

from distilled_circuits.circuits.ablation import PromptTensors, mean_activations
from distilled_circuits.circuits.head_sets import HeadSets
from distilled_circuits.distillation.impact import measure_impacts
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.statistics import exact_mcnemar

OTHERS = random_prompts(12, seed=2).ids


@pytest.fixture(params=["gpt2", "llama"])
def lens(request) -> HookLens:
    """A model with a head for each query, and one with grouped queries."""
    model = random_model(request.param)
    if request.param == "gpt2":
        # A random bias there makes one token the answer to everything.
        model.transformer.ln_f.bias.zero_()
    return HookLens(model)


@pytest.fixture
def prompts(lens) -> PromptTensors:
    """Prompts of which the model answers eighty right, and forty wrong but for luck."""
    made = random_prompts(120)
    right = lens.run(made.ids).argmax(-1)
    return replace(made, answers=torch.cat([right[:80], made.answers[80:]]))


@pytest.mark.parametrize(("b", "c", "p"), [(10, 2, 0.0386), (6, 0, 0.03125), (15, 5, 0.0414), (0, 0, 1)])
def test_exact_mcnemar(b, c, p):
    """Known values of the exact two-sided test."""
    assert exact_mcnemar(b, c) == pytest.approx(p, abs=5e-5)


@torch.no_grad()
def test_impacts_are_those_of_single_ablations(lens, prompts):
    """Accuracy and mean log probability, of the model and with each head ablated, equal full passes."""
    impacts = measure_impacts(HeadSets(lens, prompts, mean_activations(lens, OTHERS, 64), 50))
    heads = [component for component in lens.components if component.head is not None]
    assert [found.head for found in impacts.heads] == heads
    assert [found.relative_depth for found in impacts.heads] == [head.layer / 2 for head in heads]
    z_mean, mlp_mean = slow_means(lens.model, OTHERS)
    assert len({found.accuracy for found in impacts.heads}) > 1
    for found, removed in [(impacts, []), *((found, [found.head]) for found in impacts.heads[::4])]:
        with slow_ablation(lens.model, removed, z_mean, mlp_mean):
            logits = lens.model(prompts.ids).logits[:, -1]
        assert found.accuracy == (logits.argmax(-1) == prompts.answers).double().mean().item()
        chosen = logits.double().log_softmax(-1)[torch.arange(120), prompts.answers]
        assert found.log_probability == pytest.approx(chosen.mean().item(), abs=1e-4)


@torch.no_grad()
def test_a_circuit_of_all_heads_is_the_model(lens, prompts):
    """Circuit accuracy of everything is full accuracy; of a few heads, what is left when all others are replaced."""
    means = mean_activations(lens, OTHERS, 64)
    heads = [component for component in lens.components if component.head is not None]
    full = correct_answers(lens, prompts, means)
    assert torch.equal(correct_answers(lens, prompts, means, heads), full)
    assert 80 <= full.sum() < 120
    z_mean, mlp_mean = slow_means(lens.model, OTHERS)
    for kept in ([], heads[3:8]):
        with slow_ablation(lens.model, [head for head in heads if head not in kept], z_mean, mlp_mean):
            expected = lens.model(prompts.ids).logits[:, -1].argmax(-1)
        assert torch.equal(correct_answers(lens, prompts, means, kept), expected == prompts.answers)
