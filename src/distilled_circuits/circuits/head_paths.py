"""Path patching between attention heads at one position, MLPs left to react (Prakash et al.)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut
from distilled_circuits.circuits.ablation import PromptTensors, check_finite
from distilled_circuits.circuits.paths import Trace, trace
from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

METRICS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "probability": lambda clean, patched: (patched - clean).expm1().mean(-1),
    "log_probability": lambda clean, patched: (patched - clean).mean(-1) / clean.mean().abs(),
}
"""Scores (sender,) from log-probabilities of the answer, clean (prompt,) and patched (sender, prompt).

`probability`: mean of (p_patched - p_clean) / p_clean, as in the code of Prakash et al. `log_probability`: the relative
change that CD's text names, as a ratio of means: a prompt with p near 1 would otherwise outweigh all others.
"""


@torch.no_grad()
def patch_senders(
    lens: HookLens,
    prompts: PromptTensors,
    position: torch.Tensor,
    receivers: Sequence[Component],
    reads: str,
    batch_size: int,
    *,
    metric: str = "probability",
    advance: Callable[[float], None] = lambda _: None,
) -> torch.Tensor:
    """Return the score (head,) of every head as sender at `position` (prompt,), in the order of the lens's heads.

    The sender's z at its position comes from the corrupted prompt while all other heads keep their clean z from there
    to the last token; MLPs and norms are recomputed. So the stream changes at that position alone, which is where the
    receivers' q, k or v is taken from this pass and put into the clean model, for these query heads only and not for
    others of their key-value group. Without receivers (`reads` is "logits") the answer is read from the first pass.
    Scores (see METRICS) are NaN for heads that stand above all receivers, and exactly zero where z does not change.
    `batch_size` rows (sender x prompt) are run together. Raises UserError for prompts without corrupted partners, for
    models that are not causal, and for senders to the logits that are not at the last position.
    """
    if prompts.corrupted is None:
        raise UserError("path patching needs corrupted prompts, and these have none")
    if not lens.architecture.causal:
        raise UserError(f"head groups need a causal model, and {lens.architecture.model_type} is not")
    if (reads == "logits") != (len(receivers) == 0):
        raise ValueError(f"{len(receivers)} receivers cannot be read at {reads}")
    if reads == "logits" and (position != prompts.ids.shape[1] - 1).any():
        raise UserError("only heads at the last position send to the logits directly: choose that position")
    model = AblatedModel.whole(Blocks(lens))
    clean, patched = [], []
    start = 0
    for batch in prompts.batches(min(len(prompts), batch_size)):
        share = len(batch) / len(prompts)
        passes = (trace(model, lens.embed(ids)) for ids in (batch.ids, batch.corrupted))
        job = _Batch(model, batch, *passes, position[start : start + len(batch)], receivers, reads)
        copies = max(1, batch_size // len(batch))
        clean.append(job.log_probabilities(model.blocks.final(model.blocks.read(job.clean.end))))
        patched.append(_patch_batch(job, clean[-1], copies, lambda count, share=share: advance(count * share)))
        start += len(batch)
    scores = METRICS[metric](torch.cat(clean), torch.cat(patched, dim=1)).cpu()
    top = max((receiver.layer for receiver in receivers), default=lens.dimensions.layers)
    check_finite(scores[: top * lens.dimensions.heads], "scores of path patching")
    return scores


@dataclass(frozen=True, eq=False)
class _Batch:
    """A batch of prompts, its passes, and who receives what at `position` (prompt,)."""

    model: AblatedModel
    prompts: PromptTensors
    clean: Trace
    corrupted: Trace
    position: torch.Tensor
    receivers: Sequence[Component]
    reads: str

    def here(self, values: torch.Tensor) -> torch.Tensor:
        """Return values (prompt, pos, ...) at the senders' position, (prompt, ...)."""
        return values[torch.arange(len(self.position), device=values.device), self.position]

    def log_probabilities(self, read: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities (..., prompt) of the answers from what the unembedding reads."""
        return ReadOut(self.model.blocks, self.prompts).log_probabilities(read).double()


def _patch_batch(job: _Batch, clean: torch.Tensor, copies: int, advance: Callable[[int], None]) -> torch.Tensor:
    """Return log-probabilities (head, prompt) of the answers, one head's path patched; NaN where there is no path.

    `clean` (prompt,) are those of the clean pass; `copies` senders are stacked.
    """
    blocks = job.model.blocks
    layers, heads = blocks.dimensions.layers, blocks.dimensions.heads
    found = []
    for layer in range(layers):
        reached = [receiver for receiver in job.receivers if receiver.layer > layer]
        if job.receivers and not reached:
            found.append(torch.full((heads, len(clean)), math.nan, dtype=clean.dtype, device=clean.device))
            advance(heads)
            continue
        change = job.here(job.corrupted.z[layer]) - job.here(job.clean.z[layer])
        sent = _send(job, layer, change)
        for some in torch.arange(heads, device=clean.device).split(copies):
            streams = {upper: stream[some] for upper, stream in sent.items()}
            read = _receive(job, reached, streams) if reached else blocks.final(streams[layers])
            # An unchanged z is no effect at all, not the rounding between two ways to compute the same.
            found.append(torch.where(change[:, some].any(-1).T, job.log_probabilities(read), clean))
            advance(len(some))
    return torch.cat(found)


def _send(job: _Batch, layer: int, change: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return the stream (sender, prompt, d_model) at the senders' position, by the layer above `layer` that reads it.

    `change` (prompt, head, d_head) is added to the z of one head at a time. The last stream has the number of layers.
    """
    blocks = job.model.blocks
    writes = [blocks.head_output(layer, change[:, [head]], [head]) for head in range(blocks.dimensions.heads)]
    stream = job.here(job.clean.resid[layer])
    streams = {}
    for upper in range(layer, blocks.dimensions.layers):
        attention = job.here(job.clean.attention[upper])
        if upper == layer:
            attention = attention + torch.stack(writes)
        stream = job.model.after_attention(upper, blocks.add_attention(upper, stream, attention))
        streams[upper + 1] = stream
    return streams


def _receive(job: _Batch, receivers: Sequence[Component], sent: dict[int, torch.Tensor]) -> torch.Tensor:
    """Return what the unembedding reads (sender, prompt, d_model) in the clean model whose receivers read `sent`.

    Nothing changes before the first position that is patched, so MLPs are run from there on; of the last block only
    the last position is.
    """
    model, blocks, clean = job.model, job.model.blocks, job.clean
    first, final = min(receiver.layer for receiver in receivers), blocks.dimensions.layers - 1
    start = int(job.position.min())
    stream = changed = clean.resid[first]
    for layer in range(first, final + 1):
        heads = [receiver.head for receiver in receivers if receiver.layer == layer]
        read = project_each(blocks, layer, job.reads, sent[layer])
        z = receiving_heads(blocks, layer, stream, job.reads, read, job.position, heads)
        shown = slice(-1 if layer == final else start, None)
        attention = blocks.head_output(layer, z[..., shown, :, :]) + blocks.attention_bias(layer)
        changed = model.after_attention(layer, blocks.add_attention(layer, stream[..., shown, :], attention))
        if layer < final:
            before = clean.resid[layer + 1][:, :start].expand(*changed.shape[:-2], -1, -1)
            stream = torch.cat([before, changed], dim=-2)
    return blocks.final(changed[..., -1, :])


def project_each(blocks: Blocks, layer: int, which: str, resid: torch.Tensor) -> torch.Tensor:
    """Return `q`, `k` or `v` (..., head, d_head) of every query head, those of a key-value group repeated."""
    projected = blocks.project(layer, which, blocks.attention_input(layer, resid))
    if which == "q":
        return projected
    groups = [blocks.kv_head(head) for head in range(blocks.dimensions.heads)]
    return projected.index_select(-2, torch.tensor(groups, device=resid.device))


def receiving_heads(
    blocks: Blocks,
    layer: int,
    resid: torch.Tensor,
    reads: str,
    read: torch.Tensor,
    position: torch.Tensor,
    heads: Sequence[int],
) -> torch.Tensor:
    """Return z (..., prompt, pos, head, d_head) of all heads of a layer while some `heads` read another q, k or v.

    `resid` (..., prompt, pos, d_model); `read` (..., prompt, head, d_head) replaces what is projected at `position`
    (prompt,), after keys and values are repeated, so that others of a key-value group read what they always do.
    """
    parts = {which: project_each(blocks, layer, which, resid) for which in "qkv"}
    here = position[:, None] == torch.arange(resid.shape[-2], device=resid.device)
    receives = torch.zeros(blocks.dimensions.heads, dtype=torch.bool, device=resid.device)
    receives[list(heads)] = True
    where = here[..., None, None] & receives[:, None]
    parts[reads] = torch.where(where, read[..., None, :, :], parts[reads])
    front = parts[reads].shape[:-3]
    return blocks.attend(layer, *(part.expand(*front, *part.shape[-3:]) for part in parts.values()))
