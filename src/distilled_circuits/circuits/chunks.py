"""An influence sweep cut into chunks that give the same bits alone: what shares of it are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distilled_circuits.lens.components import Component
from distilled_circuits.lens.interface import Dimensions


@dataclass(frozen=True)
class Chunk:
    """Some components, ablated on the prompts from `start` up to `stop`; `cost` in passes of a prompt by a block."""

    start: int
    stop: int
    components: tuple[Component, ...]
    cost: float


def chunks_of(prompts: int, dimensions: Dimensions, batch_size: int, *, restarted: bool) -> list[Chunk]:
    """Return the chunks of a sweep of all components: batch by batch of prompts, in each upwards through the layers.

    A chunk is what `influence_sweep` computes in one pass: a batch of prompts with as many heads of a layer stacked as
    `batch_size` rows allow, or with one MLP. Products of the same shapes round alike, so a sweep over whole chunks has
    the bits of the whole sweep. Where passes are not restarted at a layer, each component is a pass of the whole model.
    """
    size = min(prompts, batch_size)
    return [
        chunk
        for start in range(0, prompts, size)
        for layer in range(dimensions.layers)
        for chunk in _of_layer(start, min(start + size, prompts), layer, dimensions, batch_size, restarted)
    ]


def merged(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Join neighbours of the same prompts: one sweep, whose unablated pass they share."""
    joined: list[Chunk] = []
    for chunk in chunks:
        if joined and joined[-1].start == chunk.start:
            last = joined.pop()
            chunk = Chunk(last.start, last.stop, last.components + chunk.components, last.cost + chunk.cost)  # noqa: PLW2901
        joined.append(chunk)
    return joined


def _of_layer(
    start: int, stop: int, layer: int, dimensions: Dimensions, batch_size: int, restarted: bool
) -> Iterator[Chunk]:
    rows = stop - start
    heads = [Component(layer, head) for head in range(dimensions.heads)]
    copies = max(1, batch_size // rows) if restarted else 1
    # Above an ablation the blocks are run, in its own layer the MLP; reading the answer costs something too.
    above = dimensions.layers - 1 - layer if restarted else dimensions.layers
    for first in range(0, len(heads), copies):
        stacked = tuple(heads[first : first + copies])
        yield Chunk(start, stop, stacked, rows * len(stacked) * (above + 0.5))
    yield Chunk(start, stop, (Component(layer),), rows * (above + 0.2))
