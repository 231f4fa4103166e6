"""Both engines read and edit the same tensors, on every architecture, and restarted passes are exact."""

import dataclasses

import pytest
import torch
from checkpoints import VOCABULARY, random_model

from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.bridge import BridgeLens
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import SITES
from distilled_circuits.lens.self_check import self_check

BRIDGED = ("gpt2", "llama", "bert", "distilbert")
IDS = torch.arange(21).reshape(3, 7) * 5 % VOCABULARY


def test_logits_are_those_of_the_plain_model(any_model):
    """A lens returns the model's own logits at the last position."""
    assert torch.allclose(HookLens(any_model).logits(IDS), any_model(IDS).logits[:, -1], atol=1e-6)


def test_self_check_passes_on_every_architecture(any_model):
    """The checks at load time accept a model that is read correctly."""
    assert max(self_check(HookLens(any_model)).values()) < 1e-4


def test_self_check_notices_a_wrong_tap(gpt2, monkeypatch):
    """A lens that reads another tensor than it says is refused, with the checks that failed."""
    lens = HookLens(gpt2)
    taps = {**lens.architecture.taps, "mlp_out": lens.architecture.taps["attn_out"]}
    monkeypatch.setattr(lens, "architecture", dataclasses.replace(lens.architecture, taps=taps))
    with pytest.raises(UserError, match="sum of outputs"):
        self_check(lens)


@pytest.mark.parametrize("name", BRIDGED)
def test_both_engines_read_the_same_activations(name):
    """Every site of every layer agrees between plain hooks and TransformerBridge."""
    sites = [(site, layer) for layer in range(3) for site in SITES]
    logits, ours = HookLens(random_model(name)).cache(IDS, sites)
    bridged_logits, theirs = BridgeLens(random_model(name)).cache(IDS, sites)
    assert torch.allclose(logits, bridged_logits, atol=1e-4)
    for site in sites:
        assert torch.allclose(ours[site], theirs[site], atol=1e-4), site


@pytest.mark.parametrize("name", BRIDGED)
@pytest.mark.parametrize("site", ["z", "q", "k", "v", "mlp_out", "attn_out", "resid_pre", "resid_post"])
def test_both_engines_edit_the_same_activations(name, site):
    """Halving the first channel at a site changes the logits alike, and not at all afterwards."""

    def halve(activation):
        activation = activation.clone()
        activation[..., 0] *= 0.5
        return activation

    edits = [((site, 1), halve)]
    ours, theirs = HookLens(random_model(name)), BridgeLens(random_model(name))
    before = ours.logits(IDS)
    assert torch.allclose(ours.run(IDS, edits), theirs.run(IDS, edits), atol=1e-4)
    assert (ours.run(IDS, edits) - before).abs().max() > 1e-5
    assert torch.equal(ours.logits(IDS), before)


def test_a_restarted_pass_equals_the_full_one(any_model):
    """From any layer, with an edit at or above it, the logits are those of a full run, to the bit."""
    lens = HookLens(any_model)
    for layer in range(3):
        edits = [(("z", layer), torch.zeros_like), (("mlp_out", 2), torch.zeros_like)]
        _, cache = lens.cache(IDS, [("resid_pre", layer)])
        assert torch.equal(lens.run_from(layer, cache["resid_pre", layer], edits), lens.run(IDS, edits))


def test_an_exception_inside_an_edit_leaves_the_model_clean(any_model):
    """Hooks are removed and blocks put back even when an edit fails."""
    lens = HookLens(any_model)
    before = lens.logits(IDS)
    _, cache = lens.cache(IDS, [("resid_pre", 2)])

    def fail(_activation):
        raise RuntimeError("inside the edit")

    with pytest.raises(RuntimeError, match="inside the edit"):
        lens.run_from(2, cache["resid_pre", 2], [(("z", 2), fail)])
    assert torch.equal(lens.logits(IDS), before)


def test_edits_that_would_lie_are_refused(any_model):
    """Patterns are read only, and so is the middle of the stream where the skip connection keeps the old value."""
    lens = HookLens(any_model)
    with pytest.raises(ValueError, match="cannot be edited"):
        lens.run(IDS, [(("pattern", 0), torch.zeros_like)])
    with pytest.raises(ValueError, match="no site"):
        lens.run(IDS, [(("nonsense", 0), torch.zeros_like)])
    if not lens.architecture.post_ln:
        with pytest.raises(ValueError, match="cannot be edited"):
            lens.run(IDS, [(("resid_mid", 0), torch.zeros_like)])


def test_heads_write_z_times_their_output_weights(any_model):
    """The heads' contributions and the bias add up to the attention's output."""
    lens = HookLens(any_model)
    _, cache = lens.cache(IDS, [("z", 1), ("attn_out", 1)])
    written = torch.einsum("nphd,hdm->npm", cache["z", 1], lens.output_weights(1))
    _, zeroed = lens.cache(IDS, [("attn_out", 1)], [(("z", 1), torch.zeros_like)])
    assert torch.allclose(written + zeroed["attn_out", 1], cache["attn_out", 1], atol=1e-4)


def test_every_part_of_a_block_is_what_the_model_computes(any_model):
    """q, k, v, z, attention, MLP and both streams, computed from the stream, are those of a run; of some heads too."""
    lens = HookLens(any_model)
    blocks = Blocks(lens)
    names = ("resid_pre", "q", "k", "v", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
    logits, cache = lens.cache(IDS, [(site, 1) for site in names] + [("resid_post", 2)])
    resid = cache["resid_pre", 1]
    for which in "qkv":
        found = blocks.project(1, which, blocks.attention_input(1, resid))
        assert torch.allclose(found, cache[which, 1], atol=1e-5)
        assert torch.allclose(
            blocks.project(1, which, blocks.attention_input(1, resid), [1]), found[:, :, 1:2], atol=1e-5
        )
    z = blocks.heads(1, resid)
    assert torch.allclose(z, cache["z", 1], atol=1e-5)
    assert torch.allclose(blocks.heads(1, resid, [4, 1]), z[:, :, [4, 1]], atol=1e-5)
    assert torch.allclose(blocks.heads(1, resid, [2, 3], read_only=True), z[:, -1:, [2, 3]], atol=1e-5)
    attention = blocks.head_output(1, z) + blocks.attention_bias(1)
    assert torch.allclose(attention, cache["attn_out", 1], atol=1e-5)
    parts = blocks.head_output(1, z[:, :, [0, 2]], [0, 2]) + blocks.head_output(1, z[:, :, [1, 3, 4]], [1, 3, 4])
    others = range(5, lens.dimensions.heads)
    parts = parts + blocks.head_output(1, z[:, :, list(others)], others)
    assert torch.allclose(parts + blocks.attention_bias(1), attention, atol=1e-5)
    mid = blocks.add_attention(1, resid, attention)
    assert torch.allclose(mid, cache["resid_mid", 1], atol=1e-5)
    assert torch.allclose(blocks.mlp(1, mid), cache["mlp_out", 1], atol=1e-5)
    assert torch.allclose(blocks.add_mlp(1, mid, blocks.mlp(1, mid)), cache["resid_post", 1], atol=1e-5)
    assert torch.allclose(blocks.unembedding(blocks.final(cache["resid_post", 2]))[:, -1], logits, atol=1e-5)


def test_streams_may_have_more_axes_in_front(any_model):
    """Stacked copies of the prompts are computed as each copy alone."""
    lens = HookLens(any_model)
    blocks = Blocks(lens)
    stacked = torch.stack([lens.embed(IDS), lens.embed(IDS.flip(0))])
    assert torch.allclose(blocks.heads(0, stacked)[1], blocks.heads(0, stacked[1]), atol=1e-5)
    assert torch.allclose(blocks.mlp(0, stacked)[1], blocks.mlp(0, stacked[1]), atol=1e-5)


def test_the_embedding_is_what_the_first_block_reads(any_model):
    """Computed without running a block."""
    lens = HookLens(any_model)
    _, cache = lens.cache(IDS, [("resid_pre", 0)])
    assert torch.equal(lens.embed(IDS), cache["resid_pre", 0])
    assert torch.equal(lens.logits(IDS), HookLens(any_model).logits(IDS))


def test_self_check_notices_blocks_that_compute_something_else(gpt2):
    """A model whose attention is scaled in a way of its own is refused, not swept wrongly."""
    gpt2.transformer.h[1].attn.scaling = torch.tensor(0.3)
    lens = HookLens(gpt2)
    assert max(self_check(lens).values()) < 1e-4  # the scale is read from the module
    gpt2.config.reorder_and_upcast_attn = True
    gpt2.transformer.h[1].mlp.register_forward_hook(lambda _m, _a, out: out)
    gpt2.transformer.h[1].attn.register_forward_hook(lambda _m, _a, out: (out[0] * 2, out[1]))
    with pytest.raises(UserError, match="blocks"):
        self_check(HookLens(gpt2))


def test_component_names_round_trip():
    """Both forms of a name are read back as the same component; anything else is refused."""
    for component, name, exchange in ((Component(4, 11), "L4H11", "a4.h11"), (Component(9), "MLP9", "m9")):
        assert (str(component), component.exchange_name) == (name, exchange)
        assert Component.parse(name) == Component.parse(exchange) == component
    with pytest.raises(ValueError, match="names no component"):
        Component.parse("L4")
