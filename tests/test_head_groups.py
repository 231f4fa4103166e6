"""Path patching of heads equals hooks on the plain model, and finds the heads that were planted in a look-up model."""

import random

import pytest
import torch
from checkpoints import random_model, random_prompts
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.circuits.head_groups import Group, find_groups
from distilled_circuits.circuits.head_paths import METRICS, patch_senders, project_each, receiving_heads
from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

LAST = torch.full((7,), 5)
INSIDE = torch.tensor([1, 4, 2, 3, 0, 2, 5])
GROUPS = (
    Group("value_fetcher", "last", "logits", None, 1 / 6),
    Group("position_transmitter", "last", "q", "value_fetcher", 1 / 6),
    Group("position_detector", "query", "v", "position_transmitter", 1 / 6),
    Group("binder", "label", "v", "value_fetcher", 1 / 6),
)


def lively_model(name):
    """Return a random model whose heads see and write more than a fresh one's, so that paths matter."""
    model = random_model(name)
    for attention in SlowModel(model).attentions:
        for parameter in attention.parameters():
            parameter.data *= 4
    return model


class SlowModel:
    """A plain Hugging Face model under hooks of this test's own, one pass at a time."""

    def __init__(self, model):
        self.model = model
        self.heads, self.layers = model.config.num_attention_heads, model.config.num_hidden_layers
        llama = model.config.model_type == "llama"
        blocks = model.model.layers if llama else model.transformer.h
        self.attentions = [block.self_attn if llama else block.attn for block in blocks]
        self.outputs = [attention.o_proj if llama else attention.c_proj for attention in self.attentions]

    def run(self, ids, change_z):
        """Return logits, z and q, k, v by layer; `change_z` takes (layer, z, qkv), all (prompt, pos, head, d_head)."""
        z, qkv, hooks = {}, [{} for _ in range(self.layers)], []
        for layer, (attention, output) in enumerate(zip(self.attentions, self.outputs, strict=True)):
            hooks += self.read_qkv(attention, qkv[layer])

            def edit(_module, args, layer=layer):
                z[layer] = change_z(layer, args[0].unflatten(-1, (self.heads, -1)).clone(), qkv[layer])
                return (z[layer].flatten(-2),)

            hooks.append(output.register_forward_pre_hook(edit))
        logits = self.model(ids).logits
        for hook in hooks:
            hook.remove()
        return logits, z, qkv

    def read_qkv(self, attention, kept):
        """Keep what the projections return, a copy of each key and value for every query head."""
        size = attention.head_dim

        def keep(name, flat):
            heads = flat.unflatten(-1, (-1, size))
            kept[name] = heads.repeat_interleave(self.heads // heads.shape[-2], dim=-2)

        if hasattr(attention, "c_attn"):

            def split(_module, _args, out):
                for name, part in zip("qkv", out.chunk(3, -1), strict=True):
                    keep(name, part)

            return [attention.c_attn.register_forward_hook(split)]
        return [
            getattr(attention, f"{name}_proj").register_forward_hook(lambda _m, _a, out, name=name: keep(name, out))
            for name in "qkv"
        ]

    def attend(self, q, k, v):
        """Return z of one head (pos, d_head) by the formula of attention."""
        if self.model.config.model_type == "llama":
            cos, sin = self.model.model.rotary_emb(q, torch.arange(len(q))[None])
            q, k = (part[0, 0] for part in apply_rotary_pos_emb(q[None, None], k[None, None], cos, sin))
        scores = (q @ k.T / q.shape[-1] ** 0.5).masked_fill(torch.ones(len(q), len(q)).triu(1) > 0, -torch.inf)
        return scores.softmax(-1) @ v


def slow_scores(model, prompts, position, receivers, reads):
    """Patch one sender after the other in whole passes, all heads frozen prompt by prompt (spec of Prakash et al.)."""
    slow = SlowModel(model)
    clean_logits, clean_z, _ = slow.run(prompts.ids, lambda _layer, z, _qkv: z)
    _, corrupted_z, _ = slow.run(prompts.corrupted, lambda _layer, z, _qkv: z)
    rows = list(enumerate(position.tolist()))

    def score(sender):
        def freeze(layer, z, _qkv):
            for row, start in rows:
                z[row, start:] = clean_z[layer][row, start:]
                if layer == sender.layer:
                    z[row, start, sender.head] = corrupted_z[layer][row, start, sender.head]
            return z

        logits, _, seen = slow.run(prompts.ids, freeze)
        if reads != "logits":

            def receive(layer, z, qkv):
                for receiver in (receiver for receiver in receivers if receiver.layer == layer):
                    for row, at in rows:
                        parts = {name: qkv[name][row, :, receiver.head].clone() for name in "qkv"}
                        parts[reads][at] = seen[layer][reads][row, at, receiver.head]
                        z[row, :, receiver.head] = slow.attend(**parts)
                return z

            logits, _, _ = slow.run(prompts.ids, receive)
        p, clean = (
            out[:, -1].double().softmax(-1)[range(len(rows)), prompts.answers] for out in (logits, clean_logits)
        )
        return ((p - clean) / clean).mean().item()

    return [score(Component(layer, head)) for layer in range(slow.layers) for head in range(slow.heads)]


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("position", "reads"), [(LAST, "logits"), (LAST, "q"), (INSIDE, "q"), (INSIDE, "k"), (INSIDE, "v"), (LAST - 2, "v")]
)
def test_patching_equals_hooks_on_the_plain_model(name, position, reads):
    """Every sender, receivers in two layers, positions that differ between prompts, batches that do not divide."""
    model, prompts = lively_model(name), random_prompts()
    receivers = [] if reads == "logits" else [Component(2, 1), Component(1, 3), Component(2, 2)]
    found = patch_senders(HookLens(model), prompts, position, receivers, reads, batch_size=5)
    heads = model.config.num_attention_heads
    reached = 3 * heads if reads == "logits" else 2 * heads
    expected = slow_scores(model, prompts, position, receivers, reads)
    assert found[:reached].tolist() == pytest.approx(expected[:reached], rel=1e-3, abs=3e-6)
    assert found[:reached].abs().max() > 3e-4
    assert found[reached:].isnan().all()
    assert expected[reached:] == pytest.approx([0] * (3 * heads - reached), abs=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("reads", ["logits", "q", "k", "v"])
def test_without_corruption_every_score_is_exactly_zero(name, reads):
    """Clean prompts as their own corrupted partners."""
    prompts = random_prompts(corrupted_seed=1)
    receivers = [] if reads == "logits" else [Component(2, 0), Component(1, 4)]
    found = patch_senders(HookLens(random_model(name)), prompts, LAST, receivers, reads, 64)
    assert (found[: 15 if reads == "logits" else 10] == 0).all()


@pytest.mark.parametrize("reads", ["k", "v"])
def test_others_of_a_key_value_group_read_what_they_did(reads):
    """Of three query heads with one key and value, the receiver alone changes, from the patched position on."""
    lens, prompts = HookLens(random_model("llama")), random_prompts()
    blocks, layer = Blocks(lens), 1
    _, cache = lens.cache(prompts.ids, [("resid_pre", layer), ("z", layer)])
    resid = cache["resid_pre", layer]
    read = project_each(blocks, layer, reads, torch.randn(7, 24, generator=torch.Generator().manual_seed(0)))
    z = receiving_heads(blocks, layer, resid, reads, read, INSIDE, [4])
    others = [0, 1, 2, 3, 5]
    assert z[:, :, others].flatten().tolist() == pytest.approx(
        cache["z", layer][:, :, others].flatten().tolist(), abs=1e-6
    )
    for row, start in enumerate(INSIDE.tolist()):
        changed = (z[row, :, 4] - cache["z", layer][row, :, 4]).abs().amax(-1) > 1e-4
        assert not changed[:start].any()
        # The key of the first position alone has no rival to lose or win against.
        assert changed[max(start, 1) :].all() if reads == "k" else changed[start:].all()


def test_log_probability_is_a_ratio_of_means():
    """From log-probabilities -1 and -3 to -2 and -4 it falls by half of its size; probabilities fall by 1 - 1/e."""
    clean, patched = torch.tensor([-1.0, -3.0]), torch.tensor([[-2.0, -4.0], [-1.0, -3.0]])
    assert METRICS["log_probability"](clean, patched).tolist() == [-0.5, 0]
    assert METRICS["probability"](clean, patched).tolist() == pytest.approx([torch.e**-1 - 1, 0])


def plant(module, weight):
    """Set a weight (in, out) as Conv1D keeps it, without bias."""
    module.weight.data = weight
    module.bias.data.zero_()


def look_up_model(noise):
    """Return a GPT-2 that looks up an object by its label, with two layers of three heads of width 8.

    Channels: tokens 0-6 (three objects, three labels, "the"), positions 8-15, moved objects 16-18, output 20-22. L0H1
    attends to the position before and moves its object; L1H2 attends to the same label and fetches what was moved
    there. All other heads write noise of a size.
    """
    config = GPT2Config(
        vocab_size=7, n_positions=8, n_embd=24, n_layer=2, n_head=3, n_inner=4, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    one = torch.eye(24)
    model.transformer.wte.weight.data, model.transformer.wpe.weight.data = one[:7].clone(), one[8:16].clone()
    model.transformer.ln_f = torch.nn.Identity()
    model.lm_head.weight.data = torch.zeros(7, 24)
    model.lm_head.weight.data[:3] = 10 * one[20:23]
    for layer, (block, head) in enumerate(zip(model.transformer.h, (1, 2), strict=True)):
        block.ln_1, block.ln_2 = torch.nn.Identity(), torch.nn.Identity()
        plant(block.mlp.c_fc, torch.zeros(24, 4))
        plant(block.mlp.c_proj, torch.zeros(4, 24))
        q, k, v = torch.randn(3, 24, 24)
        out = noise * torch.randn(24, 24)
        own = slice(8 * head, 8 * head + 8)
        q[:, own] = k[:, own] = v[:, own] = out[own] = 0
        if layer == 0:
            for position in range(8):
                k[8 + position, 8 * head + position] = 8
                q[8 + position, 8 * head + max(position - 1, 0)] = 8
        for index in range(3):
            if layer == 1:
                q[3 + index, 8 * head + index] = k[3 + index, 8 * head + index] = 8
            v[index if layer == 0 else 16 + index, 8 * head + index] = 1
            out[8 * head + index, (16 if layer == 0 else 20) + index] = 1
        plant(block.attn.c_attn, torch.cat([q, k, v], dim=1))
        plant(block.attn.c_proj, out)
    return model.eval().requires_grad_(requires_grad=False)


def look_up_prompts(number=24):
    """Return prompts "object label" three times, "the", label; partners with other objects, labels and query; roles."""
    rng = random.Random(0)
    ids, corrupted, answers, labels = [], [], [], []
    for _ in range(number):
        objects, names, slot = rng.sample(range(3), 3), rng.sample(range(3, 6), 3), rng.randrange(3)
        pairs = list(zip(objects, names, strict=True))
        ids.append([token for pair in pairs for token in pair] + [6, names[slot]])
        other = list(zip(objects[1:] + objects[:1], names[1:] + names[:1], strict=True))
        corrupted.append([token for pair in other for token in pair] + [6, names[slot - 1]])
        answers.append(objects[slot])
        labels.append(2 * slot + 1)
    prompts = PromptTensors(
        torch.tensor(ids), torch.tensor(answers), (torch.tensor(answers) + 1) % 3, torch.tensor(corrupted)
    )
    positions = {"last": torch.full((number,), 7), "query": torch.full((number,), 7), "label": torch.tensor(labels)}
    return prompts, positions


@pytest.mark.parametrize("noise", [0, 0.005])
def test_planted_heads_are_found(noise):
    """The fetcher is found at the end and, through its values, the binder at the label; each falls by most of p."""
    lens = HookLens(look_up_model(noise))
    prompts, positions = look_up_prompts()
    assert (lens.logits(prompts.ids).argmax(-1) == prompts.answers).all()
    found = find_groups(lens, prompts, positions, GROUPS, 40)
    assert found["value_fetcher"].heads == (Component(1, 2),)
    assert found["binder"].heads == (Component(0, 1),)
    for name, index in (("value_fetcher", 5), ("binder", 1)):
        scores = found[name].scores
        assert scores[index] < -0.8
        assert (scores[torch.arange(6) != index].nan_to_num() > -0.25).all()


def test_groups_that_are_not_there_stay_empty():
    """Other heads that write next to nothing are no group, so the group on top of that stays empty too."""
    prompts, positions = look_up_prompts()
    seen = []
    found = find_groups(HookLens(look_up_model(1e-6)), prompts, positions, GROUPS, 16, advance=seen.append)
    assert found["position_transmitter"].scores.nan_to_num().abs().max() < 1e-5
    assert found["position_transmitter"].heads == ()
    assert found["position_detector"].heads == ()
    assert found["position_detector"].scores.isnan().all()
    assert sum(seen) == pytest.approx(4 * 6)


def test_selection_takes_the_most_negative_and_the_later_group_at_a_position():
    """Of 15 heads 40 % are 6, in the order of their scores; one that also transmits at the last position is B's."""
    lens, prompts = HookLens(lively_model("gpt2")), random_prompts()
    groups = [
        Group("A", "last", "logits", None, 0.4),
        Group("B", "last", "q", "A", 0.4),
        Group("C", "inside", "v", "A", 0.4),
    ]
    found = find_groups(lens, prompts, {"last": LAST, "inside": INSIDE}, groups, 100)
    scores = patch_senders(lens, prompts, LAST, [], "logits", 100)
    heads = [component for component in lens.components if component.head is not None]
    first = [heads[index] for index in scores.argsort().tolist() if scores[index] < 0][:6]
    assert len(first) == 6
    second = patch_senders(lens, prompts, LAST, first, "q", 100)
    order = second.nan_to_num(nan=1).argsort().tolist()
    assert found["B"].heads == tuple(heads[index] for index in order if second[index] < -1e-5)[:6]
    assert set(first) & set(found["B"].heads), "this checkpoint should have a head for both"
    assert found["A"].heads == tuple(head for head in first if head not in found["B"].heads)
    third = patch_senders(lens, prompts, INSIDE, first, "v", 100)
    assert found["C"].scores.nan_to_num(nan=9).tolist() == third.nan_to_num(nan=9).tolist()
    assert set(found["C"].heads) & set(first), "at another position a head may serve again"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (Group("A", "last", "q", None, 0.1), "no parent"),
        (Group("A", "last", "out", None, 0.1), "choose logits, q, k or v"),
        (Group("B", "last", "q", "C", 0.1), "parent 'C' is not listed before"),
        (Group("A", "first", "logits", None, 0.1), "no position 'first'; they have inside, last"),
        (Group("A", "last", "logits", None, 0.0), "share of heads is 0.0"),
        (Group("A", "inside", "logits", None, 0.1), "only heads at the last position"),
    ],
)
def test_groups_that_do_not_fit_are_refused(group, message):
    """The message says what is wrong with the group."""
    with pytest.raises(UserError, match=message):
        find_groups(HookLens(random_model("gpt2")), random_prompts(), {"last": LAST, "inside": INSIDE}, [group], 64)


def test_models_and_prompts_that_cannot_be_patched_are_refused():
    """Later positions would react in a model that is not causal; without partners there is nothing to patch in."""
    prompts = random_prompts()
    with pytest.raises(UserError, match="bert is not"):
        patch_senders(HookLens(random_model("bert")), prompts, LAST, [], "logits", 8)
    alone = PromptTensors(prompts.ids, prompts.answers, prompts.distractors)
    with pytest.raises(UserError, match="needs corrupted prompts"):
        patch_senders(HookLens(random_model("gpt2")), alone, LAST, [], "logits", 8)
    with pytest.raises(ValueError, match="1 receivers cannot be read at logits"):
        patch_senders(HookLens(random_model("gpt2")), prompts, LAST, [Component(2, 0)], "logits", 8)
