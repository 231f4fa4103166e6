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

from distilled_circuits.circuits.ablated_model import AblatedModel
from distilled_circuits.circuits.ablation import PromptTensors, constant, mean_activations, replacement
from distilled_circuits.circuits.attribution import attribute_edges
from distilled_circuits.circuits.edges import Edge, possible_edges
from distilled_circuits.circuits.evaluation import evaluate_circuit
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.path_patching import patch_circuit
from distilled_circuits.circuits.paths import trace
from distilled_circuits.circuits.pruning import prune_nodes
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

L0H0, L0H1, MLP0 = Component(0, 0), Component(0, 1), Component(0)
L1H0, L1H1, MLP1 = Component(1, 0), Component(1, 1), Component(1)
PROMPT = PromptTensors(torch.tensor([[0, 1]]), torch.tensor([0]), torch.tensor([1]), torch.tensor([[3, 3]]))


@pytest.fixture
def lens(hand_model):
    """The hand-made model under a lens."""
    return HookLens(hand_model)


@pytest.fixture
def sets(lens, means):
    """Joint ablations of the hand-made model."""
    return NodeSets(lens, PROMPT, constant(means), 1)


@pytest.fixture
def means(lens):
    """Means over the corrupted prompt, which are all zero."""
    found = mean_activations(lens, torch.tensor([[3, 3]]), 1)
    assert found.z.abs().max() == 0
    return found


def test_single_ablations_are_exact(lens, means):
    """Each component's ablation gives the logit difference worked out by hand."""
    sweep = influence_sweep(lens, PROMPT, constant(means), batch_size=2)
    assert sweep.unablated.tolist() == [23]
    expected = {L0H0: 16, L0H1: 29, MLP0: 5, L1H0: 13, L1H1: 16, MLP1: 11.5}
    assert dict(zip(lens.components, sweep.ablated[:, 0].tolist(), strict=True)) == expected


def test_joint_ablation_is_exact(sets):
    """Without H1 of layer 1 and both MLPs: z is (2, 3.5), channel 0 is 2 + 2, channel 1 is 5."""
    assert sets.differences([L1H1, MLP0, MLP1]).tolist() == [-1]


def test_pruning_is_exact(sets):
    """At a threshold of 20 % both heads of layer 0 go: H1 is in the way, and without it H0 is hardly needed.

    Backward, L0H1 alone may go (29 of 23). Forward, L0H0 may go too: without both the stream ends at (24, 2), 22 of 23.
    Then L1H1 would leave 18 of 23, a loss above 20 % of the full model, and the third sweep changes nothing.
    """
    pruned = prune_nodes(sets, 0.2)
    assert pruned.nodes == (MLP0, L1H0, L1H1, MLP1)
    removed = [(d.sweep, d.direction, d.component, round(d.retained * 23, 5)) for d in pruned.trace if d.removed]
    assert removed == [(1, "backward", L0H1, 29), (2, "forward", L0H0, 22)]
    kept = {d.component: round(d.retained * 23, 5) for d in pruned.trace if d.sweep == 3}
    assert kept == {MLP1: 11, L1H1: 18, L1H0: 12, MLP0: -1}


def test_evaluation_is_exact(sets):
    """The circuit of the pruning: alone 22 of 23, without it -4, and less each of its nodes what pruning last saw.

    Without it both heads of layer 0 are left: the stream is (2, 2), (2, 5) and is read as it is.
    """
    found = evaluate_circuit(sets, [MLP0, L1H0, L1H1, MLP1], 0, None)
    assert found.full.tolist() == [23]
    assert found.only_circuit.tolist() == [22]
    assert found.without_circuit.tolist() == [2 - 5]
    assert found.without_node[:, 0].tolist() == [-1, 12, 18, 11]
    assert found.random.shape == (0, 1)


def test_other_ablations_are_exact(lens):
    """With the partner (4, 2), (0, 4) L0H0's z becomes (4, 2) and not (2, 1), L0H1's (2, 3) and not (0, 2).

    Layer 0 then ends at (2, 4), (2, 6) before its MLP, or at (4, 2), (3, 5).
    """
    partner = PromptTensors(PROMPT.ids, PROMPT.answers, PROMPT.distractors, torch.tensor([[2, 1]]))
    sweep = influence_sweep(lens, partner, replacement(lens, "resample", partner, 1), 4)
    found = dict(zip(lens.components, sweep.ablated[:, 0].tolist(), strict=True))
    assert found[L0H0] == _by_hand(z0=(4, 2), z1=(0, 2))
    assert found[L0H1] == _by_hand(z0=(2, 1), z1=(2, 3))
    assert _by_hand(z0=(2, 1), z1=(0, 2)) == 23
    zero = influence_sweep(lens, partner, replacement(lens, "zero", partner, 1), 4)
    assert zero.ablated[:, 0].tolist() == [16, 29, 5, 13, 16, 11.5]


def _by_hand(z0, z1) -> float:
    """Return the logit difference of the prompt when the heads of layer 0 have these z at the two positions."""
    stream = []
    for (x0, x1), from_0, from_1 in zip(((2, 0), (0, 4)), z0, z1, strict=True):
        mid = (x0 + from_1, x1 + from_0)
        stream.append((mid[0] + 2 * max(mid[1] - mid[0], 0), mid[1]))
    mean = [(stream[0][channel] + stream[1][channel]) / 2 for channel in (0, 1)]
    end = (stream[1][0] + mean[0], stream[1][1] - mean[1])
    return end[0] + max(end[0] - end[1], 0) - end[1]


def patched(lens, means, nodes=None):
    """Return each edge's logit difference with the sender at zero, which is what it is on the corrupted prompt."""
    nodes = lens.components if nodes is None else nodes
    found = patch_circuit(lens, PROMPT, constant(means), nodes, batch_size=1)
    return dict(zip(map(str, possible_edges(nodes)), found.patched[:, 0].tolist(), strict=True))


def test_paths_are_exact(lens, means):
    """What a sender writes, taken from one receiver's input alone, gives the value worked out by hand.

    L0H0 writes (0, 2), (0, 1). Without it the logits read 1.5 - 1 on channel 1; L1H0 reads channel 0 and sees nothing
    of it; L1H1's mean of channel 1 falls from 3.5 to 2; MLP1 reads 1.5 - 1; MLP0 reads 4 - 2 at the last position.
    MLP0 writes 0 and 6 on channel 0.
    """
    found = patched(lens, means)
    expected = {
        "L0H0->logits": 24, "L0H0->L1H0<v>": 23, "L0H0->L1H1<v>": 20, "L0H0->L1H0<q>": 23, "L0H0->MLP1": 24,
        "L0H0->MLP0": 17, "MLP0->logits": 17, "MLP0->MLP1": 17, "MLP1->logits": 11.5,
    }  # fmt: skip
    assert {edge: found[edge] for edge in expected} == expected


def test_paths_inside_a_circuit_are_exact(lens, means):
    """In the circuit of the pruning 22 is left; L1H0 and MLP0 to the logits and to MLP1 are worked out on it.

    Layer 0 without its heads ends at (2, 0), (8, 4): z of layer 1 is 5 and 2, the stream (13, 2), MLP1 adds 11.
    """
    found = patched(lens, means, [MLP0, L1H0, L1H1, MLP1])
    assert found["L1H0->logits"] == 22 - 5
    assert found["L1H0->MLP1"] == 22 - 5
    assert found["MLP0->L1H0<v>"] == 22 - 8
    assert found["MLP1->logits"] == 11
    assert "L0H0->MLP0" not in found


def test_attribution_is_exact_where_the_model_is_linear(lens, means):
    """Without norms and with every ReLU on its side, gradient times difference is the effect itself."""
    nodes = [L0H0, L0H1, L1H0, L1H1, MLP1]
    model = AblatedModel(Blocks(lens), means, frozenset({MLP0}))
    clean, corrupted = (trace(model, lens.embed(ids)) for ids in (PROMPT.ids, PROMPT.corrupted))
    edges = possible_edges(nodes)
    estimate = attribute_edges(model, PROMPT, clean, corrupted, edges)[:, 0].tolist()
    found = patched(lens, means, nodes)
    base = NodeSets(lens, PROMPT, constant(means), 1).only(nodes).item()
    by_name = {str(edge): base + value for edge, value in zip(edges, estimate, strict=True)}
    for name in ("L0H0->logits", "L0H1->L1H0<v>", "L1H0->logits", "MLP1->logits"):
        assert by_name[name] == found[name], name


def test_there_is_no_edge_against_the_computation():
    """Nothing flows from an MLP to a head of its own layer."""
    assert Edge(MLP0, L0H1, "v") not in possible_edges([MLP0, L0H1])
