"""The influence sweep: every prompt's logit difference with every component ablated, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut, Shifts
from distilled_circuits.circuits.ablation import (
    PromptTensors,
    Replacement,
    Values,
    ablate,
    check_finite,
    logit_differences,
)
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens
from distilled_circuits.lens.interface import Lens


@dataclass(frozen=True)
class Sweep:
    """Results of a sweep, ablated ones in the order of the components that were swept.

    Logit differences `unablated` (prompt,) and `ablated` (component, prompt); log-probabilities of the answer likewise,
    None where they were not asked for.
    """

    unablated: torch.Tensor
    ablated: torch.Tensor
    unablated_log_probability: torch.Tensor | None = None
    ablated_log_probability: torch.Tensor | None = None


@torch.no_grad()
def influence_sweep(
    lens: Lens,
    prompts: PromptTensors,
    replacement: Replacement,
    batch_size: int,
    *,
    components: Sequence[Component] | None = None,
    shifts: Shifts | None = None,
    log_probabilities: bool = False,
    advance: Callable[[float], None] = lambda _: None,
) -> Sweep:
    """Ablate `components` (default: all), one at a time, and return what is left of every prompt.

    The stream of the unablated model is computed once. Ablating a component of layer l changes nothing below l and, for
    a head, what attention writes by `(value - z) W_O` alone; so only the MLP of l and the blocks above are run, as many
    components stacked as `batch_size` rows (component x prompt) allow, and of the last block only the position that is
    read. Memory is that of one batch, whatever the number of prompts. `shifts` are added to activations in every run.
    `advance` is told the components done. Raises UserError at NaN or infinite results. Through TransformerBridge, which
    cannot restart, every ablation is a whole pass.
    """
    swept = lens.components if components is None else list(components)
    parts = []
    start = 0
    for batch in prompts.batches(min(len(prompts), batch_size)):
        share = len(batch) / len(prompts)
        rows = slice(start, start + len(batch))
        job = _Batch(
            batch,
            replacement(batch).to(lens.model.dtype),
            swept,
            max(1, batch_size // len(batch)),
            {site: shift[rows] for site, shift in (shifts or {}).items()},
            lambda count, share=share: advance(count * share),
        )
        parts.append(_restarted(lens, job, log_probabilities) if isinstance(lens, HookLens) else _hooked(lens, job))
        for name, values in vars(parts[-1]).items():
            if values is not None:
                check_finite(values, f"results of the sweep ({name})")
        start += len(batch)
    return _joined(parts)


@dataclass(frozen=True)
class _Batch:
    prompts: PromptTensors
    values: Values
    components: Sequence[Component]
    copies: int
    shifts: Shifts = field(default_factory=dict)
    advance: Callable[[float], None] = lambda _: None


def _restarted(lens: HookLens, batch: _Batch, log_probabilities: bool) -> Sweep:
    model = AblatedModel(Blocks(lens), batch.values, shifts=batch.shifts)
    out = ReadOut(model.blocks, batch.prompts)
    found: dict[Component | None, list[torch.Tensor]] = {}

    def keep(components: Sequence[Component | None], read: torch.Tensor) -> None:
        results = [out.differences(read), *([out.log_probabilities(read)] if log_probabilities else [])]
        found.update(zip(components, zip(*results, strict=True), strict=True))
        batch.advance(sum(component is not None for component in components))

    resid = lens.embed(batch.prompts.ids)
    for layer in range(lens.dimensions.layers):
        resid = _sweep_layer(model, layer, resid, batch, keep)
    keep([None], model.blocks.final(model.blocks.read(resid))[None])
    unablated = found.pop(None)
    ablated = [torch.stack(rows) for rows in zip(*(found[component] for component in batch.components), strict=True)]
    return Sweep(unablated[0], ablated[0], *((unablated[1], ablated[1]) if log_probabilities else ()))


def _sweep_layer(
    model: AblatedModel,
    layer: int,
    resid: torch.Tensor,
    batch: _Batch,
    keep: Callable[[Sequence[Component], torch.Tensor], None],
) -> torch.Tensor:
    """Ablate the components of a layer in stacked copies; return the unablated stream after the layer."""
    blocks, read_only = model.blocks, layer == model.blocks.dimensions.layers - 1
    resid = model.enter(layer, resid)
    z = blocks.heads(layer, resid, read_only=read_only)
    shift = model.shifts.get(("z", layer))
    if shift is not None:
        z = z + (shift[:, blocks.read_out] if read_only else shift).to(z.dtype)
    value, mlp_value = model.values.z[layer], model.values.mlp_out[layer]
    if read_only:
        resid, value, mlp_value = (part[:, blocks.read_out] for part in (resid, value, mlp_value))
    attention = blocks.head_output(layer, z) + blocks.attention_bias(layer)
    own = [component for component in batch.components if component.layer == layer]
    heads = [component for component in own if component.head is not None]
    for start in range(0, len(heads), batch.copies):
        chosen = heads[start : start + batch.copies]
        changes = [blocks.head_output(layer, (value - z)[..., [head.head], :], [head.head]) for head in chosen]
        mids = blocks.add_attention(layer, resid + attention, torch.stack(changes))
        keep(chosen, model.finish(layer + 1, model.after_attention(layer, mids, read_only=read_only)))
    resid_mid = blocks.add_attention(layer, resid, attention)
    if Component(layer) in own:
        keep([Component(layer)], model.finish(layer + 1, blocks.add_mlp(layer, resid_mid, mlp_value)[None]))
    return model.after_attention(layer, resid_mid, read_only=read_only)


def _hooked(lens: Lens, batch: _Batch) -> Sweep:
    """Run the whole model for each component: what an engine does that cannot restart."""
    if batch.shifts:
        raise ValueError("shifts go through HookLens")
    results = []
    for component in (None, *batch.components):
        logits = lens.run(batch.prompts.ids, [] if component is None else ablate([component], batch.values))
        chosen = logits.float().log_softmax(-1).gather(-1, batch.prompts.answers[:, None])[:, 0]
        results.append((logit_differences(logits, batch.prompts), chosen))
        batch.advance(component is not None)
    differences, log_probabilities = (torch.stack(rows) for rows in zip(*results, strict=True))
    return Sweep(differences[0], differences[1:], log_probabilities[0], log_probabilities[1:])


def _joined(parts: Sequence[Sweep]) -> Sweep:
    first = parts[0]
    return Sweep(
        *(
            None if getattr(first, name) is None else torch.cat([getattr(part, name) for part in parts], dim=-1)
            for name in Sweep.__dataclass_fields__
        )
    )
