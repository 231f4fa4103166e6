"""The engine of sweeps and training: plain Hugging Face modules with torch hooks, restartable at any layer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from distilled_circuits.lens.architectures import Tap
from distilled_circuits.lens.interface import Change, Edit, Lens, Site, reader


class _Skip(nn.Module):
    """A block that hands its input on: what a restarted pass puts in place of the layers below."""

    def forward(self, hidden_states: torch.Tensor, *_args: object, **_kwargs: object) -> torch.Tensor:
        return hidden_states


class HookLens(Lens):
    """A lens through torch hooks."""

    def run(
        self, ids: torch.Tensor, edits: Sequence[Edit] = (), read: dict[Site, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """See Lens.run."""
        return self._forward({"input_ids": ids}, edits, {} if read is None else read)

    def run_from(self, layer: int, resid: torch.Tensor, edits: Sequence[Edit] = ()) -> torch.Tensor:
        """Return logits of a pass that starts at `layer` with `resid` (prompt, pos, d_model) as its input.

        Blocks below cost nothing; edits below `layer`, and of its input, are dropped. Exactly equal to a full run.
        TransformerBridge has no such pass: its own restart runs the layers below all the same, and is wrong on BERT.
        """
        above = [edit for edit in edits if edit[0][1] >= layer and edit[0] != ("resid_pre", layer)]
        entry: Edit = (("resid_pre", layer), lambda _: resid)
        with self._skipping(layer):
            return self._forward({"inputs_embeds": resid}, [entry, *above], {})

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the stream (prompt, pos, d_model) that the first block reads."""
        seen: list[torch.Tensor] = []
        with self._skipping(len(self.blocks)):
            first = operator.attrgetter(self.architecture.layers)(self.model)[0]
            hook = first.register_forward_pre_hook(_input_hook(seen.append), with_kwargs=True)
            self._forward({"input_ids": ids}, [], {})
            hook.remove()
        return seen[0]

    def _forward(
        self, inputs: dict[str, torch.Tensor], edits: Sequence[Edit], read: dict[Site, torch.Tensor]
    ) -> torch.Tensor:
        options = {"use_cache": False, "logits_to_keep": 1} if self.architecture.causal else {}
        with ExitStack() as hooks:
            for site, change in edits:
                self.check_editable(site[0])
                hooks.callback(self._hook(site, change).remove)
            for site in read:
                hooks.callback(self._hook(site, reader(read, site)).remove)
            return self.model(**inputs, **options).logits[:, self.read_at]

    @contextmanager
    def _skipping(self, layer: int) -> Iterator[None]:
        """Take the blocks below `layer` out of the model's own loop, which keeps its masks and rotary angles."""
        modules = operator.attrgetter(self.architecture.layers)(self.model)
        try:
            for index in range(layer):
                modules[index] = _Skip()
            yield
        finally:
            for index in range(layer):
                modules[index] = self.blocks[index]

    def _hook(self, site: Site, change: Change) -> torch.utils.hooks.RemovableHandle:
        name, layer = site
        block = self.blocks[layer]
        if name == "pattern":
            attention = operator.attrgetter(self.architecture.attention)(block)
            return attention.register_forward_hook(lambda _m, _a, out: (change(out[1]), None)[1])
        if name in ("q", "k", "v") and self.architecture.fused_qkv:
            fused = operator.attrgetter(self.architecture.fused_qkv)(block)
            return fused.register_forward_hook(lambda _m, _a, out: self._change_part(out, name, change))
        tap = {"resid_pre": Tap("", "in"), "resid_post": Tap("", "out")}.get(name) or self.architecture.taps[name]
        module = operator.attrgetter(tap.path)(block) if tap.path else block
        by_head = self._by_head(change) if name in ("q", "k", "v", "z") else change
        if tap.side == "out":
            return module.register_forward_hook(lambda _m, _a, out: by_head(out))
        return module.register_forward_pre_hook(_input_hook(by_head), with_kwargs=True)

    def _by_head(self, change: Change) -> Change:
        def apply(flat: torch.Tensor) -> torch.Tensor | None:
            changed = change(flat.unflatten(-1, (-1, self.dimensions.d_head)))
            return None if changed is None else changed.flatten(-2)

        return apply

    def _change_part(self, fused: torch.Tensor, name: str, change: Change) -> torch.Tensor | None:
        parts = list(fused.chunk(3, dim=-1))
        index = "qkv".index(name)
        changed = self._by_head(change)(parts[index])
        if changed is None:
            return None
        parts[index] = changed
        return torch.cat(parts, dim=-1)


def _input_hook(change: Change) -> Callable[[nn.Module, tuple, dict], tuple[tuple, dict] | None]:
    """Wrap a change of a module's first input, which Hugging Face passes by position or as `hidden_states`."""

    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        changed = change(args[0] if args else kwargs["hidden_states"])
        if changed is None:
            return None
        return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

    return hook
