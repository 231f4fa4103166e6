"""What the stream says on its way: what each part adds to the logit difference, and what the logit lens answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens

Array = np.ndarray


@dataclass(frozen=True)
class Attribution:
    """What each part adds to the logit difference that would be read at each position.

    `embedding` is (prompt, pos), `attention` and `mlp` (prompt, layer, pos), `constant` (prompt,) what the final norm's
    and the unembedding's biases add. Their sum is the logit difference read at that position.
    """

    embedding: Array
    attention: Array
    mlp: Array
    constant: Array

    @property
    def total(self) -> Array:
        """The logit difference (prompt, pos) that the last stream would give at each position."""
        return self.embedding + self.attention.sum(1) + self.mlp.sum(1) + self.constant[:, None]


@dataclass(frozen=True)
class LensReading:
    """What would be answered after each layer: (prompt, stage), `stage` 0 is the embedding.

    Ranks count from 0; probabilities are over the whole vocabulary.
    """

    ranks: Mapping[str, Array]
    probabilities: Mapping[str, Array]


def why_no_attribution(blocks: Blocks) -> str | None:
    """Say why the logit difference of a model is no sum over its parts; None where it is."""
    if blocks.architecture.post_norms:
        return "norms stand behind the additions of this architecture: its stream is no sum of what its parts write"
    return None


@torch.no_grad()
def residual_attribution(
    lens: HookLens, prompts: PromptTensors, batch_size: int, advance: Callable[[int], None] = lambda _: None
) -> Attribution:
    """Split the logit difference over embedding, attention and MLPs, layer by layer at every position (DC Appendix F).

    The scale of the final norm is held at what the whole stream gives it, position by position; so the parts add up
    exactly. For models whose stream is a sum (see `why_no_attribution`). `advance` is told how many prompts are done.
    """
    blocks = Blocks(lens)
    parts = []
    for batch in prompts.batches(batch_size):
        streams = _run(blocks, lens.embed(batch.ids))
        towards, constant = _direction(blocks, batch, streams[-1])
        added = [((after - before) * towards).sum(-1) for before, after in itertools.pairwise(streams)]
        embedding = (streams[0] * towards).sum(-1)
        parts.append((embedding, torch.stack(added[0::2], 1), torch.stack(added[1::2], 1), constant))
        advance(len(batch))
    return Attribution(*(torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True)))


@torch.no_grad()
def logit_lens(
    lens: HookLens, prompts: PromptTensors, batch_size: int, advance: Callable[[int], None] = lambda _: None
) -> LensReading:
    """Read the stream after each layer, where answers are read, through the final norm and the unembedding."""
    blocks = Blocks(lens)
    ranks: dict[str, list[torch.Tensor]] = {"answer": [], "distractor": []}
    probabilities: dict[str, list[torch.Tensor]] = {"answer": [], "distractor": []}
    for batch in prompts.batches(batch_size):
        streams = _run(blocks, lens.embed(batch.ids))
        read = torch.stack([blocks.read(stream) for stream in streams[::2]], dim=1)
        logits = blocks.unembedding(blocks.final(read)).float()
        chances = logits.softmax(-1)
        for name, target in (("answer", batch.answers), ("distractor", batch.distractors)):
            index = target[:, None, None].expand(-1, logits.shape[1], 1)
            ranks[name].append((logits > logits.gather(-1, index)).sum(-1))
            probabilities[name].append(chances.gather(-1, index)[..., 0])
        advance(len(batch))
    return LensReading(
        {name: torch.cat(values).cpu().numpy() for name, values in ranks.items()},
        {name: torch.cat(values).double().cpu().numpy() for name, values in probabilities.items()},
    )


def _run(blocks: Blocks, resid: torch.Tensor) -> list[torch.Tensor]:
    """Return the embedding, then each layer's stream after attention and after the block."""
    streams = [resid]
    for layer in range(blocks.dimensions.layers):
        _, mid, resid = blocks.block(layer, resid)
        streams += [mid, resid]
    return streams


def _direction(blocks: Blocks, prompts: PromptTensors, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a unit of each channel adds to the logit difference (prompt, pos, d_model), and the constant."""
    unembedding = blocks.unembedding
    apart = unembedding.weight[prompts.answers].float() - unembedding.weight[prompts.distractors].float()
    bias = getattr(unembedding, "bias", None)
    constant = torch.zeros(len(prompts), device=apart.device)
    if bias is not None:
        constant = bias[prompts.answers].float() - bias[prompts.distractors].float()
    norm = blocks.final_norm
    if isinstance(norm, nn.Identity):
        return apart[:, None].expand_as(last), constant
    weighted = (apart * norm.weight.float())[:, None]
    centred = last.float()
    if isinstance(norm, nn.LayerNorm):
        centred = centred - centred.mean(-1, keepdim=True)
        # Taking the mean off the stream or off the direction gives the same product.
        weighted = weighted - weighted.mean(-1, keepdim=True)
        constant = constant + (apart * norm.bias.float()).sum(-1)
    epsilon = norm.eps if isinstance(norm, nn.LayerNorm) else norm.variance_epsilon
    return weighted * torch.rsqrt(centred.square().mean(-1, keepdim=True) + epsilon), constant
