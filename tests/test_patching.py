"""Activation patching agrees with slow loops over whole passes, and its recoveries mean what they say."""

import numpy as np
import pytest
import torch
from checkpoints import random_prompts
from slow_loops import slow_logit_difference

from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.errors import UserError
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.roles.effects import recovery, within_layer, z_within_layer
from distilled_circuits.roles.patching import Places, every_position, named_positions, patch_sweep

POSITIONS = {"last": np.full((7, 1), 5), "numerals": np.array([[1, 3]] * 4 + [[2, 4]] * 3)}


def places(prompts: PromptTensors) -> tuple[Places, Places]:
    """Return all positions and named ones, and the named ones alone."""
    named = named_positions(POSITIONS, *prompts.ids.shape)
    return every_position(*prompts.ids.shape) + named, named


def test_named_places_are_the_positions_of_each_prompt():
    """A name stands for all its positions in a prompt, `all` for the whole prompt."""
    named = named_positions(POSITIONS, 7, 6)
    assert named.names == ("last", "numerals", "all")
    assert named.masks[1, 0].tolist() == [False, True, False, True, False, False]
    assert named.masks[1, 6].tolist() == [False, False, True, False, True, False]
    assert named.masks[2].all()


@pytest.mark.parametrize("site", ["attention", "mlp", "z", "resid"])
def test_whole_outputs_equal_a_slow_loop(any_model, prompts, site):
    """Blocks, MLPs, heads and streams, at every place, against one whole pass with an edit each."""
    lens = HookLens(any_model)
    whole, named = places(prompts)
    found = patch_sweep(lens, prompts, whole, named, batch_size=10).parts[site]
    hook = {"attention": "attn_out", "mlp": "mlp_out", "z": "z", "resid": "resid_post"}[site]
    sizes = lens.dimensions
    _, clean = lens.cache(prompts.ids, [(hook, layer) for layer in range(sizes.layers)])
    for layer in range(sizes.layers):
        for head in range(sizes.heads) if site == "z" else [None]:
            for place, mask in enumerate(whole.masks):

                def patch(activation, head=head, mask=mask, layer=layer):
                    changed = activation.clone()
                    if head is None:
                        changed[mask] = clean[hook, layer][mask]
                    else:
                        changed[:, :, head][mask] = clean[hook, layer][:, :, head][mask]
                    return changed

                expected = slow_logit_difference(lens.run(prompts.corrupted, [((hook, layer), patch)]), prompts)
                ours = found[layer, place] if head is None else found[layer, head, place]
                assert torch.allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("path", ["qk", "v", "q", "qkv"])
def test_paths_into_heads_equal_a_slow_loop(any_model, prompts, path):
    """Clean inputs of one head alone, grouped queries too: its pattern and values are put together by hand."""
    lens = HookLens(any_model)
    whole, named = places(prompts)
    found = patch_sweep(lens, prompts, whole, named, batch_size=9, paths=(path,)).parts[path]
    sizes = lens.dimensions
    for layer in range(sizes.layers):
        sites = [(site, layer) for site in ("q", "k", "v")]
        clean, corrupted = (lens.cache(ids, sites)[1] for ids in (prompts.ids, prompts.corrupted))
        for place, mask in enumerate(named.masks):
            mixed = {
                site: torch.where(mask[..., None, None], clean[site, layer], corrupted[site, layer])
                if site in path
                else corrupted[site, layer]
                for site in "qkv"
            }
            edits = [((site, layer), lambda _, value=mixed[site]: value) for site in "qk"]
            _, seen = lens.cache(prompts.corrupted, [("pattern", layer)], edits)
            for head in range(sizes.heads):
                value = mixed["v"][:, :, head * sizes.kv_heads // sizes.heads]
                z = seen["pattern", layer][:, head] @ value

                def patch(activation, z=z, head=head):
                    changed = activation.clone()
                    changed[:, :, head] = z
                    return changed

                expected = slow_logit_difference(lens.run(prompts.corrupted, [(("z", layer), patch)]), prompts)
                assert torch.allclose(found[layer, head, place], expected, atol=1e-4)


def test_a_whole_head_is_its_query_key_and_value(any_model, prompts):
    """With everything that enters a head clean at all positions its z is clean: both patches are one."""
    whole, named = places(prompts)
    found = patch_sweep(HookLens(any_model), prompts, whole, named, 64, paths=("qkv",))
    everywhere = named.names.index("all")
    assert torch.allclose(found.parts["z"][:, :, -1], found.parts["qkv"][:, :, everywhere], atol=1e-4)


def test_everything_patched_recovers_everything(any_model, prompts):
    """The whole stream after any block brings back all, at all positions; after the last block the last one does.

    The tolerance is rounding of the logits, 1e-5, over the gap that is brought back.
    """
    whole, named = places(prompts)
    found = patch_sweep(HookLens(any_model), prompts, whole, named, 64)
    clean, corrupted = (part.double().numpy() for part in (found.clean, found.corrupted))
    recovered = recovery(found.parts["resid"].double().numpy(), clean, corrupted)
    rounding = 1e-5 / abs(clean.mean() - corrupted.mean())
    assert np.allclose(recovered[:, whole.names.index("all")], 1, atol=rounding)
    assert np.allclose(recovered[-1, whole.names.index("last")], 1, atol=rounding)
    assert np.allclose(recovered[-1, 0], 0, atol=rounding)


def test_nothing_is_recovered_when_clean_equals_corrupted(any_model):
    """The same prompts on both sides: every patch leaves things as they are, and its recovery is 0."""
    given = random_prompts()
    same = PromptTensors(given.ids, given.answers, given.distractors, given.ids)
    found = patch_sweep(HookLens(any_model), same, *places(same), 64)
    for values in found.parts.values():
        assert torch.allclose(values, found.clean.expand_as(values), atol=1e-4)
        recovered = recovery(values.numpy(), found.clean.numpy(), found.corrupted.numpy())
        assert np.array_equal(recovered, np.zeros_like(recovered))


def test_batches_do_not_matter(gpt2, prompts):
    """Prompts and places cut at any size give the same."""
    whole, named = places(prompts)
    results = [patch_sweep(HookLens(gpt2), prompts, whole, named, size).parts for size in (1, 5, 1000)]
    for name, values in results[0].items():
        assert all(torch.allclose(values, other[name], atol=1e-4) for other in results[1:])


def test_prompts_without_partners_are_refused(gpt2, prompts):
    """There is nothing to patch into."""
    alone = PromptTensors(prompts.ids, prompts.answers, prompts.distractors)
    with pytest.raises(UserError, match="needs corrupted prompts"):
        patch_sweep(HookLens(gpt2), alone, *places(prompts), 64)


def test_recovery_and_its_normalisations_by_hand():
    """Clean 4 and 6, corrupted 1 and 1: a mean of 3 recovers half; shares of a layer add up in absolute value."""
    clean, corrupted = np.array([4.0, 6]), np.array([1.0, 1])
    assert recovery(np.array([[3.0, 3], [1, 1], [0, 0]]), clean, corrupted).tolist() == [0.5, 0, -0.25]
    shares = within_layer(np.array([[0.5, -0.25, 0.25], [0, 0, 0]]))
    assert shares.tolist() == [[0.5, -0.25, 0.25], [0, 0, 0]]
    assert within_layer(np.array([[1.0, -3], [2, 2]])).tolist() == [[0.25, -0.75], [0.5, 0.5]]
    assert z_within_layer(np.array([[1.0, 1, 4], [2, 2, 2]])) == pytest.approx(
        np.array([[-1, -1, 2], [0, 0, 0]]) / 2**0.5
    )
