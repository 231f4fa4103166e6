"""Activation patching, clean into corrupted: how much of the logit difference each component brings back, where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut
from distilled_circuits.circuits.ablation import PromptTensors, check_finite
from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens

WHOLE, PATHS = ("resid", "attention", "mlp", "z"), ("qk", "v")
"""What is patched: the stream after a block, the output of its attention or MLP, a head's z; into a head its q and k
together, or its v.

Any letters of q, k and v together make a path: `qkv` is the whole head.
"""


@dataclass(frozen=True)
class Places:
    """Where clean activations are put: masks (place, prompt, pos) with a name each."""

    names: tuple[str, ...]
    masks: torch.Tensor

    def __add__(self, others: Places) -> Places:
        """Return these places and then the others."""
        return Places((*self.names, *others.names), torch.cat([self.masks, others.masks]))

    def rows(self, start: int, stop: int) -> Places:
        """Return the masks of some prompts."""
        return Places(self.names, self.masks[:, start:stop])


@dataclass(frozen=True)
class Patched:
    """Logit differences (prompt,) of both kinds of prompts, and (..., place, prompt) of corrupted ones with a patch.

    `parts` has `resid`, `attention` and `mlp` by (layer, place, prompt), `z` and each path by (layer, head, place,
    prompt).
    """

    clean: torch.Tensor
    corrupted: torch.Tensor
    parts: Mapping[str, torch.Tensor]


def every_position(prompts: int, length: int) -> Places:
    """Return one place for each position, named by its number."""
    masks = torch.eye(length, dtype=torch.bool)[:, None].expand(-1, prompts, -1)
    return Places(tuple(map(str, range(length))), masks)


def named_positions(positions: Mapping[str, np.ndarray], prompts: int, length: int) -> Places:
    """Return a place for each name, with all positions (prompt, n) that it has in a prompt, and `all` of them."""
    masks = torch.zeros(len(positions) + 1, prompts, length, dtype=torch.bool)
    rows = np.arange(prompts)[:, None]
    for mask, where in zip(masks, positions.values(), strict=False):
        mask[rows, where] = True
    masks[-1] = True
    return Places((*positions, "all"), masks)


@torch.no_grad()
def patch_sweep(
    lens: HookLens,
    prompts: PromptTensors,
    whole: Places,
    into_heads: Places,
    batch_size: int,
    advance: Callable[[float], None] = lambda _: None,
    paths: Sequence[str] = PATHS,
) -> Patched:
    """Run corrupted prompts with one clean activation put in, for every component and place.

    Streams and whole outputs are patched at the places of `whole`, heads' inputs (by `paths`) at those of `into_heads`.
    Nothing below a patch is run again; `batch_size` rows (place x prompt) share a pass. `advance` is told the share of
    a layer's prompts that is done. Raises UserError where prompts have no corrupted partner, or results are not
    finite.
    """
    if prompts.corrupted is None:
        raise UserError("activation patching needs corrupted prompts, and these have none")
    parts = []
    start = 0
    for batch in prompts.batches(min(len(prompts), batch_size)):
        stop = start + len(batch)
        share = len(batch) / len(prompts)
        here = (whole.rows(start, stop), into_heads.rows(start, stop))
        sweep = _Sweep(lens, batch, *here, paths, max(1, batch_size // len(batch)))
        parts.append(sweep.run(partial(advance, share)))
        start = stop
    joined = Patched(
        torch.cat([part.clean for part in parts]),
        torch.cat([part.corrupted for part in parts]),
        {name: torch.cat([part.parts[name] for part in parts], dim=-1) for name in parts[0].parts},
    )
    for values in (joined.clean, joined.corrupted, *joined.parts.values()):
        check_finite(values, "logit differences of activation patching")
    return joined


class _Sweep:
    """All patches of one batch of prompts."""

    def __init__(
        self,
        lens: HookLens,
        prompts: PromptTensors,
        whole: Places,
        into_heads: Places,
        paths: Sequence[str],
        copies: int,
    ) -> None:
        self.lens, self.prompts, self.paths, self.copies = lens, prompts, paths, copies
        self.blocks = Blocks(lens)
        self.whole, self.into_heads = (places.masks.to(lens.device) for places in (whole, into_heads))
        self.model = AblatedModel.whole(self.blocks)
        self.out = ReadOut(self.blocks, prompts)

    def run(self, advance: Callable[[], None]) -> Patched:
        clean, corrupted = self.lens.embed(self.prompts.ids), self.lens.embed(self.prompts.corrupted)
        found: dict[str, list[torch.Tensor]] = {name: [] for name in (*WHOLE, *self.paths)}
        for layer in range(self.blocks.dimensions.layers):
            clean, corrupted = self._layer(layer, clean, corrupted, found)
            advance()
        ends = [self.out.differences(self.blocks.final(self.blocks.read(resid))) for resid in (clean, corrupted)]
        return Patched(*ends, {name: torch.stack(values) for name, values in found.items()})

    def _layer(
        self, layer: int, clean: torch.Tensor, corrupted: torch.Tensor, found: dict[str, list[torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Patch every part of a layer; return both streams after it."""
        blocks = self.blocks
        normed = [blocks.attention_input(layer, resid) for resid in (clean, corrupted)]
        q, k, v = (self._inputs(layer, which, normed) for which in "qkv")
        z = [blocks.attend(layer, q[index], k[index], v[index]) for index in (0, 1)]
        attention = [blocks.head_output(layer, part) + blocks.attention_bias(layer) for part in z]
        mid = [
            blocks.add_attention(layer, resid, out) for resid, out in zip((clean, corrupted), attention, strict=True)
        ]
        mlp_out = [blocks.mlp(layer, part) for part in mid]

        def after_attention(changes: Sequence[torch.Tensor]) -> torch.Tensor:
            """Finish runs whose attention output differs by (copy, prompt, pos, d_model)."""
            stream = blocks.add_attention(layer, corrupted, attention[1] + torch.stack(list(changes)))
            return self._finish(layer + 1, self.model.after_attention(layer, stream))

        def after_mlp(changes: Sequence[torch.Tensor]) -> torch.Tensor:
            return self._finish(layer + 1, blocks.add_mlp(layer, mid[1], mlp_out[1] + torch.stack(list(changes))))

        found["attention"].append(self._masked(attention[0] - attention[1], after_attention))
        found["mlp"].append(self._masked(mlp_out[0] - mlp_out[1], after_mlp))
        heads = range(blocks.dimensions.heads)
        written = [blocks.head_output(layer, (z[0] - z[1])[..., [head], :], [head]) for head in heads]
        found["z"].append(torch.stack([self._masked(change, after_attention) for change in written]))
        for name in self.paths:
            found[name].append(self._into_heads(layer, name, (q, k, v), z[1], after_attention))
        streams = [blocks.add_mlp(layer, part, out) for part, out in zip(mid, mlp_out, strict=True)]

        def after_block(changes: Sequence[torch.Tensor]) -> torch.Tensor:
            return self._finish(layer + 1, streams[1] + torch.stack(list(changes)))

        found["resid"].append(self._masked(streams[0] - streams[1], after_block))
        return streams[0], streams[1]

    def _into_heads(
        self,
        layer: int,
        path: str,
        inputs: Sequence[Sequence[torch.Tensor]],
        z: torch.Tensor,
        finish: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    ) -> torch.Tensor:
        """Return the logit differences (head, place, prompt) with clean inputs on a path into one head at a time."""
        results = []
        for head in range(self.blocks.dimensions.heads):
            parts = [[part[run][..., [head], :] for run in (0, 1)] for part in inputs]
            before = z[..., [head], :]
            changes = (
                self.blocks.head_output(layer, self._attend(layer, parts, mask, path) - before, [head])
                for mask in self.into_heads
            )
            results.append(self._in_copies(changes, finish))
        return torch.stack(results)

    def _inputs(self, layer: int, which: str, normed: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return q, k or v (prompt, pos, head, d_head) of clean and corrupted runs, one to one with heads."""
        blocks = self.blocks
        projected = [blocks.project(layer, which, part) for part in normed]
        if which == "q" or blocks.dimensions.kv_heads == blocks.dimensions.heads:
            return projected
        spread = [blocks.kv_head(head) for head in range(blocks.dimensions.heads)]
        return [part[..., spread, :] for part in projected]

    def _attend(
        self, layer: int, parts: Sequence[Sequence[torch.Tensor]], mask: torch.Tensor, name: str
    ) -> torch.Tensor:
        """Return one head's z with clean q and k, or clean v, where the mask (prompt, pos) is set."""
        chosen = mask[..., None, None]
        q, k, v = (
            torch.where(chosen, clean, corrupted) if part in name else corrupted
            for part, (clean, corrupted) in zip("qkv", parts, strict=True)
        )
        return self.blocks.attend(layer, q, k, v)

    def _masked(self, change: torch.Tensor, finish: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> torch.Tensor:
        return self._in_copies((mask[..., None] * change for mask in self.whole), finish)

    def _in_copies(
        self, changes: Iterable[torch.Tensor], finish: Callable[[Sequence[torch.Tensor]], torch.Tensor]
    ) -> torch.Tensor:
        """Finish as many changed runs together as fit; return their logit differences (place, prompt)."""
        results, waiting = [], []
        for change in changes:
            waiting.append(change)
            if len(waiting) == self.copies:
                results.append(finish(waiting))
                waiting = []
        return torch.cat([*results, *([finish(waiting)] if waiting else [])])

    def _finish(self, layer: int, resid: torch.Tensor) -> torch.Tensor:
        return self.out.differences(self.model.finish(layer, resid))
