"""Logit differences of a model without a set of nodes: each set is run once, from the first layer that it changes."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache, partial

import numpy as np
import torch

from distilled_circuits.circuits.ablated_model import AblatedModel, ReadOut, nested_means
from distilled_circuits.circuits.ablation import PromptTensors, Replacement, Values, check_finite
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens


class NodeSets:
    """All prompts under joint ablations of sets of components.

    Results are remembered: pruning at several thresholds or on resampled prompts asks for many of the same sets. The
    stream of one set is `held`, so that a set which differs from it only in upper layers is run from there on.

    With `nested_over` (prompt, pos) the means of removed MLPs are those of these corrupted prompts *with the removed
    heads already ablated* (see `nested_means`); without it all means are of the unablated model.
    """

    def __init__(
        self,
        lens: HookLens,
        prompts: PromptTensors,
        replacement: Replacement,
        batch_size: int,
        *,
        nested_over: torch.Tensor | None = None,
    ) -> None:
        self.components = lens.components
        self.dimensions = lens.dimensions
        self._batches = prompts.batches(batch_size)
        self._blocks = Blocks(lens)
        self._values = [replacement(batch).to(lens.model.dtype) for batch in self._batches]
        self._nested_means = None
        if nested_over is not None:
            embedded = [lens.embed(ids) for ids in nested_over.split(batch_size)]
            self._nested_means = lru_cache(maxsize=4)(partial(nested_means, self._blocks, embedded, self._values[0]))
        self._known: dict[frozenset[Component], np.ndarray] = {}
        self._held: frozenset[Component] = frozenset()
        self._streams = [[lens.embed(batch.ids)] for batch in self._batches]

    def __len__(self) -> int:
        """Return how many sets have been run."""
        return len(self._known)

    @torch.no_grad()
    def differences(self, removed: Collection[Component]) -> np.ndarray:
        """Return the logit difference of every prompt (prompt,) with all of `removed` ablated together."""
        key = frozenset(removed)
        if key not in self._known:
            top = self.dimensions.layers - 1
            start = min((component.layer for component in key ^ self._held), default=top)
            self._hold_up_to(start)
            parts = []
            for batch, streams, values in zip(self._batches, self._streams, self._values_of(key), strict=True):
                model = AblatedModel(self._blocks, values, key)
                parts.append(ReadOut(self._blocks, batch).differences(model.finish(start, streams[start])))
            together = torch.cat(parts)
            check_finite(together, f"logit differences without {len(key)} components")
            self._known[key] = together.double().cpu().numpy()
        return self._known[key]

    def only(self, kept: Collection[Component]) -> np.ndarray:
        """Return the logit difference of every prompt (prompt,) with everything but `kept` ablated."""
        return self.differences([component for component in self.components if component not in kept])

    def hold(self, removed: Collection[Component]) -> None:
        """Keep the stream of the model without `removed`; what is the same in it as before is not run again."""
        key = frozenset(removed)
        lowest = min((component.layer for component in key ^ self._held), default=self.dimensions.layers)
        self._streams = [streams[: lowest + 1] for streams in self._streams]
        self._held = key

    def _hold_up_to(self, layer: int) -> None:
        """Run the held model up to the stream that `layer` reads."""
        if len(self._streams[0]) > layer:
            return
        for streams, values in zip(self._streams, self._values_of(self._held), strict=True):
            model = AblatedModel(self._blocks, values, self._held)
            while len(streams) <= layer:
                streams.append(model.block(len(streams) - 1, streams[-1]))

    def _values_of(self, removed: frozenset[Component]) -> list[Values]:
        if self._nested_means is None:
            return self._values
        mlp_out = self._nested_means(frozenset(component for component in removed if component.head is not None))
        return [Values(values.z, mlp_out) for values in self._values]
