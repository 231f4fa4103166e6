"""What a sweep is said to take is what it takes: products as PyTorch counts them, memory of the weights and a batch."""

import pytest
import torch
from checkpoints import random_model, random_prompts
from torch.utils.flop_counter import FlopCounterMode

from distilled_circuits.circuits.ablation import constant, mean_activations
from distilled_circuits.circuits.estimate import Estimate, estimate_sweep, sweep_products, weights_bytes
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.lens.hooks import HookLens


def test_products_are_those_that_pytorch_counts(any_model, prompts):
    """To a fifth in these tiny models, whose heads' own outputs, left out, are much of a pass."""
    lens = HookLens(any_model)
    means = constant(mean_activations(lens, prompts.corrupted, 64))
    with FlopCounterMode(display=False) as counter:
        influence_sweep(lens, prompts, means, 7)
    counted = counter.get_flop_counts()["Global"]
    found = sum(count for kind, count in counted.items() if "attention" not in str(kind))
    assert sweep_products(lens, *prompts.ids.shape) == pytest.approx(found, rel=0.2)


def test_products_grow_as_prompts_do(gpt2):
    """Twice the prompts, twice the work."""
    lens = HookLens(gpt2)
    assert sweep_products(lens, 14, 6) == 2 * sweep_products(lens, 7, 6)


def test_memory_is_that_of_weights_and_of_one_batch():
    """More prompts change nothing, a larger batch does; bfloat16 halves the weights."""
    lens = HookLens(random_model("llama"))
    few, many = (estimate_sweep(lens, number, 6, 16).memory for number in (32, 3200))
    assert few == many > weights_bytes(lens) == sum(p.numel() for p in lens.model.parameters()) * 4
    assert estimate_sweep(lens, 32, 6, 32).memory > few
    half = HookLens(random_model("llama").to(torch.bfloat16))
    assert weights_bytes(half) * 2 == weights_bytes(lens)


def test_an_estimate_is_one_line():
    """In seconds, from two minutes on in minutes."""
    line = Estimate(2e12, 1e11, 3e9).describe()
    assert line == "2.00 TFLOP at 100 GFLOP/s, so at least 20 s; 3.00 GB of memory"
    assert "so at least 5 min;" in Estimate(3e13, 1e11, 3e9).describe()


def test_the_rate_is_measured(gpt2):
    """Some FLOP a second, whatever the machine."""
    assert estimate_sweep(HookLens(gpt2), *random_prompts().ids.shape, 8).rate > 0
