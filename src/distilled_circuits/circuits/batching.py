"""How many rows one forward pass should have on this machine: chosen by a short measurement."""

from __future__ import annotations

import time

import torch

from distilled_circuits.circuits.ablated_model import AblatedModel
from distilled_circuits.circuits.ablation import PromptTensors
from distilled_circuits.lens.blocks import Blocks
from distilled_circuits.lens.hooks import HookLens

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
GOOD_ENOUGH = 0.95
"""Share of the best rate from which on the smallest size is taken: small batches need less memory."""


def chosen_batch_size(chosen: int | str, lens: HookLens, prompts: PromptTensors) -> int:
    """Return `influence.batch_size` as a number of rows: itself, or a measured one for `auto`."""
    return measured_batch_size(lens, prompts) if chosen == "auto" else chosen


@torch.no_grad()
def measured_batch_size(lens: HookLens, prompts: PromptTensors, seconds: float = 1.0) -> int:
    """Return the smallest number of rows that passes one block about as fast, row by row, as the best number does.

    Sizes are tried upwards until one no longer helps, does not fit into memory, or takes longer than `seconds`.
    """
    model = AblatedModel.whole(Blocks(lens))
    rows = lens.embed(prompts.ids[: SIZES[0]])
    rates: dict[int, float] = {}
    for size in SIZES:
        try:
            stream = rows.repeat(-(-size // len(rows)), 1, 1)[:size]
            model.block(0, stream)
            start = _now(lens.device)
            for _ in range(3):
                model.block(0, stream)
            taken = _now(lens.device) - start
        except torch.cuda.OutOfMemoryError:
            if not rates:
                raise
            break
        rates[size] = 3 * size / taken
        if taken > seconds or rates[size] < 0.8 * max(rates.values()):
            break
    return next(size for size, rate in rates.items() if rate >= GOOD_ENOUGH * max(rates.values()))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
