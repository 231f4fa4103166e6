"""Joint ablations, pruning and the evaluation of circuits agree with slow loops over whole passes."""

import numpy as np
import pytest
import torch
from checkpoints import random_model, random_prompts
from slow_loops import slow_ablation, slow_difference, slow_means

from distilled_circuits.circuits.ablation import PromptTensors, ablate, constant, mean_activations, replacement
from distilled_circuits.circuits.evaluation import evaluate_circuit, random_circuit, size_curve
from distilled_circuits.circuits.node_sets import NodeSets
from distilled_circuits.circuits.pruning import NoCircuitError, prune_nodes, visiting_order
from distilled_circuits.circuits.stability import jaccard_to, resampled_circuits
from distilled_circuits.errors import UserError
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

CHOSEN = [Component(0, 1), Component(0, 4), Component(1), Component(2, 0), Component(2)]


def node_sets(model, prompts: PromptTensors, batch_size: int = 3, **settings) -> NodeSets:
    """Return the sets of a model with means over the corrupted prompts."""
    lens = HookLens(model)
    return NodeSets(lens, prompts, replacement(lens, "corrupted_mean", prompts, 64), batch_size, **settings)


def with_a_task(model, prompts: PromptTensors) -> tuple[PromptTensors, float]:
    """Give each prompt the two tokens that its components tell apart most, and a threshold that splits the nodes."""
    lens = HookLens(model)
    means = mean_activations(lens, prompts.corrupted, 64)
    full, nothing = (
        logits[:, :, None] - logits[:, None, :]
        for logits in (lens.logits(prompts.ids), lens.run(prompts.ids, ablate(lens.components, means)))
    )
    best = torch.minimum(full, full - nothing).flatten(1).argmax(1)
    rows = torch.arange(len(prompts))
    left = nothing.flatten(1)[rows, best].mean() / full.flatten(1)[rows, best].mean()
    chosen = PromptTensors(prompts.ids, best // full.shape[1], best % full.shape[1], prompts.corrupted)
    return chosen, min(0.9, (1 - left.item()) / 2)


def test_joint_ablation_equals_a_slow_loop(any_model, prompts):
    """Several heads of one layer, of others, and MLPs, all at once."""
    with slow_ablation(any_model, CHOSEN, *slow_means(any_model, prompts.corrupted)):
        expected = slow_difference(any_model, prompts)
    assert np.allclose(node_sets(any_model, prompts).differences(CHOSEN), expected, atol=1e-4)


def test_nested_means_equal_a_slow_loop(any_model, prompts):
    """Means of removed MLPs are of corrupted prompts on which the removed heads, and no MLPs, are already ablated."""
    z_mean, mlp_mean = slow_means(any_model, prompts.corrupted)
    with slow_ablation(any_model, [node for node in CHOSEN if node.head is not None], z_mean, mlp_mean):
        _, nested = slow_means(any_model, prompts.corrupted)
    with slow_ablation(any_model, CHOSEN, z_mean, nested):
        expected = slow_difference(any_model, prompts)
    found = node_sets(any_model, prompts, nested_over=prompts.corrupted).differences(CHOSEN)
    assert np.allclose(found, expected, atol=1e-4)
    assert not np.allclose(found, node_sets(any_model, prompts).differences(CHOSEN), atol=1e-4)


def test_resampled_values_are_each_prompts_own(any_model, prompts):
    """A joint ablation by resampling gives each prompt the outputs of its own partner, also across batches."""
    lens = HookLens(any_model)
    sets = NodeSets(lens, prompts, replacement(lens, "resample", prompts, 64), 3)
    expected = []
    for row in range(len(prompts)):
        one = prompts.rows(row, row + 1)
        with slow_ablation(any_model, CHOSEN, *slow_means(any_model, one.corrupted)):
            expected.append(slow_difference(any_model, one).item())
    assert np.allclose(sets.differences(CHOSEN), expected, atol=1e-4)


@pytest.mark.parametrize("nested", [False, True])
def test_what_is_held_does_not_change_results(any_model, prompts, nested):
    """Any order of holding and asking gives what a fresh start gives."""
    over = prompts.corrupted if nested else None
    used = node_sets(any_model, prompts, nested_over=over)
    generator = np.random.default_rng(0)
    for _ in range(6):
        held, asked = (
            {component for component in used.components if generator.random() < share} for share in (0.3, 0.5)
        )
        used.hold(held)
        for removed in (asked, held | asked, held):
            fresh = node_sets(any_model, prompts, nested_over=over).differences(removed)
            assert np.allclose(used.differences(removed), fresh, atol=1e-5)


def test_a_set_is_run_once(gpt2, prompts):
    """Asking again, in another order, gives the remembered values."""
    sets = node_sets(gpt2, prompts)
    first = sets.differences(CHOSEN)
    assert sets.differences(CHOSEN[::-1]) is first
    assert len(sets) == 1


def test_ablating_everything_leaves_no_trace_of_the_prompt(gpt2, prompts):
    """With all components at their means, prompts that end in the same token give the same logit difference."""
    ids = prompts.ids.clone()
    ids[:, -1] = 5
    same = torch.full((len(ids),), 3)
    sets = node_sets(gpt2, PromptTensors(ids, same, same + 1, prompts.corrupted))
    assert np.ptp(sets.differences(sets.components)) < 1e-4


def slow_pruning(model, prompts, threshold: float, heads: int, layers: int, weights=None) -> set[Component]:
    """Prune by the text of the paper: full passes, no cache, a list of what is removed."""
    means = slow_means(model, prompts.corrupted)
    weights = np.full(len(prompts), 1 / len(prompts)) if weights is None else weights
    full = weights @ slow_difference(model, prompts).double().numpy()
    removed, direction = [], "backward"
    while True:
        before = len(removed)
        for component in visiting_order(layers, heads, direction):
            if component in removed:
                continue
            with slow_ablation(model, [*removed, component], *means):
                retained = weights @ slow_difference(model, prompts).double().numpy() / full
            if 1 - retained < threshold:
                removed.append(component)
        if len(removed) == before:
            return set(removed)
        direction = "forward" if direction == "backward" else "backward"


def test_pruning_equals_a_slow_loop(any_model, prompts):
    """Restarted pruning takes the same decisions as full passes over everything."""
    prompts, threshold = with_a_task(any_model, prompts)
    sets = node_sets(any_model, prompts)
    pruned = prune_nodes(sets, threshold)
    removed = slow_pruning(any_model, prompts, threshold, sets.dimensions.heads, 3)
    assert set(pruned.nodes) == set(sets.components) - removed
    assert 0 < len(pruned.nodes) < len(sets.components)
    assert sets.only(pruned.nodes).mean() > (1 - threshold) * sets.differences(()).mean()


def test_pruning_on_a_resample_equals_pruning_with_repeated_prompts(gpt2, prompts):
    """Weights stand for how often a prompt was drawn; two thresholds share the sets that both come by."""
    prompts, threshold = with_a_task(gpt2, prompts)
    weights = np.array([3, 0, 1, 1, 0, 2, 0]) / 7
    sets = node_sets(gpt2, prompts)
    nodes = prune_nodes(sets, threshold, weights).nodes
    removed = slow_pruning(gpt2, prompts, threshold, sets.dimensions.heads, 3, weights)
    assert set(nodes) == set(sets.components) - removed
    before = len(sets)
    prune_nodes(sets, threshold, weights)
    assert len(sets) == before


def test_visiting_order_is_the_papers():
    """Backward: last layer first, MLP before heads; forward: first layer first, heads before MLP."""
    assert [str(c) for c in visiting_order(2, 2, "backward")] == ["MLP1", "L1H0", "L1H1", "MLP0", "L0H0", "L0H1"]
    assert [str(c) for c in visiting_order(2, 2, "forward")] == ["L0H0", "L0H1", "MLP0", "L1H0", "L1H1", "MLP1"]


def test_pruning_without_a_logit_difference_is_refused(gpt2, prompts):
    """Shares of nothing mean nothing: the message says what to do."""
    pointless = PromptTensors(prompts.ids, prompts.answers, prompts.answers, prompts.corrupted)
    with pytest.raises(UserError, match=r"no circuit to look for.*too near zero.*raise prompts\.number"):
        prune_nodes(node_sets(gpt2, pointless), 0.2)


def test_a_model_that_prefers_the_distractor_has_no_circuit(gpt2, prompts):
    """A clearly negative logit difference is a finding of its own."""
    prompts, _ = with_a_task(gpt2, prompts)
    swapped = PromptTensors(prompts.ids, prompts.distractors, prompts.answers, prompts.corrupted)
    with pytest.raises(NoCircuitError, match="prefers the distractor"):
        prune_nodes(node_sets(gpt2, swapped), 0.2)


def test_an_empty_circuit_says_where_the_logit_difference_comes_from(gpt2, prompts):
    """A model that needs no component for its logit difference has an empty circuit, and the message what to do."""
    gpt2.lm_head.weight.data[3] = 50 * torch.randn(20, generator=torch.Generator().manual_seed(1))
    same = torch.full((len(prompts),), 3)
    end = prompts.ids.clone()
    end[:, -1] = 9
    lens = HookLens(gpt2)
    gpt2.transformer.wte.weight.data[9] = 300 * torch.sign(gpt2.lm_head.weight[3])
    easy = PromptTensors(end, same, same + 1, end.flip(0))
    assert lens.logits(end)[:, 3].min() > lens.logits(end)[:, 4].max()
    pruned = prune_nodes(node_sets(gpt2, easy), 0.9)
    assert pruned.nodes == ()
    assert "embedding and biases alone" in pruned.problem
    assert "lower circuit.threshold" in pruned.problem


def test_a_circuit_is_judged_by_whole_ablations(gpt2, prompts):
    """Only the circuit, without it, and without each of its nodes, against slow joint ablations."""
    sets = node_sets(gpt2, prompts)
    means = slow_means(gpt2, prompts.corrupted)
    found = evaluate_circuit(sets, CHOSEN, 2, np.random.default_rng(0))
    outside = [component for component in sets.components if component not in CHOSEN]
    for values, removed in [
        (found.full, []),
        (found.only_circuit, outside),
        (found.without_circuit, CHOSEN),
        *((found.without_node[index], [*outside, node]) for index, node in enumerate(CHOSEN)),
    ]:
        with slow_ablation(gpt2, removed, *means):
            assert np.allclose(values, slow_difference(gpt2, prompts), atol=1e-4)
    assert found.random.shape == (2, len(prompts))


def test_random_circuits_have_as_many_heads_and_mlps(gpt2, prompts):
    """Three heads and two MLPs, without repetition, and another draw each time."""
    sets = node_sets(gpt2, prompts)
    rng = np.random.default_rng(1)
    draws = [random_circuit(sets.components, CHOSEN, rng) for _ in range(5)]
    for drawn in draws:
        assert sum(node.head is not None for node in drawn) == 3
        assert len(set(drawn)) == 5
    assert len({tuple(drawn) for drawn in draws}) > 1


def test_the_size_curve_adds_the_strongest_nodes_first(gpt2, prompts):
    """From the model without any node to the whole one, sizes in equal steps."""
    sets = node_sets(gpt2, prompts)
    drop = np.arange(18.0)
    sizes, values = size_curve(sets, drop, 4)
    assert sizes.tolist() == [0, 6, 12, 18]
    assert np.array_equal(values[0], sets.differences(sets.components))
    assert np.array_equal(values[1], sets.only(sets.components[12:]))
    assert np.array_equal(values[3], sets.differences(()))


def test_resampled_circuits_are_compared_with_the_one_on_all_prompts(gpt2):
    """Every resample's selection is a pruning with its weights; overlap is counted against all prompts."""
    prompts, threshold = with_a_task(gpt2, random_prompts(12, corrupted_seed=4))
    sets = node_sets(gpt2, prompts, 12)
    found = resampled_circuits(sets, threshold, 4, np.random.default_rng(0))
    assert found.reference == prune_nodes(sets, threshold).nodes
    assert found.selected.shape == (4 - found.failed, 18)
    reference = set(found.reference)
    for row, jaccard in zip(found.selected, found.jaccard, strict=True):
        nodes = {component for component, kept in zip(sets.components, row, strict=True) if kept}
        assert jaccard == pytest.approx(len(nodes & reference) / len(nodes | reference))


def test_overlap_by_hand():
    """{a, b} against {a, b}, {b, c} and nothing; two empty selections agree."""
    assert jaccard_to([True, True, False], np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)).tolist() == [1, 1 / 3, 0]
    assert jaccard_to([False], np.array([[False]])).tolist() == [1]


def test_constant_values_are_the_same_for_every_batch(gpt2, prompts):
    """A replacement by means does not depend on the batch."""
    values = mean_activations(HookLens(gpt2), prompts.corrupted, 64)
    assert constant(values)(prompts) is constant(values)(prompts.rows(0, 2)) is values


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "distilbert"])
def test_a_model_without_all_its_components_costs_no_attention(name, prompts, monkeypatch):
    """What is replaced is not computed: with everything ablated no head and no MLP is run."""
    sets = node_sets(random_model(name), prompts)
    monkeypatch.setattr(sets._blocks, "heads", None)
    monkeypatch.setattr(sets._blocks, "mlp", None)
    assert np.isfinite(sets.differences(sets.components)).all()
