"""The TransformerLens engine: the same interface through TransformerBridge, for caching activations."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from distilled_circuits.lens.interface import Edit, Lens, Site, reader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CANONICAL_NAMES = {
    "resid_pre": "hook_in",
    "resid_post": "hook_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "z": "attn.hook_z",
    "attn_out": "attn.o.hook_out",
    "mlp_out": "mlp.hook_out",
}
"""Names without TransformerLens' aliases: on BERT the aliases of attn_out and resid_mid are other tensors."""


class BridgeLens(Lens):
    """A lens through TransformerBridge.

    The bridge changes the Hugging Face model in place, for good: give it a model of its own.
    """

    def __init__(self, model: PreTrainedModel, read_at: int = -1) -> None:
        super().__init__(model, read_at)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its dependencies deprecate what it imports
            from transformer_lens.model_bridge.sources import build_bridge_from_module

            from distilled_circuits.lens.distilbert_bridge import register_adapter
        register_adapter()
        self.bridge = build_bridge_from_module(model, self.architecture.hf_class, hf_config=model.config)
        # Wrapping has renamed the blocks' submodules; the bridge forwards the Hugging Face names.
        self.blocks = list(self.bridge.blocks)

    def run(
        self, ids: torch.Tensor, edits: Sequence[Edit] = (), read: dict[Site, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """See Lens.run."""
        hooks = []
        for site, change in edits:
            self.check_editable(site[0])
            hooks.append((self._name(site), _hook(change)))
        hooks += [(self._name(site), _hook(reader(read, site))) for site in read or {}]
        # BERT ignores logits_to_keep in silence, so there the position is taken afterwards.
        options = {"use_cache": False, "logits_to_keep": 1} if self.architecture.causal else {}
        return self.bridge.run_with_hooks(ids, fwd_hooks=hooks, **options)[:, self.read_at]

    def _name(self, site: Site) -> str:
        name, layer = site
        if name == "resid_mid":
            hook = "ln1.hook_out" if self.architecture.post_ln else "ln2.hook_in"
        elif name == "mlp_out" and self.architecture.model_type == "bert":
            hook = "mlp.out.hook_out"
        else:
            hook = CANONICAL_NAMES[name]
        return f"blocks.{layer}.{hook}"


def _hook(change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[..., torch.Tensor | None]:
    """Return a change in the form that TransformerLens calls, with its hook point by name."""

    def apply(value: torch.Tensor, hook: Any) -> torch.Tensor | None:  # noqa: ARG001 - passed by this name
        return change(value)

    return apply
