"""The sweep, joint ablations, pruning and paths agree with slow loops that know nothing of the lens."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from checkpoints import random_model, random_prompts

from distilled_circuits.circuits.ablation import Means, PromptTensors, ablate, mean_activations
from distilled_circuits.circuits.evaluation import ablated_differences, evaluate_circuit
from distilled_circuits.circuits.influence import influence_sweep
from distilled_circuits.circuits.paths import Receiver, contribution_change, patch_path
from distilled_circuits.circuits.pruning import prune_nodes, visiting_order
from distilled_circuits.errors import UserError
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

OUTPUT_PROJECTION = {
    "gpt2": lambda block: (block.attn.c_proj, block.mlp),
    "llama": lambda block: (block.self_attn.o_proj, block.mlp),
    "bert": lambda block: (block.attention.output.dense, block.output.dense),
    "distilbert": lambda block: (block.attention.out_lin, block.ffn),
}
BLOCKS = {
    "gpt2": lambda model: model.transformer.h,
    "llama": lambda model: model.model.layers,
    "bert": lambda model: model.bert.encoder.layer,
    "distilbert": lambda model: model.distilbert.transformer.layer,
}


def slow_means(model, ids: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return per-position means of what enters each W_O and of what each MLP returns, one prompt at a time."""
    z_rows, mlp_rows = [], []
    for row in ids:
        z, outputs, hooks = [], [], []
        for block in BLOCKS[model.config.model_type](model):
            projection, mlp = OUTPUT_PROJECTION[model.config.model_type](block)
            hooks.append(projection.register_forward_pre_hook(lambda _m, args, z=z: z.append(args[0][0])))
            hooks.append(mlp.register_forward_hook(lambda _m, _a, out, outputs=outputs: outputs.append(out[0])))
        model(row[None])
        for hook in hooks:
            hook.remove()
        z_rows.append(torch.stack(z))
        mlp_rows.append(torch.stack(outputs))
    return torch.stack(z_rows).mean(0), torch.stack(mlp_rows).mean(0)


@contextmanager
def slow_ablation(model, components, z_mean, mlp_mean) -> Iterator[None]:
    """Replace components by their means with hooks of this test's own, a hook for each component."""
    hooks = []
    width = z_mean.shape[-1] // model.config.num_attention_heads
    for component in components:
        block = BLOCKS[model.config.model_type](model)[component.layer]
        projection, mlp = OUTPUT_PROJECTION[model.config.model_type](block)
        if component.head is None:
            hooks.append(mlp.register_forward_hook(lambda _m, _a, out, n=component.layer: mlp_mean[n].expand_as(out)))
            continue

        def replace(_module, args, n=component.layer, h=component.head):
            flat = args[0].clone()
            flat[..., h * width : (h + 1) * width] = z_mean[n][:, h * width : (h + 1) * width]
            return (flat,)

        hooks.append(projection.register_forward_pre_hook(replace))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def slow_difference(model, prompts: PromptTensors) -> torch.Tensor:
    """Return logit differences at the last position, prompt by prompt."""
    rows = zip(prompts.ids, prompts.answers, prompts.distractors, strict=True)
    return torch.stack([model(ids[None]).logits[0, -1, a] - model(ids[None]).logits[0, -1, d] for ids, a, d in rows])


def slow_sweep(model, prompts: PromptTensors, z_mean, mlp_mean, components) -> torch.Tensor:
    """Ablate one component at a time in full forward passes."""
    rows = []
    for component in components:
        with slow_ablation(model, [component], z_mean, mlp_mean):
            rows.append(slow_difference(model, prompts))
    return torch.stack(rows)


CORRUPTED = random_prompts(seed=2).ids


def test_means_are_those_of_a_slow_loop(any_model):
    """Streamed means over batches equal means over prompts run one by one."""
    means = mean_activations(HookLens(any_model), CORRUPTED, batch_size=3)
    z_mean, mlp_mean = slow_means(any_model, CORRUPTED)
    assert torch.allclose(means.z.flatten(-2), z_mean, atol=1e-5)
    assert torch.allclose(means.mlp_out, mlp_mean, atol=1e-5)


def test_sweep_equals_a_slow_loop(any_model, prompts):
    """Every component's and prompt's logit difference agrees to 1e-4, also when batches cut the prompts."""
    lens = HookLens(any_model)
    means = mean_activations(lens, CORRUPTED, 64)
    expected = slow_sweep(any_model, prompts, *slow_means(any_model, CORRUPTED), lens.components)
    for batch_size in (3, 15, 1000):
        sweep = influence_sweep(lens, prompts, means, batch_size)
        assert torch.allclose(sweep.ablated, expected, atol=1e-4)
        assert torch.allclose(sweep.unablated, slow_difference(any_model, prompts), atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_sweep_through_both_engines_agrees(name, prompts):
    """Plain hooks and TransformerBridge give the same influence to 1e-4."""
    ours, theirs = HookLens(random_model(name)), BridgeLens(random_model(name))
    means = mean_activations(ours, CORRUPTED, 64)
    first, second = (influence_sweep(lens, prompts, means, 20) for lens in (ours, theirs))
    assert torch.allclose(first.ablated, second.ablated, atol=1e-4)
    assert torch.allclose(first.unablated, second.unablated, atol=1e-4)


def test_sweep_reports_every_component_once(gpt2, prompts):
    """Progress adds up to the number of components."""
    lens = HookLens(gpt2)
    done = []
    influence_sweep(lens, prompts, mean_activations(lens, CORRUPTED, 64), 4, advance=done.append)
    assert sum(done) == pytest.approx(len(lens.components))


def test_joint_ablation_equals_a_slow_loop(any_model, prompts):
    """Several heads of one layer, of others, and MLPs, all at once."""
    lens = HookLens(any_model)
    means = mean_activations(lens, CORRUPTED, 64)
    chosen = [Component(0, 1), Component(0, 4), Component(1), Component(2, 0), Component(2)]
    with slow_ablation(any_model, chosen, *slow_means(any_model, CORRUPTED)):
        expected = slow_difference(any_model, prompts)
    assert torch.allclose(ablated_differences(lens, prompts, means, chosen, 4), expected, atol=1e-4)


def test_ablating_everything_leaves_no_trace_of_the_prompt(gpt2):
    """With all components at their means, prompts that end in the same token give the same logit difference."""
    lens = HookLens(gpt2)
    means = mean_activations(lens, CORRUPTED, 64)
    ids = random_prompts().ids.clone()
    ids[:, -1] = 5
    same = torch.full((len(ids),), 3)
    values = ablated_differences(lens, PromptTensors(ids, same, same + 1), means, lens.components, 64)
    assert torch.allclose(values, values[:1].expand_as(values), atol=1e-4)


def slow_pruning(model, prompts, means: Means, threshold: float, heads: int, layers: int):
    """Prune by the text of the paper: full passes, no cache, a list of what is removed."""
    flat = (means.z.flatten(-2), means.mlp_out)
    full = slow_difference(model, prompts).double().mean()
    removed, direction = [], "backward"
    while True:
        before = len(removed)
        for component in visiting_order(layers, heads, direction):
            if component in removed:
                continue
            with slow_ablation(model, [*removed, component], *flat):
                retained = slow_difference(model, prompts).double().mean() / full
            if 1 - retained < threshold:
                removed.append(component)
        if len(removed) == before:
            return set(removed)
        direction = "forward" if direction == "backward" else "backward"


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "distilbert"])
def test_pruning_equals_a_slow_loop(name):
    """Restarted pruning takes the same decisions as full passes over everything."""
    model = random_model(name)
    prompts = random_prompts()
    lens = HookLens(model)
    means = mean_activations(lens, CORRUPTED, 64)
    # For each prompt the two tokens whose difference is largest and comes from the components, not from biases.
    full, nothing = (
        logits[:, :, None] - logits[:, None, :]
        for logits in (lens.logits(prompts.ids), lens.run(prompts.ids, ablate(lens.components, means)))
    )
    best = torch.minimum(full, full - nothing).flatten(1).argmax(1)
    prompts = PromptTensors(prompts.ids, best // full.shape[1], best % full.shape[1])
    # Half of what ablating everything costs, so that some nodes must stay and some may go.
    rows = torch.arange(len(prompts))
    left = nothing.flatten(1)[rows, best].mean() / full.flatten(1)[rows, best].mean()
    threshold = min(0.9, (1 - left.item()) / 2)
    pruned = prune_nodes(lens, prompts, means, threshold, batch_size=3)
    removed = slow_pruning(model, prompts, means, threshold, lens.dimensions.heads, 3)
    assert set(pruned.nodes) == set(lens.components) - removed
    assert 0 < len(pruned.nodes) < len(lens.components)
    kept = evaluate_circuit(lens, prompts, means, pruned.nodes, 64)
    assert kept.only_circuit.mean() > (1 - threshold) * kept.full.mean()


def test_visiting_order_is_the_papers():
    """Backward: last layer first, MLP before heads; forward: first layer first, heads before MLP."""
    assert [str(c) for c in visiting_order(2, 2, "backward")] == ["MLP1", "L1H0", "L1H1", "MLP0", "L0H0", "L0H1"]
    assert [str(c) for c in visiting_order(2, 2, "forward")] == ["L0H0", "L0H1", "MLP0", "L1H0", "L1H1", "MLP1"]


def test_pruning_without_a_logit_difference_is_refused(gpt2, prompts):
    """Shares of nothing mean nothing: the message says what to do."""
    lens = HookLens(gpt2)
    pointless = PromptTensors(prompts.ids, prompts.answers, prompts.answers)
    with pytest.raises(UserError, match="no circuit to look for"):
        prune_nodes(lens, pointless, mean_activations(lens, CORRUPTED, 64), 0.2, 64)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("sender", [Component(0, 3), Component(0)])
@pytest.mark.parametrize("part", ["q", "k", "v", "mlp", "logits"])
def test_paths_equal_a_slow_frozen_run(name, sender, part, prompts):
    """The direct path equals a run in which all components but the receiver are frozen to their clean outputs.

    The slow way: run with the sender's output replaced and every other component up to the receiver frozen; read what
    the receiver then computes; run again with only that replaced.
    """
    lens = HookLens(random_model(name))
    layers, site = range(3), "mlp_out" if sender.head is None else "z"
    names = [(n, layer) for layer in layers for n in ("z", "mlp_out")]
    _, clean = lens.cache(prompts.ids, names)
    _, corrupted = lens.cache(CORRUPTED, names)
    target = Component(2) if part == "mlp" else Component(2, 1)

    def sent(activation):
        if sender.head is None:
            return corrupted[site, 0]
        return torch.cat(
            [activation[:, :, :3], corrupted["z", 0][:, :, 3:4], activation[:, :, 4:]], dim=2
        )  # only head 3 is the corrupted one

    freeze = [(name, lambda _, value=clean[name]: value) for name in names if name != (site, sender.layer)]
    frozen = [((site, sender.layer), lambda _: sent(clean[site, sender.layer])), *freeze]
    if part == "logits":
        expected = lens.run(prompts.ids, frozen)
    else:
        where = ("mlp_out" if part == "mlp" else part, 2)
        upstream = [edit for edit in frozen if edit[0][1] < 2 or (part == "mlp" and edit[0] == ("z", 2))]
        _, seen = lens.cache(prompts.ids, [where], upstream)

        def received(activation):
            if part == "mlp":
                return seen[where]
            index = 1 * lens.dimensions.kv_heads // lens.dimensions.heads if part != "q" else 1
            activation = activation.clone()
            activation[:, :, index] = seen[where][:, :, index]
            return activation

        expected = lens.run(prompts.ids, [(where, received)])
    before, after = clean[site, 0], corrupted[site, 0]
    if sender.head is not None:
        before, after = before[:, :, sender.head], after[:, :, sender.head]
    change = contribution_change(lens, sender, before, after)
    receiver = Receiver(part, None if part == "logits" else target)
    assert torch.allclose(patch_path(lens, prompts.ids, sender, change, receiver), expected, atol=1e-4)
