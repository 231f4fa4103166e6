"""Ablations and paths of a model that is small enough to work out by hand; every expected number is exact.

The prompt is (2, 0), (0, 4). Attention takes means over positions, the answer reads channel 0, the distractor 1.
Layer 0: H0 moves channel 0 to channel 1, H1 channel 1 to channel 0, the MLP adds 2 relu(x1 - x0) to channel 0.
Layer 1: H0 adds channel 0 to itself, H1 subtracts channel 1 from itself, the MLP adds relu(x0 - x1) to channel 0.

    layer 0   z = (2, 0), (1, 2)   after attention (2, 2), (2, 5)   MLP 0, 6    after it (2, 2), (8, 5)
    layer 1   z = (5, 3.5) at the last position   after attention (13, 1.5)   MLP 11.5   final (24.5, 1.5)

The corrupted prompt is all zeros, so are all means, and the logit difference is 23.
"""

import pytest
import torch

from distilled_circuits.circuits.ablation import PromptTensors, mean_activations
from distilled_circuits.circuits.evaluation import ablated_differences
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.circuits.paths import Receiver, contribution_change, patch_path
from distilled_circuits.circuits.pruning import prune_nodes
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

L0H0, L0H1, MLP0 = Component(0, 0), Component(0, 1), Component(0)
L1H0, L1H1, MLP1 = Component(1, 0), Component(1, 1), Component(1)
PROMPT = PromptTensors(torch.tensor([[0, 1]]), torch.tensor([0]), torch.tensor([1]))


@pytest.fixture
def lens(hand_model):
    """The hand-made model under a lens."""
    return HookLens(hand_model)


@pytest.fixture
def means(lens):
    """Means over the corrupted prompt, which are all zero."""
    found = mean_activations(lens, torch.tensor([[3, 3]]), 1)
    assert found.z.abs().max() == 0
    return found


def test_single_ablations_are_exact(lens, means):
    """Each component's ablation gives the logit difference worked out by hand."""
    sweep = influence_sweep(lens, PROMPT, means, batch_size=2)
    assert sweep.unablated.tolist() == [23]
    expected = {L0H0: 16, L0H1: 29, MLP0: 5, L1H0: 13, L1H1: 16, MLP1: 11.5}
    assert dict(zip(lens.components, sweep.ablated[:, 0].tolist(), strict=True)) == expected


def test_joint_ablation_is_exact(lens, means):
    """Without H1 of layer 1 and both MLPs: z is (2, 3.5), channel 0 is 2 + 2, channel 1 is 5."""
    assert ablated_differences(lens, PROMPT, means, [L1H1, MLP0, MLP1], 1).tolist() == [-1]


def test_pruning_is_exact(lens, means):
    """At a threshold of 20 % both heads of layer 0 go: H1 is in the way, and without it H0 is hardly needed.

    Backward, L0H1 alone may go (29 of 23). Forward, L0H0 may go too: without both the stream ends at (24, 2), 22 of 23.
    Then L1H1 would leave 18 of 23, a loss above 20 % of the full model, and the third sweep changes nothing.
    """
    pruned = prune_nodes(lens, PROMPT, means, 0.2, 1)
    assert pruned.nodes == (MLP0, L1H0, L1H1, MLP1)
    removed = [(d.sweep, d.direction, d.component, round(d.retained * 23, 5)) for d in pruned.trace if d.removed]
    assert removed == [(1, "backward", L0H1, 29), (2, "forward", L0H0, 22)]
    kept = {d.component: round(d.retained * 23, 5) for d in pruned.trace if d.sweep == 3}
    assert kept == {MLP1: 11, L1H1: 18, L1H0: 12, MLP0: -1}


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        (Receiver("logits"), 24),
        (Receiver("v", L1H0), 23),
        (Receiver("v", L1H1), 20),
        (Receiver("q", L1H0), 23),
        (Receiver("mlp", MLP1), 24),
        (Receiver("mlp", MLP0), 17),
    ],
)
def test_paths_from_a_head_are_exact(lens, receiver, expected):
    """Removing what L0H0 writes from one receiver's input alone gives the value worked out by hand."""
    _, cache = lens.cache(PROMPT.ids, [("z", 0)])
    z = cache["z", 0][:, :, 0]
    change = contribution_change(lens, L0H0, z, torch.zeros_like(z))
    assert change.tolist() == [[[0, -2], [0, -1]]]
    logits = patch_path(lens, PROMPT.ids, L0H0, change, receiver)
    assert (logits[0, 0] - logits[0, 1]).item() == expected


def test_path_from_an_mlp_to_the_logits_is_exact(lens):
    """Without the 6 that MLP0 writes, seen by the logits alone, 23 becomes 17."""
    _, cache = lens.cache(PROMPT.ids, [("mlp_out", 0)])
    change = contribution_change(lens, MLP0, cache["mlp_out", 0], torch.zeros_like(cache["mlp_out", 0]))
    logits = patch_path(lens, PROMPT.ids, MLP0, change, Receiver("logits"))
    assert (logits[0, 0] - logits[0, 1]).item() == 17


def test_a_path_against_the_computation_is_refused(lens):
    """Nothing flows from an MLP to a head of its own layer."""
    with pytest.raises(ValueError, match="no path from MLP0 to L0H1"):
        patch_path(lens, PROMPT.ids, MLP0, torch.zeros(1, 2, 2), Receiver("v", L0H1))
