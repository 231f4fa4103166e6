"""Slow, independent ways to ablate and patch: plain Hugging Face models, hooks of their own, one thing at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch

from distilled_circuits.circuits.ablation import PromptTensors, Values, ablate
from distilled_circuits.circuits.edges import Edge
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
    """Return logit differences at the position that is read, prompt by prompt."""
    rows = zip(prompts.ids, prompts.answers, prompts.distractors, strict=True)
    logits = [(model(ids[None]).logits[0, prompts.read_at], a, d) for ids, a, d in rows]
    return torch.stack([row[a] - row[d] for row, a, d in logits])


def slow_sweep(model, prompts: PromptTensors, z_mean, mlp_mean, components) -> torch.Tensor:
    """Ablate one component at a time in full forward passes."""
    rows = []
    for component in components:
        with slow_ablation(model, [component], z_mean, mlp_mean):
            rows.append(slow_difference(model, prompts))
    return torch.stack(rows)


def slow_patched_edge(
    lens: HookLens, prompts: PromptTensors, values: Values, outside: list[Component], edge: Edge
) -> torch.Tensor:
    """Return logit differences with one edge of a circuit patched, by freezing everything else.

    Run with the sender's output replaced and every other component frozen to what it did; read what the receiver then
    computes; run again with only that replaced. Everything happens in the model whose `outside` nodes are replaced.
    """
    layers = range(lens.dimensions.layers)
    names = [(name, layer) for layer in layers for name in ("z", "mlp_out")]
    permanent = slow_edits(outside, values)
    clean, corrupted = (lens.cache(ids, names, permanent)[1] for ids in (prompts.ids, prompts.corrupted))
    sender = edge.sender
    sent = ("mlp_out" if sender.head is None else "z", sender.layer)

    def send(activation: torch.Tensor) -> torch.Tensor:
        if sender.head is None:
            return corrupted[sent]
        changed = clean[sent].clone().to(activation.dtype)
        changed[:, :, sender.head] = corrupted[sent][:, :, sender.head]
        return changed

    frozen = [(name, lambda _, value=clean[name]: value) for name in names if name != sent] + [(sent, send)]
    if edge.part == "logits":
        return slow_logit_difference(lens.run(prompts.ids, frozen), prompts)
    received = ("mlp_out" if edge.part == "mlp" else edge.part, edge.receiver.layer)
    _, seen = lens.cache(prompts.ids, [received], [edit for edit in frozen if edit[0] != received])

    def receive(activation: torch.Tensor) -> torch.Tensor:
        if edge.part == "mlp":
            return seen[received]
        sizes = lens.dimensions
        index = edge.receiver.head if edge.part == "q" else edge.receiver.head * sizes.kv_heads // sizes.heads
        activation = activation.clone()
        activation[:, :, index] = seen[received][:, :, index]
        return activation

    others = [edit for edit in permanent if edit[0] != received]
    return slow_logit_difference(lens.run(prompts.ids, [*others, (received, receive)]), prompts)


def slow_edits(components: list[Component], values: Values) -> list:
    """Return edits that replace components one by one, each an edit of its own."""
    edits = []
    for component in components:
        if component.head is None:
            value = values.mlp_out[component.layer]
            edits.append((("mlp_out", component.layer), lambda out, value=value: value.expand_as(out)))
            continue

        def replace(z, value=values.z[component.layer], head=component.head):
            z = z.clone()
            z[:, :, head] = value[:, :, head]
            return z

        edits.append((("z", component.layer), replace))
    return edits


def slow_logit_difference(logits: torch.Tensor, prompts: PromptTensors) -> torch.Tensor:
    """Return logit differences (prompt,), prompt by prompt."""
    rows = zip(logits, prompts.answers, prompts.distractors, strict=True)
    return torch.stack([row[answer] - row[distractor] for row, answer, distractor in rows])


@torch.no_grad()
def correct_answers(
    lens: HookLens, prompts: PromptTensors, means: Values, circuit: Collection[Component] | None = None
) -> torch.Tensor:
    """Return which prompts (prompt,) are answered right, by the model or by its circuit: a full pass with hooks.

    With a circuit all heads outside it are replaced by their means; MLPs stay (CD: "circuit accuracy").
    """
    outside = [] if circuit is None else [c for c in lens.components if c.head is not None and c not in circuit]
    return lens.run(prompts.ids, ablate(outside, means)).argmax(-1) == prompts.answers
