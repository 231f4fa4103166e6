"""Parts add up to the logit difference; the logit lens and the scores of heads' outputs are the model's own."""

import numpy as np
import pytest
import torch
from checkpoints import random_model
from slow_loops import slow_difference

from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.roles.output_scores import promoted
from distilled_circuits.roles.readout import logit_lens, residual_attribution, why_no_attribution


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_attribution_adds_up_to_the_logit_difference(name, prompts):
    """At the last position the parts sum to the model's own logit difference, at others to what would be read there."""
    model = random_model(name)
    lens = HookLens(model)
    found = residual_attribution(lens, prompts, batch_size=3)
    assert np.allclose(found.total[:, -1], slow_difference(model, prompts), atol=1e-4)
    logits = model(prompts.ids).logits
    rows = torch.arange(len(prompts))
    for position in range(prompts.ids.shape[1]):
        expected = logits[rows, position, prompts.answers] - logits[rows, position, prompts.distractors]
        assert np.allclose(found.total[:, position], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_each_part_is_its_own_output_through_the_held_norm(name, prompts):
    """An MLP's attribution is the change of the logit difference per unit of its output, the norm's scale being held.

    Worked out by the derivative of a norm whose scale is a constant, for each MLP and prompt.
    """
    model = random_model(name)
    lens = HookLens(model)
    found = residual_attribution(lens, prompts, batch_size=64)
    blocks = Blocks(lens)
    layers = range(lens.dimensions.layers)
    _, cache = lens.cache(prompts.ids, [*(("mlp_out", layer) for layer in layers), ("resid_post", layers[-1])])
    last = cache["resid_post", layers[-1]][:, -1]
    apart = blocks.unembedding.weight[prompts.answers] - blocks.unembedding.weight[prompts.distractors]
    centre = last.mean(-1, keepdim=True) if name == "gpt2" else 0.0
    scale = (last - centre).square().mean(-1, keepdim=True).add(1e-5 if name == "gpt2" else 1e-6).sqrt()
    for layer in layers:
        out = cache["mlp_out", layer][:, -1]
        written = (out - (out.mean(-1, keepdim=True) if name == "gpt2" else 0.0)) / scale * blocks.final_norm.weight
        assert np.allclose(found.mlp[:, layer, -1], (written * apart).sum(-1), atol=1e-4)


def test_models_whose_stream_is_no_sum_say_so():
    """BERT's norms stand behind the additions: there is no attribution, and a reason instead."""
    assert "no sum" in why_no_attribution(Blocks(HookLens(random_model("bert"))))
    assert why_no_attribution(Blocks(HookLens(random_model("gpt2")))) is None


def test_the_hand_model_by_hand(hand_model):
    """The prompt ends in channel 1 with 4, against the answer; the other parts are those of `test_hand_model`."""
    from test_hand_model import PROMPT

    found = residual_attribution(HookLens(hand_model), PROMPT, 1)
    assert found.embedding[0, -1] == -4
    assert found.attention[0, :, -1].tolist() == [2 - 1, 5 + 3.5]
    assert found.mlp[0, :, -1].tolist() == [6, 11.5]
    assert found.total[0, -1] == 23


def test_the_logit_lens_ends_at_the_models_answer(any_model, prompts):
    """After the last layer ranks and probabilities are the model's; before it those of the stream, unembedded."""
    lens = HookLens(any_model)
    found = logit_lens(lens, prompts, batch_size=4)
    layers = range(lens.dimensions.layers)
    sites = [("resid_pre", 0), *(("resid_post", layer) for layer in layers)]
    logits, cache = lens.cache(prompts.ids, sites)
    assert found.ranks["answer"].shape == (len(prompts), len(layers) + 1)
    for stage, site in enumerate(sites):
        read = lens.unembed(cache[site][:, -1])
        for row, (answer, distractor) in enumerate(zip(prompts.answers, prompts.distractors, strict=True)):
            for name, token in (("answer", answer), ("distractor", distractor)):
                order = sorted(range(len(read[row])), key=lambda index, row=row, read=read: -read[row, index].item())
                assert found.ranks[name][row, stage] == order.index(token)
                assert found.probabilities[name][row, stage] == pytest.approx(
                    read[row].softmax(-1)[token].item(), abs=1e-5
                )
    assert torch.allclose(lens.unembed(cache[sites[-1]][:, -1]), logits, atol=1e-4)


@pytest.mark.parametrize("first", [1, 5])
def test_promoted_tokens_equal_a_slow_loop(any_model, prompts, first):
    """Each head's z W_O at the last token, through norm and unembedding, prompt by prompt."""
    lens = HookLens(any_model)
    found = promoted(lens, prompts.ids, {"answer": prompts.answers, "distractor": prompts.distractors}, first, 3)
    for layer in range(lens.dimensions.layers):
        _, cache = lens.cache(prompts.ids, [("z", layer)])
        weights = lens.output_weights(layer)
        for head in range(lens.dimensions.heads):
            for row in range(len(prompts)):
                written = cache["z", layer][row, -1, head] @ weights[head]
                best = lens.unembed(written[None])[0].topk(first).indices.tolist()
                assert found["answer"][layer, head, row] == (int(prompts.answers[row]) in best)
                assert found["distractor"][layer, head, row] == (int(prompts.distractors[row]) in best)
