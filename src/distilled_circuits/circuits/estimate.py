"""What an influence sweep will take before it begins: multiplications, time on this machine, memory."""

from __future__ import annotations

import operator
import time
from dataclasses import dataclass

import torch

from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens

STREAMS = 8
"""Tensors of a stream's size that a pass holds at once: the stream, its norm, queries, keys, values, z, sums."""
MEASURED = 0.2
"""Seconds for which the machine's rate of matrix products is measured."""


@dataclass(frozen=True)
class Estimate:
    """Multiplications (FLOP) of a sweep, the machine's rate (FLOP/s), and bytes of memory at its peak."""

    work: float
    rate: float
    memory: float

    @property
    def seconds(self) -> float:
        """Time of the products alone: attention, norms and copies come on top."""
        return self.work / self.rate

    def describe(self) -> str:
        """Return one line."""
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 120 else f"{self.seconds:.0f} s"
        return (
            f"{self.work / 1e12:.2f} TFLOP at {self.rate / 1e9:.0f} GFLOP/s, so at least {minutes}; "
            f"{self.memory / 1e9:.2f} GB of memory"
        )


def estimate_sweep(lens: HookLens, prompts: int, positions: int, batch_size: int) -> Estimate:
    """Return what a sweep of all components over prompts of so many tokens takes; measures the machine for a moment."""
    memory = weights_bytes(lens) + _activation_bytes(lens, positions, batch_size)
    rows = min(batch_size, prompts * len(lens.components)) * positions
    return Estimate(sweep_products(lens, prompts, positions), matrix_rate(lens, min(rows, 4096)), memory)


def sweep_products(lens: HookLens, prompts: int, positions: int) -> float:
    """Return the FLOP of a sweep's matrix products: of what is above each ablation alone, attention's scores left out.

    A head's ablation runs the MLP of its layer and the blocks above, an MLP's those above; of the last block only the
    position that is read, and its keys and values at all. Two FLOP a weight and token.
    """
    blocks, sizes = Blocks(lens), lens.dimensions
    top = sizes.layers - 1
    attention, mlp = _attention_weights(blocks), _mlp_weights(lens)
    keys = 2 * sizes.d_model * sizes.kv_heads * sizes.d_head
    whole = (attention + mlp) * positions
    last = keys * positions + (attention - keys + mlp)
    total = whole * top + last  # the unablated pass
    for layer in range(sizes.layers):
        above = whole * max(0, top - layer - 1) + (last if layer < top else 0)
        own = mlp * (positions if layer < top else 1)
        total += sizes.heads * (own + above) + above
    return 2.0 * prompts * total


def weights_bytes(lens: HookLens) -> int:
    """Return the bytes of a model's weights, tied ones once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in lens.model.parameters())


def matrix_rate(lens: HookLens, rows: int) -> float:
    """Return the rate of plain matrix products of the MLP's shape on the model's device and in its type, FLOP/s."""
    width = lens.dimensions.d_model
    shapes = ((rows, width), (width, 4 * width))
    left, right = (torch.randn(*shape, device=lens.device, dtype=lens.model.dtype) for shape in shapes)
    best, until = 0.0, time.perf_counter() + MEASURED
    while not best or time.perf_counter() < until:
        start = _now(lens.device)
        _ = left @ right
        best = max(best, 2 * rows * width * 4 * width / (_now(lens.device) - start))
    return best


def _activation_bytes(lens: HookLens, positions: int, batch_size: int) -> float:
    """Return the bytes of the largest batch and of what replaces components, once as stored and once in float32."""
    sizes, width = lens.dimensions, lens.model.dtype.itemsize
    rows = batch_size * positions
    hidden = _mlp_weights(lens) / sizes.d_model
    values = sizes.layers * positions * (sizes.heads * sizes.d_head + sizes.d_model)
    vocabulary = batch_size * sizes.vocabulary  # log-probabilities are of the whole of it
    return rows * (STREAMS * sizes.d_model + hidden) * width + values * (4 + width) + vocabulary * (4 + width)


def _attention_weights(blocks: Blocks) -> int:
    sizes = blocks.dimensions
    return 2 * sizes.d_model * sizes.d_head * (sizes.heads + sizes.kv_heads)


def _mlp_weights(lens: HookLens) -> int:
    """Return the number of weights of one MLP: of the matrices among its modules."""
    block = lens.blocks[0]
    modules = [operator.attrgetter(path)(block) for path in lens.architecture.mlp]
    return sum(weight.numel() for module in modules for weight in module.parameters() if weight.dim() == 2)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
