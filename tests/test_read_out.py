"""A masked language model answers at a mask before the end: all that is exact at the last token is exact there."""

import dataclasses

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from slow_loops import slow_ablation, slow_difference, slow_logit_difference, slow_means, slow_patched_edge, slow_sweep

from distilled_circuits.circuits.ablated_model import AblatedModel
from distilled_circuits.circuits.ablation import activations, constant, mean_activations
from distilled_circuits.circuits.attribution import attribute_edges
from distilled_circuits.circuits.edges import possible_edges
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.path_patching import patch_circuit
from distilled_circuits.circuits.paths import trace
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.self_check import self_check
from distilled_circuits.roles.output_scores import promoted
from distilled_circuits.roles.patching import every_position, patch_sweep
from distilled_circuits.roles.readout import logit_lens

NODES = [Component(0, 0), Component(0), Component(1, 2), Component(1), Component(2, 1), Component(2)]
PROMPTS = dataclasses.replace(random_prompts(), read_at=-3)


@pytest.fixture(params=["bert", "distilbert"])
def model(request):
    """A random masked language model of each kind."""
    return random_model(request.param)


@pytest.fixture
def lens(model):
    """The model, read two tokens before the end."""
    return HookLens(model, PROMPTS.read_at)


def test_logits_are_those_at_the_mask(model, lens):
    """And the checks at load time pass there."""
    assert torch.equal(lens.logits(PROMPTS.ids), model(PROMPTS.ids).logits[:, -3])
    assert max(self_check(lens).values()) < 1e-4


@pytest.mark.parametrize("read_at", [-2, 0, 5])
def test_a_causal_model_is_read_at_its_end_alone(read_at):
    """What stands behind the answer would have no part in it; and positions are counted from the end."""
    with pytest.raises(ValueError, match="cannot be read at"):
        HookLens(random_model("gpt2"), read_at)


def test_the_sweep_equals_a_slow_loop(model, lens):
    """Every component of every layer, the last one's included, of which only the mask's position is computed."""
    means = constant(mean_activations(lens, PROMPTS.corrupted, 64))
    sweep = influence_sweep(lens, PROMPTS, means, 9)
    expected = slow_sweep(model, PROMPTS, *slow_means(model, PROMPTS.corrupted), lens.components)
    assert torch.allclose(sweep.ablated, expected, atol=1e-4)
    assert torch.allclose(sweep.unablated, slow_difference(model, PROMPTS), atol=1e-4)


def test_joint_ablations_equal_a_slow_loop(model, lens):
    """Several heads and MLPs at once."""
    sets = NodeSets(lens, PROMPTS, constant(mean_activations(lens, PROMPTS.corrupted, 64)), 3)
    with slow_ablation(model, NODES, *slow_means(model, PROMPTS.corrupted)):
        expected = slow_difference(model, PROMPTS)
    assert np.allclose(sets.differences(NODES), expected, atol=1e-4)


def test_edges_equal_slow_frozen_runs(lens):
    """Into q, k, v, MLPs and the logits; and attribution says the same of a sender's effect on the logits."""
    values = mean_activations(lens, PROMPTS.corrupted, 64)
    outside = [component for component in lens.components if component not in NODES]
    found = patch_circuit(lens, PROMPTS, constant(values), NODES, batch_size=4)
    for edge, patched in zip(possible_edges(NODES), found.patched, strict=True):
        assert np.allclose(patched, slow_patched_edge(lens, PROMPTS, values, outside, edge), atol=1e-4), edge
    small = dataclasses.replace(PROMPTS, corrupted=PROMPTS.ids)
    model = AblatedModel(Blocks(lens), values, frozenset(outside))
    clean = trace(model, lens.embed(small.ids))
    assert not attribute_edges(model, small, clean, clean, possible_edges(NODES)).any()


def test_patches_equal_a_slow_loop(lens):
    """A clean MLP output at each position of corrupted prompts, of the first and of the last layer."""
    places = every_position(*PROMPTS.ids.shape)
    found = patch_sweep(lens, PROMPTS, places, places, batch_size=10).parts["mlp"]
    clean = activations(lens, PROMPTS.ids).mlp_out
    for layer in (0, 2):
        for place in range(PROMPTS.ids.shape[1]):

            def patch(activation, layer=layer, place=place):
                activation = activation.clone()
                activation[:, place] = clean[layer][:, place]
                return activation

            logits = lens.run(PROMPTS.corrupted, [(("mlp_out", layer), patch)])
            assert torch.allclose(found[layer, place], slow_logit_difference(logits, PROMPTS), atol=1e-4)


def test_what_is_promoted_and_what_the_logit_lens_says_is_of_the_mask(model, lens):
    """The lens' last stage is the model's own answer there; a head's promotion is of what it writes there."""
    read = logit_lens(lens, PROMPTS, 4)
    logits = model(PROMPTS.ids).logits[:, -3]
    expected = logits.softmax(-1).gather(1, PROMPTS.answers[:, None])[:, 0]
    assert np.allclose(read.probabilities["answer"][:, -1], expected, atol=1e-5)
    hits = promoted(lens, PROMPTS.ids, {"answer": PROMPTS.answers}, 5, 4)["answer"]
    z = activations(lens, PROMPTS.ids).z[1][:, -3, 2]
    shown = lens.unembed((z @ lens.output_weights(1)[2])[:, None])[:, 0]
    assert hits[1, 2].tolist() == [
        (row > row[answer]).sum().item() < 5 for row, answer in zip(shown, PROMPTS.answers, strict=True)
    ]
