"""The one interface to a model's activations that both engines implement, and what needs no engine at all."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from distilled_circuits.lens.architectures import Architecture, architecture_of
from distilled_circuits.lens.components import Component, all_components

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SITES = ("resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""Sites of a block in the order of computation.

Shapes: q, k, v, z (prompt, pos, head, d_head), with fewer heads for k and v under grouped queries; pattern (prompt,
head, query pos, key pos); all others (prompt, pos, d_model). `resid_mid` is the stream between attention and MLP.
"""

Site = tuple[str, int]
Change = Callable[[torch.Tensor], torch.Tensor | None]
"""A function from an activation to a new one; None leaves it as it is."""
Edit = tuple[Site, Change]


@dataclass(frozen=True)
class Dimensions:
    """Sizes of a model; `kv_heads` is smaller than `heads` under grouped-query attention."""

    layers: int
    heads: int
    kv_heads: int
    d_head: int
    d_model: int
    vocabulary: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> Dimensions:
        """Return the sizes that a model's configuration names."""
        heads = config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            d_head=getattr(config, "head_dim", None) or config.hidden_size // heads,
            d_model=config.hidden_size,
            vocabulary=config.vocab_size,
        )


class Lens(ABC):
    """Reads and edits forward passes of one model; leaves the model as it was after each call.

    Token ids are (prompt, pos) and of one length; logits are returned at one position, (prompt, vocabulary): the last,
    or the one that `read_at` counts from the end (-2: the `[MASK]` before a closing `[SEP]`). Raises ValueError where a
    causal model is to be read before the last position: what stands behind it would have no part in the answer.
    """

    def __init__(self, model: PreTrainedModel, read_at: int = -1) -> None:
        config = model.config
        self.model = model.eval()
        self.architecture: Architecture = architecture_of(config.model_type)
        if read_at >= 0 or (self.architecture.causal and read_at != -1):
            raise ValueError(f"{config.model_type} cannot be read at {read_at}")
        self.read_at = read_at
        self.blocks: list[nn.Module] = list(operator.attrgetter(self.architecture.layers)(model))
        self.dimensions = Dimensions.of(config)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device

    @property
    def components(self) -> list[Component]:
        """Every head and MLP, layers upwards."""
        return all_components(self.dimensions.layers, self.dimensions.heads)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the unedited model's logits."""
        return self.run(ids)

    @abstractmethod
    def run(
        self, ids: torch.Tensor, edits: Sequence[Edit] = (), read: dict[Site, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Run the model with edits and return its logits; fill `read`'s values with the activations at its keys.

        An edit is a site and a function from its activation to a new one. Raises ValueError at sites that cannot
        be edited: `pattern`, and `resid_mid` where the skip connection would keep the old value.
        """

    def cache(
        self, ids: torch.Tensor, sites: Iterable[Site], edits: Sequence[Edit] = ()
    ) -> tuple[torch.Tensor, dict[Site, torch.Tensor]]:
        """Return the logits and the activations at `sites` of one (edited) run."""
        read = dict.fromkeys(sites, torch.empty(0))
        return self.run(ids, edits, read), read

    def output_weights(self, layer: int) -> torch.Tensor:
        """Return W_O (head, d_head, d_model): what a head's z is multiplied with before it joins the stream."""
        weight = operator.attrgetter(self.architecture.taps["z"].path)(self.blocks[layer]).weight
        rows = weight if self.architecture.conv1d else weight.T
        return rows.unflatten(0, (self.dimensions.heads, self.dimensions.d_head))

    def unembed(self, resid: torch.Tensor) -> torch.Tensor:
        """Return logits of a residual stream: final norm and head."""
        return _chain(self.model, self.architecture.unembed, resid)

    def check_editable(self, site: str) -> None:
        """Raise ValueError when an edit at `site` would not change what follows as it should."""
        if site not in SITES:
            raise ValueError(f"{site!r} is no site; sites are {', '.join(SITES)}")
        if site == "pattern" or (site == "resid_mid" and not self.architecture.post_ln):
            raise ValueError(f"{site} cannot be edited on {self.architecture.model_type}: read it only")


def reader(read: dict[Site, torch.Tensor], site: Site) -> Change:
    """Return a change that changes nothing and keeps the activation in `read`."""

    def store(activation: torch.Tensor) -> None:
        read[site] = activation

    return store


def _chain(module: nn.Module, paths: Sequence[str], value: torch.Tensor) -> torch.Tensor:
    """Send a tensor through submodules, one after the other."""
    for path in paths:
        value = operator.attrgetter(path)(module)(value)
    return value
