"""Answers of a model with some of its attention heads, the others at their means: each set of heads is run once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from distilled_circuits.circuits.ablation import PromptTensors, Values, check_finite
from distilled_circuits.errors import UserError
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.components import Component
from distilled_circuits.lens.hooks import HookLens

ELSEWHERE = "elsewhere"
"""The role of every token position that has no other: of all positions where there are no roles."""

KEPT_STREAMS = 16
"""How many streams are kept, for sets that differ in upper layers alone."""


class Place(NamedTuple):
    """A head at the token position of a role; a set of them is a circuit."""

    head: Component
    position: str = ELSEWHERE


@dataclass(frozen=True)
class Answers:
    """Whether each prompt's answer is the most likely token of all (prompt,), and its log-probability (prompt,)."""

    correct: torch.Tensor
    log_probability: torch.Tensor


class HeadSets:
    """All prompts with a set of heads kept and all others at their means; MLPs always stay (CD: "circuit accuracy").

    Without `positions` a head is kept or replaced at all positions (mode "heads"). With `positions`, the token position
    (prompt,) of each role, it is kept role by role, and `ELSEWHERE` at the rest (mode "positions" of Prakash et al.).
    """

    @torch.no_grad()
    def __init__(
        self,
        lens: HookLens,
        prompts: PromptTensors,
        means: Values,
        batch_size: int,
        positions: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.heads = [component for component in lens.components if component.head is not None]
        self.prompts = prompts
        self._blocks = Blocks(lens)
        self._means = means.to(self._blocks.dtype)
        self._masks = _role_masks(prompts, positions or {})
        self.everything = self.at_all_positions(self.heads)
        starts = range(0, len(prompts), batch_size)
        self._rows = [slice(start, start + batch_size) for start in starts]
        self._embedded = [lens.embed(prompts.ids[rows]) for rows in self._rows]
        self._stream = lru_cache(maxsize=KEPT_STREAMS * len(self._rows))(self._run_to)
        self._known: dict[frozenset[Place], Answers] = {}

    def __len__(self) -> int:
        """Return how many sets have been answered with."""
        return len(self._known)

    def at_all_positions(self, heads: Iterable[Component]) -> frozenset[Place]:
        """Return the set that keeps some heads whole."""
        return frozenset(Place(head, role) for head in heads for role in self._masks)

    def accuracy(self, kept: Collection[Place]) -> float:
        """Return the share of prompts that are answered right with `kept` alone."""
        return self.answers(kept).correct.double().mean().item()

    def faithfulness(self, kept: Collection[Place]) -> float:
        """Return accuracy with `kept` alone over accuracy of the model; raise UserError where that is zero."""
        full = self.accuracy(self.everything)
        if full == 0:
            raise UserError("the model answers no prompt right: faithfulness of a circuit is a share of its accuracy")
        return self.accuracy(kept) / full

    def answers(self, kept: Collection[Place]) -> Answers:
        """Return how each prompt is answered with `kept` alone."""
        key = frozenset(kept)
        if key not in self._known:
            self.logits(key)
        return self._known[key]

    def logits(self, kept: Collection[Place]) -> torch.Tensor:
        """Return the logits (prompt, vocabulary) with `kept` alone; `answers` then knows theirs.

        Raises ValueError at a place that the model or the prompts do not have.
        """
        key = frozenset(kept)
        if key - self.everything:
            raise ValueError(f"no such places: {sorted(key - self.everything)}")
        logits = self._run(key)
        exact = logits.double()
        chosen = exact.log_softmax(-1).gather(-1, self.prompts.answers[:, None])[:, 0]
        check_finite(chosen, f"log-probabilities with {len(key)} heads kept")
        self._known[key] = Answers(exact.argmax(-1) == self.prompts.answers, chosen)
        return logits

    @torch.no_grad()
    def _run(self, key: frozenset[Place]) -> torch.Tensor:
        """Return logits; from where no head above is kept, only the position that is read is computed."""
        top = max((place.head.layer for place in key), default=0)
        parts = []
        for batch in range(len(self._rows)):
            stream = self._stream(batch, top, _below(key, top))
            for layer in range(top, self._blocks.dimensions.layers):
                stream = self._block(batch, layer, stream, key, read_only=True)
            parts.append(self._blocks.unembedding(self._blocks.final(self._blocks.read(stream))))
        return torch.cat(parts)

    def _run_to(self, batch: int, layer: int, kept: frozenset[Place]) -> torch.Tensor:
        """Return the stream (prompt, pos, d_model) that `layer` reads with `kept` below it."""
        if layer == 0:
            return self._embedded[batch]
        stream = self._stream(batch, layer - 1, _below(kept, layer - 1))
        return self._block(batch, layer - 1, stream, kept)

    def _block(
        self, batch: int, layer: int, stream: torch.Tensor, kept: frozenset[Place], *, read_only: bool = False
    ) -> torch.Tensor:
        """Return the stream after a block, at all positions or at the one that is read alone."""
        blocks, shown = self._blocks, self._blocks.read_out if read_only else slice(None)
        places = sorted(place for place in kept if place.head.layer == layer)
        own = sorted({place.head.head for place in places})
        others = [head for head in range(blocks.dimensions.heads) if head not in own]
        means = self._means.z[layer][:, shown]
        attention = blocks.head_output(layer, means[..., others, :], others) + blocks.attention_bias(layer)
        if own:
            z = blocks.heads(layer, stream, own, read_only=read_only)
            roles = [[place.position for place in places if place.head.head == head] for head in own]
            mask = torch.stack([sum(self._masks[role] for role in of_head) > 0 for of_head in roles], dim=-1)
            mask = mask[self._rows[batch]][:, shown]
            attention = attention + blocks.head_output(layer, torch.where(mask[..., None], z, means[..., own, :]), own)
        mid = blocks.add_attention(layer, stream[:, shown], attention)
        return blocks.add_mlp(layer, mid, blocks.mlp(layer, mid))


def _below(kept: frozenset[Place], layer: int) -> frozenset[Place]:
    return frozenset(place for place in kept if place.head.layer < layer)


def _role_masks(prompts: PromptTensors, positions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return which positions (prompt, pos) have each role, ELSEWHERE last."""
    places = torch.arange(prompts.ids.shape[1], device=prompts.ids.device)
    masks = {role: position[:, None] == places for role, position in positions.items()}
    rest = torch.ones_like(prompts.ids, dtype=torch.bool)
    for mask in masks.values():
        rest = rest & ~mask
    return {**masks, ELSEWHERE: rest}
